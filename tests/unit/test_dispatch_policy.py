"""Which variant gets the next actor, when a failure is final, how devices are divided."""

from orchestrator.devices import Devices, device_for, divide
from orchestrator.running.policy import (
    MAXIMUM_ATTEMPTS,
    Idle,
    gives_way,
    next_variant,
    tries_again,
)


def test_every_variant_gets_an_actor_before_any_gets_two() -> None:
    waiting = {"fp16": 40, "int8": 40, "nf4": 1}
    assert next_variant(waiting, {}, None, "fp16") == "fp16"
    assert next_variant(waiting, {"fp16": 1}, None, "fp16") == "int8"
    assert next_variant(waiting, {"fp16": 1, "int8": 1}, None, "fp16") == "nf4"


def test_a_spare_device_goes_where_most_is_waiting_for_each_actor() -> None:
    active = {"fp16": 1, "int8": 1}
    assert next_variant({"fp16": 3, "int8": 9}, active, None, "fp16") == "int8"
    assert next_variant({"fp16": 6, "int8": 9}, {"fp16": 1, "int8": 3}, None, "fp16") == "fp16"


def test_the_reference_comes_first_for_a_free_device() -> None:
    assert next_variant({"int8": 9, "nf4": 9, "fp16": 1}, {}, None, "fp16") == "fp16"
    assert next_variant({"int8": 9, "fp16": 0}, {}, None, "fp16") == "int8"
    # Its second actor has to wait until each variant has one.
    assert next_variant({"int8": 1, "fp16": 9}, {"fp16": 1}, None, "fp16") == "int8"


def test_an_actor_that_has_nothing_to_wait_for_gives_its_device_up() -> None:
    idle = [Idle("int8", waiting=3, awaiting=False), Idle("nf4", waiting=0, awaiting=False)]
    assert gives_way(idle, wanted=False, reference="fp16") == 1


def test_an_actor_that_must_wait_keeps_its_device_unless_others_want_it() -> None:
    idle = [Idle("int8", waiting=3, awaiting=False)]
    assert gives_way(idle, wanted=False, reference="fp16") is None
    assert gives_way(idle, wanted=True, reference="fp16") == 0


def test_an_actor_whose_states_are_being_made_keeps_its_device() -> None:
    idle = [Idle("int8", waiting=3, awaiting=True)]
    assert gives_way(idle, wanted=True, reference="fp16") is None


def test_the_reference_is_the_last_to_give_way() -> None:
    idle = [Idle("fp16", waiting=3, awaiting=False), Idle("int8", waiting=3, awaiting=False)]
    assert gives_way(idle, wanted=True, reference="fp16") == 1
    assert gives_way(idle[:1], wanted=True, reference="fp16") == 0


def test_replicas_are_a_limit() -> None:
    assert next_variant({"fp16": 9}, {"fp16": 2}, 2, "fp16") is None


def test_nothing_waiting_needs_no_actor() -> None:
    assert next_variant({"fp16": 0, "int8": -1}, {}, None, "fp16") is None


def test_a_failure_is_final_after_the_last_attempt() -> None:
    again = [tries_again(failures) for failures in range(1, MAXIMUM_ATTEMPTS + 1)]
    assert again == [True] * (MAXIMUM_ATTEMPTS - 1) + [False]


def test_cores_are_divided_among_actors_and_gpus_are_not() -> None:
    eight_cores = Devices("cpu", 8, None, node_cores=8)
    assert (divide(eight_cores, 3).actors, divide(eight_cores, 3).threads) == (3, 2)
    two_gpus = Devices("cuda", 2, None, node_cores=8)
    assert (divide(two_gpus, 3).actors, divide(two_gpus, 3).gpus) == (2, 2)


def test_an_actor_never_wants_more_cores_than_a_node_has() -> None:
    assert divide(Devices("cpu", 16, None, node_cores=4), 1).threads == 4


def test_a_model_too_small_for_a_gpu_is_on_the_cpu_unless_told() -> None:
    demo, qwen = 5_000_000, 494_000_000
    assert device_for("auto", demo) == "cpu"
    assert device_for("auto", qwen) == "auto"
    assert device_for("cuda", demo) == "cuda"
