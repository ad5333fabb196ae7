"""Which variant gets the next actor, and what becomes of a shard that failed."""

from orchestrator.devices import Devices, allot
from orchestrator.dispatch import next_variant
from orchestrator.failures import MAXIMUM_ATTEMPTS, Decision, decide


def test_every_variant_gets_an_actor_before_any_gets_two() -> None:
    pending = {"fp16": 40, "int8": 40, "nf4": 1}
    assert next_variant(pending, {}, None) == "fp16"
    assert next_variant(pending, {"fp16": 1}, None) == "int8"
    assert next_variant(pending, {"fp16": 1, "int8": 1}, None) == "nf4"


def test_a_spare_device_goes_where_most_is_waiting_for_each_actor() -> None:
    active = {"fp16": 1, "int8": 1}
    assert next_variant({"fp16": 3, "int8": 9}, active, None) == "int8"
    assert next_variant({"fp16": 6, "int8": 9}, {"fp16": 1, "int8": 3}, None) == "fp16"


def test_replicas_are_a_limit() -> None:
    assert next_variant({"fp16": 9}, {"fp16": 2}, replicas=2) is None


def test_nothing_waiting_needs_no_actor() -> None:
    assert next_variant({"fp16": 0, "int8": -1}, {}, None) is None


def test_a_shard_is_given_up_after_its_last_attempt() -> None:
    decisions = [decide(attempts) for attempts in range(1, MAXIMUM_ATTEMPTS + 1)]
    assert decisions == [Decision.RETRY] * (MAXIMUM_ATTEMPTS - 1) + [Decision.GIVE_UP]


def test_cores_are_divided_among_actors_and_gpus_are_not() -> None:
    eight_cores = Devices("cpu", 8, None, node_cores=8)
    assert (allot(eight_cores, 3).count, allot(eight_cores, 3).threads) == (3, 2)
    two_gpus = Devices("cuda", 2, None, node_cores=8)
    assert (allot(two_gpus, 3).count, allot(two_gpus, 3).gpus) == (2, 1)


def test_an_actor_never_wants_more_cores_than_a_node_has() -> None:
    assert allot(Devices("cpu", 16, None, node_cores=4), 1).threads == 4
