"""What becomes of shards whatever actors do: real dispatcher, real plan, made-up actors, no Ray."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.contract.shards import Payload, ShardRecord
from orchestrator.contract.variant_errors import CannotLoadError
from orchestrator.errors import BadInputError, SweepFailedError
from orchestrator.planning.devices import Capacity
from orchestrator.planning.plan import Plan, PlannedVariant
from orchestrator.running.in_process import InProcessActor
from orchestrator.running.policy import MAXIMUM_ATTEMPTS, room_for
from orchestrator.running.pool import CallFailedError
from tests.made_up_actors import Sweep, fine, on_gpus, payload_of


def test_each_shard_is_committed_once_with_its_own_table(plan: Plan) -> None:
    sweep = Sweep(plan, fine)
    outcome = sweep.run()
    assert not outcome.abandoned
    assert not outcome.stopped
    expected = {shard.record: (shard.record.variant, payload_of(shard)) for shard in plan.shards}
    assert sweep.committed == expected
    # One after the other in one process: its libraries are there, its device is ready.
    assert sweep.loads == ["fp16", "nf4"]
    assert len(sweep.pool.started) == 1


def test_a_model_is_loaded_once_an_actor_even_where_loading_is_already_measured(
    plan: Plan,
) -> None:
    loads: Counter[str] = Counter()

    def rule(variant: str, payload: Payload | None) -> None:
        loads[variant] += payload is None

    sweep = Sweep(plan, rule)
    loading = [shard for shard in plan.shards if shard.record.stage == "loading"]
    assert not sweep.run(finished=loading).abandoned
    rest = {shard.record for shard in plan.shards if shard not in loading}
    assert sweep.committed.keys() == rest
    assert loads == {"fp16": 1, "nf4": 1}


def test_a_shard_that_fails_is_tried_again_and_who_fails_twice_is_replaced(plan: Plan) -> None:
    failures = Counter({"nf4": MAXIMUM_ATTEMPTS - 1})

    def rule(variant: str, payload: Payload | None) -> None:
        if payload is not None and payload.stage == "windows" and failures[variant] > 0:
            failures[variant] -= 1
            raise ValueError("no luck\nand a second line")

    sweep = Sweep(plan, rule)
    assert not sweep.run().abandoned
    assert len(sweep.committed) == len(plan.shards)
    # The second failure in a row was its process's last.
    assert sweep.loads.count("nf4") == 2
    assert "ValueError: no luck; trying again" in sweep.said.getvalue()
    assert "second line" not in sweep.said.getvalue()


def test_a_shard_that_always_fails_is_given_up_and_nothing_else(plan: Plan) -> None:
    def rule(variant: str, payload: Payload | None) -> None:
        if variant == "nf4" and payload is not None and payload.stage == "generations":
            raise ValueError("never")

    sweep = Sweep(plan, rule)
    outcome = sweep.run()
    shards = plan.variants[1].shards
    lost = [shard.record for shard in shards if shard.record.stage == "generations"]
    assert outcome.abandoned == [(record, "ValueError: never") for record in lost]
    assert sweep.committed.keys() == {shard.record for shard in plan.shards} - set(lost)
    assert "given up" in sweep.said.getvalue()


def test_a_variant_whose_actors_die_while_loading_is_given_up_and_the_others_finish(
    plan: Plan,
) -> None:
    def rule(variant: str, payload: Payload | None) -> None:
        if variant == "nf4":
            raise ConnectionError("the process is gone")

    sweep = Sweep(plan, rule)
    outcome = sweep.run()
    assert [record for record, _ in outcome.abandoned] == [
        shard.record for shard in plan.variants[1].shards
    ]
    assert sweep.committed.keys() == {shard.record for shard in plan.variants[0].shards}
    assert sweep.loads.count("nf4") == MAXIMUM_ATTEMPTS


def test_a_process_that_does_not_give_its_memory_back_is_replaced(plan: Plan) -> None:
    def rule(variant: str, payload: Payload | None) -> None:
        for actor in sweep.pool.started:
            actor.is_spent = True

    sweep = Sweep(plan, rule)
    assert not sweep.run().abandoned
    assert len(sweep.committed) == len(plan.shards)
    assert sweep.loads == ["fp16", "nf4"]
    assert len(sweep.pool.started) == 2
    assert "again" not in sweep.said.getvalue()


def test_an_actor_that_dies_once_while_loading_costs_nothing(plan: Plan) -> None:
    deaths = Counter({"fp16": 1})

    def rule(variant: str, payload: Payload | None) -> None:
        if payload is None and deaths[variant] > 0:
            deaths[variant] -= 1
            raise ConnectionError("the process is gone")

    sweep = Sweep(plan, rule)
    assert not sweep.run().abandoned
    assert len(sweep.committed) == len(plan.shards)


def test_a_reference_that_cannot_be_loaded_ends_the_sweep_with_the_reason(plan: Plan) -> None:
    def rule(variant: str, payload: Payload | None) -> None:
        if variant == "fp16":
            raise CannotLoadError("variant fp16 is not whole")

    with pytest.raises(BadInputError, match=r"^--variants: variant fp16 is not whole$"):
        Sweep(plan, rule).run()


def test_a_candidate_that_cannot_be_loaded_is_given_up_once_and_the_others_finish(
    plan: Plan,
) -> None:
    def rule(variant: str, payload: Payload | None) -> None:
        if variant == "nf4":
            raise CannotLoadError("variant nf4 needs bitsandbytes")

    sweep = Sweep(plan, rule)
    outcome = sweep.run()
    lost = [shard.record for shard in plan.variants[1].shards]
    assert outcome.abandoned == [(record, "variant nf4 needs bitsandbytes") for record in lost]
    assert sweep.committed.keys() == {shard.record for shard in plan.variants[0].shards}
    assert sweep.loads.count("nf4") == 1
    assert "variant nf4 needs bitsandbytes; given up" in sweep.said.getvalue()


def test_a_stop_keeps_what_is_finished_and_hands_out_nothing_more(plan: Plan) -> None:
    def rule(variant: str, payload: Payload | None) -> None:
        if payload is not None and payload.stage == "windows":
            sweep.stop.received = True

    sweep = Sweep(plan, rule)
    assert sweep.run().stopped
    assert {record.stage for record in sweep.committed} == {"loading", "windows"}
    assert 0 < len(sweep.committed) < len(plan.shards)


def test_a_stop_after_the_last_shard_is_no_early_stop(plan: Plan) -> None:
    sweep = Sweep(plan, fine)

    def commit(record: ShardRecord, table: Any) -> None:
        sweep.committed[record] = table
        sweep.stop.received = len(sweep.committed) == len(plan.shards)

    sweep._commit = commit
    assert not sweep.run().stopped
    assert len(sweep.committed) == len(plan.shards)


def test_a_table_that_cannot_be_kept_ends_the_sweep(plan: Plan) -> None:
    def commit(record: ShardRecord, table: Any) -> None:
        raise SweepFailedError("the disk is full")

    with pytest.raises(SweepFailedError, match="the disk is full"):
        Sweep(plan, fine, commit=commit).run()


@pytest.mark.parametrize(("gpus", "at_once"), [((1, 2), 2), ((2, 2), 1)])
def test_actors_never_hold_more_gpus_than_there_are(
    gpus: tuple[int, int], at_once: int, plan: Plan
) -> None:
    sizes = dict(zip(("fp16", "nf4"), gpus, strict=True))
    large = replace(
        plan,
        variants=tuple(
            replace(planned, placement=on_gpus(sizes[planned.name])) for planned in plan.variants
        ),
        capacity=Capacity(actors=4, gpus=3, threads=1),
    )
    most = 0

    def rule(variant: str, payload: Payload | None) -> None:
        nonlocal most
        holding = [a for a in sweep.pool.started if a not in sweep.pool.stopped]
        assert sum(sweep.pool.gpus[actor] for actor in holding) <= 3
        most = max(most, len({actor.variant for actor in holding} - {""}))

    sweep = Sweep(large, rule)
    assert not sweep.run().abandoned
    assert len(sweep.committed) == len(plan.shards)
    assert most == at_once


@pytest.mark.parametrize(
    "sizes", [{"fp16": 2, "nf4": 1}, {"fp16": 1, "nf4": 2}, {"fp16": 2, "nf4": 2}]
)
@pytest.mark.parametrize("machines", [(2,), (2, 2), (2, 1, 2), (1, 3)])
def test_a_model_over_several_gpus_is_sure_of_a_machine_that_has_them(
    sizes: dict[str, int],
    machines: tuple[int, ...],
    plan: Plan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where its actor dies while the others wait for what it makes, on whatever machine."""
    spread = replace(
        plan,
        variants=tuple(
            replace(planned, placement=on_gpus(sizes[planned.name])) for planned in plan.variants
        ),
        devices=replace(plan.devices, kind="cuda", count=sum(machines), node_gpus=machines),
        capacity=Capacity(actors=sum(machines), gpus=sum(machines), threads=1),
    )
    scored: Counter[str] = Counter()

    def rule(variant: str, payload: Payload | None) -> None:
        if payload is not None and payload.stage == "windows":
            scored[variant] += 1
            if variant == "fp16" and scored[variant] == 2:
                raise CallFailedError("it died", "death")

    sweep = Sweep(spread, rule)
    start = sweep.pool.start

    def watched(gpus: int) -> InProcessActor:
        holding = [one for one in sweep.pool.started if one not in sweep.pool.stopped]
        free = sum(machines) - sum(sweep.pool.gpus[one] for one in holding)
        assert room_for(gpus, machines) <= free
        return start(gpus)

    monkeypatch.setattr(sweep.pool, "start", watched)
    assert not sweep.run().abandoned
    assert len(sweep.committed) == len(plan.shards) and scored["fp16"] > 2


def test_a_variant_larger_than_all_devices_is_told(plan: Plan) -> None:
    def sized(planned: PlannedVariant) -> PlannedVariant:
        return replace(planned, placement=on_gpus(4))

    large = replace(
        plan, variants=tuple(map(sized, plan.variants)), capacity=Capacity(4, gpus=3, threads=1)
    )
    with pytest.raises(SweepFailedError, match="no device can take"):
        Sweep(large, fine).run()
