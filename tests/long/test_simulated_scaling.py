"""A whole sweep's work on many GPUs: the product's dispatcher, lengths measured on an H100.

The work grows with the devices: for each eight of them, the 185 windows of WikiText-2 and the 96
prompts of the suite, in FP16, LLM.int8 and NF4; half an hour of one GPU, four minutes of eight.
"""

from collections import Counter
from functools import cache

import pytest

from benchmarks.simulation import (
    H100,
    Simulated,
    SimulatedPool,
    plan_on,
    simulate,
    wikitext_inputs,
)
from orchestrator.figures.timeline import starts_of, timeline_of
from orchestrator.planning.plan import Plan

ONE_IN_FIFTY = 0.02


@cache
def swept(devices: int, failing: float) -> tuple[Plan, Simulated]:
    plan = plan_on(devices, *wikitext_inputs(times=devices // 8))
    return plan, simulate(plan, SimulatedPool(H100, failing))


@pytest.mark.parametrize("devices", [8, 16, 64])
@pytest.mark.parametrize(("failing", "least"), [(0.0, 0.95), (ONE_IN_FIFTY, 0.90)])
def test_once_models_are_loaded_devices_hardly_ever_wait(
    devices: int, failing: float, least: float
) -> None:
    _, sweep = swept(devices, failing)
    timeline = timeline_of(starts_of(sweep.events))
    assert timeline is not None
    assert len(timeline.devices) == devices
    assert timeline.busy_share >= least


@pytest.mark.parametrize("failing", [0.0, ONE_IN_FIFTY])
def test_every_shard_is_computed_once_however_many_fail(failing: float) -> None:
    plan, sweep = swept(64, failing)
    computed = Counter(e.shard for e in sweep.events if e.event == "shard_computed")
    assert not sweep.outcome.abandoned
    assert computed == Counter(shard.record.name for shard in plan.shards)
    failed = sum(event.event == "failed" for event in sweep.events)
    assert failed == 0 if failing == 0 else failed > len(plan.shards) * failing / 2


def test_devices_are_given_by_the_time_that_work_takes() -> None:
    """LLM.int8 has half of the work, and is loaded on half of the devices."""
    _, sweep = swept(16, 0.0)
    first = [event.variant for event in sweep.events if event.event == "actor_loaded"][:16]
    assert Counter(first)["int8"] in (8, 9)


def test_a_device_whose_variant_has_run_out_takes_up_another() -> None:
    """Three variants on two devices."""
    plan = plan_on(2, *wikitext_inputs())
    sweep = simulate(plan, SimulatedPool(H100))
    loads = [(e.place, e.variant) for e in sweep.events if e.event == "actor_loaded"]
    assert {variant for _, variant in loads} == {"fp16", "int8", "nf4"}
    assert len({event.actor for event in sweep.events if event.actor is not None}) == 2
    timeline = timeline_of(starts_of(sweep.events))
    assert timeline is not None
    assert timeline.busy_share >= 0.95
