"""Who gets the next actor and shard, when a failure is final, how devices are divided."""

import pytest

from orchestrator.planning.devices import Devices, device_for, divide
from orchestrator.running.policy import (
    ATTEMPTS,
    Demand,
    FailureKind,
    Idle,
    gives_way,
    is_trusted,
    next_shard,
    next_variant,
    room_for,
    takes_another,
    tries_again,
)


def demand(
    seconds: float = 60, *, actors: int = 0, ready: int = 9, coming: int = 0, loading: float = 5
) -> Demand:
    return Demand(ready, coming, seconds, actors, loading, is_loaded=actors > 0)


def test_every_variant_gets_an_actor_before_any_gets_two() -> None:
    fp16, int8, nf4 = demand(600), demand(900), demand(1)
    assert next_variant({"fp16": fp16, "int8": int8, "nf4": nf4}, None, "fp16") == "fp16"
    one = {"fp16": demand(600, actors=1), "int8": demand(900, actors=1), "nf4": nf4}
    assert next_variant(one, None, "fp16") == "nf4"


def test_a_spare_device_goes_where_most_work_is_left_for_each_actor() -> None:
    # Of few shards that take long and of many that do not.
    demands = {"fp16": demand(300, actors=1, ready=90), "int8": demand(900, actors=1, ready=9)}
    assert next_variant(demands, None, "fp16") == "int8"
    demands["int8"] = demand(900, actors=6, ready=9)
    assert next_variant(demands, None, "fp16") == "fp16"


def test_devices_are_shared_by_work() -> None:
    """Eight of them, of which the slow variant's work needs half."""
    work = {"fp16": 500.0, "nf4": 550.0, "int8": 1000.0}
    actors = dict.fromkeys(work, 0)
    for _ in range(8):
        demands = {name: demand(work[name], actors=actors[name], ready=90) for name in work}
        chosen = next_variant(demands, None, "fp16")
        assert chosen is not None
        actors[chosen] += 1
    assert actors == {"fp16": 2, "nf4": 2, "int8": 4}


def test_the_reference_comes_first_for_a_free_device() -> None:
    demands = {"int8": demand(900), "nf4": demand(900), "fp16": demand(1, ready=1)}
    assert next_variant(demands, None, "fp16") == "fp16"
    assert next_variant({"int8": demand(), "fp16": demand(0, ready=0)}, None, "fp16") == "int8"
    # Its second actor has to wait until each variant has one.
    demands = {"int8": demand(1, ready=1), "fp16": demand(900, actors=1)}
    assert next_variant(demands, None, "fp16") == "int8"


def test_what_can_run_comes_before_what_is_still_coming() -> None:
    demands = {"nf4": demand(900, ready=0, coming=9), "int8": demand(10, ready=1)}
    assert next_variant(demands, None, "fp16") == "int8"
    assert next_variant({"nf4": demands["nf4"]}, None, "fp16") == "nf4"


def test_an_actor_that_would_be_loaded_when_the_work_is_done_is_not_started() -> None:
    assert next_variant({"int8": demand(40, actors=2, loading=20)}, None, "fp16") is None
    assert next_variant({"int8": demand(41, actors=2, loading=20)}, None, "fp16") == "int8"
    # The first one, whatever it takes.
    assert next_variant({"int8": demand(1, loading=20)}, None, "fp16") == "int8"


def test_replicas_are_a_limit() -> None:
    assert next_variant({"fp16": demand(900, actors=2)}, 2, "fp16") is None


def test_a_variant_never_has_more_actors_than_shards() -> None:
    assert next_variant({"fp16": demand(ready=0), "int8": demand(ready=-1)}, None, "fp16") is None


def test_stages_run_in_the_plans_order_until_few_shards_are_left() -> None:
    windows, prompts = 1.0, 10.0
    assert next_shard([windows, prompts], seconds=100.0, actors=2) == 0
    # Ten seconds that nobody has begun would be the end of it.
    assert next_shard([windows, prompts], seconds=50.0, actors=2) == 1
    assert next_shard([windows, prompts], seconds=11.0, actors=1) == 0


def test_the_longest_shards_first_leave_no_actor_alone_at_the_end() -> None:
    left, free_at = {8.0: 3, 1.0: 7}, [0.0, 0.0]
    while lengths := [seconds for seconds in (1.0, 8.0) if left[seconds]]:
        seconds = sum(length * count for length, count in left.items())
        length = lengths[next_shard(lengths, seconds, actors=2)]
        left[length] -= 1
        free_at[free_at.index(min(free_at))] += length
    assert abs(free_at[0] - free_at[1]) <= 1.0


