"""How long is waited: by what such work took, on a clock that stands still with the driver."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from orchestrator.contract.shards import Shard, ShardRecord
from orchestrator.contract.stages import LoadingPayload
from orchestrator.running.deadlines import (
    LEAST_SECONDS,
    Deadlines,
    Late,
    most_loading_seconds,
    most_seconds,
)
from orchestrator.running.durations import Costs


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Told:
    """What a clock's steps bring."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines[str](self.clock)

    def after(self, step: float, awaited: Mapping[str, Callable[[], float]]) -> list[Late[str]]:
        self.clock.now += step
        return list(self.deadlines.late(awaited))


def limit() -> float:
    return 10.0


def test_a_call_is_told_of_at_half_its_time_and_once_more_at_its_end() -> None:
    told = Told()
    late = [told.after(1.0, {"a": limit}) for _ in range(12)]
    assert late[:5] == [[]] * 5
    assert late[5] == [Late("a", 5.0, 10.0, is_over=False)]
    assert late[6:10] == [[]] * 4
    assert late[10] == [Late("a", 10.0, 10.0, is_over=True)]


def test_it_counts_from_when_it_is_awaited() -> None:
    told = Told()
    for _ in range(8):
        told.after(1.0, {"a": limit})
    # Another one comes; later the first one is done.
    assert told.after(1.0, {"a": limit, "b": limit}) == []
    assert [one for _ in range(4) for one in told.after(1.0, {"b": limit})] == []
    assert told.after(1.0, {"b": limit}) == [Late("b", 5.0, 10.0, is_over=False)]
    # What is awaited again begins anew.
    assert told.after(1.0, {"a": limit}) == []


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_the_clock_stands_still_while_the_driver_is_stopped(step: float) -> None:
    told = Told()
    told.after(1.0, {"a": limit})
    assert told.after(step, {"a": limit}) in ([], [Late("a", 5.0, 10.0, is_over=False)])
    assert not any(one.is_over for one in told.after(1.0, {"a": limit}))


def shard(variant: str, tokens: int) -> Any:
    payload = LoadingPayload()
    record = ShardRecord(variant=variant, stage="windows", index=0, items=1, fingerprint="f")
    found = Shard(record, payload)
    object.__setattr__(found, "payload", type("P", (), {"timed_tokens": tokens})())
    return found


def test_a_shard_may_take_many_times_what_such_took() -> None:
    costs = Costs({"fp16": "plain", "nf4": "4-bit"})
    # Nothing like it is done: by tokens, as a large model on a processor would.
    assert most_seconds(shard("fp16", 8192), costs) == 8192.0
    assert most_seconds(shard("fp16", 1), costs) == LEAST_SECONDS
    costs.learn(shard("fp16", 100), 100.0)
    assert most_seconds(shard("fp16", 100), costs) == pytest.approx(1000.0)
    assert most_seconds(shard("nf4", 100), costs) == pytest.approx(3300.0)
    costs.learn(shard("nf4", 100), 1.0)
    assert most_seconds(shard("nf4", 100), costs) == LEAST_SECONDS


def test_loading_may_take_as_long_as_fetching_it() -> None:
    assert most_loading_seconds(0) == LEAST_SECONDS
    assert most_loading_seconds(13_500_000_000) == pytest.approx(LEAST_SECONDS + 1350)
