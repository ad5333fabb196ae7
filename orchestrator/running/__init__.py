"""From a plan to tables: who runs what, where. `ray_cluster` and `ray_pool` alone import ray."""