@pytest.mark.parametrize(
    ("at_work_on", "ready", "actors", "taken"),
    [
        (0.1, 9, 3, True),
        # Its way is nothing beside ten seconds, and another may be free for it before.
        (10.0, 9, 3, False),
        (None, 9, 3, False),
        # The last ones are for whoever is free first.
        (0.1, 2, 3, False),
        (0.1, 1, 1, True),
    ],
)
def test_a_shard_is_sent_ahead_where_that_hides_its_way(
    at_work_on: float | None, ready: int, actors: int, taken: bool
) -> None:
    assert takes_another(at_work_on, ready, actors) is taken


def test_an_actor_that_has_nothing_to_wait_for_gives_its_device_up() -> None:
    idle = [Idle("int8", waiting=3, awaiting=False), Idle("nf4", waiting=0, awaiting=False)]
    assert gives_way(idle, wanted=False, lacked=False, reference="fp16") == 1


def test_an_actor_that_must_wait_keeps_its_device_unless_others_want_it() -> None:
    idle = [Idle("int8", waiting=3, awaiting=False)]
    assert gives_way(idle, wanted=False, lacked=False, reference="fp16") is None
    assert gives_way(idle, wanted=True, lacked=True, reference="fp16") == 0


def test_an_actor_whose_states_are_being_made_keeps_its_device() -> None:
    idle = [Idle("int8", waiting=3, awaiting=True)]
    assert gives_way(idle, wanted=True, lacked=True, reference="fp16") is None


def test_the_reference_is_the_last_to_give_way() -> None:
    idle = [Idle("fp16", waiting=3, awaiting=False), Idle("int8", waiting=3, awaiting=False)]
    assert gives_way(idle, wanted=True, lacked=True, reference="fp16") == 1
    assert gives_way(idle[:1], wanted=True, lacked=True, reference="fp16") == 0


def test_of_several_actors_that_wait_one_is_enough() -> None:
    idle = [Idle("nf4", waiting=3, awaiting=True), Idle("nf4", waiting=3, awaiting=True)]
    assert gives_way(idle, wanted=True, lacked=True, reference="fp16") == 0
    assert gives_way(idle, wanted=False, lacked=False, reference="fp16") is None


def test_an_actor_that_must_wait_does_not_leave_for_a_variant_that_has_one() -> None:
    idle = [Idle("nf4", waiting=3, awaiting=False)]
    assert gives_way(idle, wanted=True, lacked=False, reference="fp16") is None
    assert gives_way(idle * 2, wanted=True, lacked=False, reference="fp16") == 0


def test_an_actor_that_failed_twice_in_a_row_gets_nothing_more() -> None:
    assert [is_trusted(faults) for faults in range(3)] == [True, True, False]


@pytest.mark.parametrize(("kind", "attempts"), ATTEMPTS.items())
def test_a_failure_is_final_after_the_last_attempt(kind: FailureKind, attempts: int) -> None:
    again = [tries_again(failures, kind) for failures in range(1, attempts + 1)]
    assert again == [True] * (attempts - 1) + [False]


def test_cores_are_divided_among_actors_and_gpus_are_not() -> None:
    eight_cores = Devices("cpu", 8, None, node_cores=8)
    assert (divide(eight_cores, 3).actors, divide(eight_cores, 3).threads) == (3, 2)
    two_gpus = Devices("cuda", 2, None, node_cores=8)
    assert (divide(two_gpus, 3).actors, divide(two_gpus, 3).gpus) == (2, 2)


def test_an_actor_never_wants_more_cores_than_a_node_has() -> None:
    assert divide(Devices("cpu", 16, None, node_cores=4), 1).threads == 4


@pytest.mark.parametrize(
    ("gpus", "machines", "free"),
    [
        (1, (8, 8), 1),
        (2, (2,), 2),
        (2, (8,), 2),
        # Each may have one in use.
        (2, (2, 2), 3),
        (4, (4, 4, 4), 10),
        # What has too few is of no use, however free it is.
        (3, (2, 4), 5),
        (2, (), 2),
    ],
)
def test_so_many_must_be_free_that_one_machine_has_enough(
    gpus: int, machines: tuple[int, ...], free: int
) -> None:
    assert room_for(gpus, machines) == free
    # One fewer can lie so that none has.
    if gpus > 1 and machines:
        assert free - 1 == sum(min(each, gpus - 1) for each in machines)


def test_a_model_too_small_for_a_gpu_is_on_the_cpu_unless_told() -> None:
    demo, qwen = 5_000_000, 494_000_000
    assert device_for("auto", demo) == "cpu"
    assert device_for("auto", qwen) == "auto"
    assert device_for("cuda", demo) == "cuda"
