"""What is shown of a dispatch while it goes on: real dispatcher, real plan, made-up actors."""

from collections import Counter, defaultdict
from itertools import count
from typing import Any

import pytest

from orchestrator.contract.shards import Payload
from orchestrator.planning.plan import Plan
from orchestrator.running.gauges import Gauges
from orchestrator.running.metrics import METRICS, Figure
from tests.made_up_actors import Sweep, fine, on


@pytest.fixture(scope="module")
def plan(plan: Plan) -> Plan:
    """Two variants on two devices."""
    return on(plan, 2)


class Screen:
    """All that was shown, by moment."""

    def __init__(self) -> None:
        self.moments: list[dict[tuple[str, ...], float]] = []
        # Each look is a long time after the one before it.
        self.gauges = Gauges(self.show, "a-run", clock=count(step=100).__next__)

    def show(self, figures: Any) -> None:
        self.moments.append({key_of(figure): figure.value for figure in figures})

    def of(self, metric: str) -> list[dict[tuple[str, ...], float]]:
        return [{k[1:]: v for k, v in one.items() if k[0] == metric} for one in self.moments]


def key_of(figure: Figure) -> tuple[str, ...]:
    """Its metric, and its labels' values in the order in which they are declared."""
    declared = METRICS[figure.metric].labels
    assert figure.labels.keys() == {"run", *declared}
    assert figure.labels["run"] == "a-run"
    return (figure.metric, *(figure.labels[name] for name in declared))


def test_every_shard_is_in_one_state_and_all_are_done_in_the_end(plan: Plan) -> None:
    screen = Screen()
    assert not Sweep(plan, fine, observe=screen.gauges.update).run().abandoned
    shards = screen.of("sweep_shards")
    assert all(sum(moment.values()) == len(plan.shards) for moment in shards)
    assert any(moment.get(("nf4", "running")) for moment in shards)
    whole = Counter(shard.record.variant for shard in plan.shards)
    assert shards[-1] == {(name, "done"): number for name, number in whole.items()}


def test_what_was_finished_before_is_done_from_the_first_moment(plan: Plan) -> None:
    screen = Screen()
    finished = [shard for shard in plan.shards if shard.record.variant == "nf4"]
    Sweep(plan, fine, observe=screen.gauges.update).run(finished)
    assert screen.of("sweep_shards")[0]["nf4", "done"] == len(finished)
    # No token of theirs was computed here.
    assert {variant for variant, _ in screen.of("sweep_tokens_total")[-1]} == {"fp16"}


def test_each_device_is_at_one_thing(plan: Plan) -> None:
    screen = Screen()
    Sweep(plan, fine, observe=screen.gauges.update).run()
    phases = set()
    for moment in screen.of("sweep_devices"):
        assert sorted(device for device, _, _ in moment) == ["0", "1"]
        assert set(moment.values()) == {1}
        phases |= {phase for _, _, phase in moment}
    assert phases >= {"loading", "scoring", "answering", "free"}
    assert {phase for _, _, phase in screen.of("sweep_devices")[-1]} == {"free"}


def test_tokens_are_those_of_the_shards(plan: Plan) -> None:
    screen = Screen()
    Sweep(plan, fine, observe=screen.gauges.update).run()
    expected: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for shard in plan.shards:
        if shard.record.stage != "loading":
            key = shard.record.variant, shard.record.stage
            expected[key] += shard.payload.timed_tokens
    assert screen.of("sweep_tokens_total")[-1] == expected
    last: dict[tuple[str, ...], float] = {}
    for moment in screen.of("sweep_tokens_total"):
        assert all(moment[key] >= value for key, value in last.items())
        last = moment


def test_failures_are_counted_by_kind_and_what_is_given_up_is_shown(plan: Plan) -> None:
    def rule(variant: str, payload: Payload | None) -> None:
        if variant == "nf4" and payload is not None and payload.stage == "windows":
            raise ValueError("never")

    screen = Screen()
    outcome = Sweep(plan, rule, observe=screen.gauges.update).run()
    assert outcome.abandoned
    last = screen.of("sweep_shards")[-1]
    assert last["nf4", "given_up"] == len(outcome.abandoned)
    assert sum(last.values()) == len(plan.shards)
    assert screen.of("sweep_failures_total")[-1] == {("error",): 3 * len(outcome.abandoned)}


def test_states_that_wait_are_within_their_limit(plan: Plan) -> None:
    screen = Screen()
    limited = on(plan, 2, reference_bytes=4096)
    Sweep(limited, fine, observe=screen.gauges.update).run()
    assert {moment[()] for moment in screen.of("sweep_states_limit_bytes")} == {4096}
    waiting = [moment[()] for moment in screen.of("sweep_states_bytes")]
    assert 0 < max(waiting) <= 4096
    assert waiting[-1] == 0


def test_figures_are_shown_every_few_seconds_and_once_all_is_over(plan: Plan) -> None:
    shown: list[Any] = []
    gauges = Gauges(shown.append, "a-run", clock=lambda: 0.0)
    Sweep(plan, fine, observe=gauges.update).run()
    assert len(shown) == 2
