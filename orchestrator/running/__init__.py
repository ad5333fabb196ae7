"""From a plan to tables: who runs what, where. `cluster` and `ray_pool` alone import ray."""
