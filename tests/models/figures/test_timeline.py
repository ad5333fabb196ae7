"""Where the time of a run went: every second of a device is accounted for, once."""

import json
import pickle
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.comparison_schema import Timeline
from orchestrator.contract.exchange import Computed, Span
from orchestrator.figures.timeline import PHASES, starts_of, timeline_of
from orchestrator.report.trace import render_trace
from orchestrator.storage.events import Event, EventKind, moment
from orchestrator.storage.results_folder import run_at
from orchestrator.storage.shard_file import read_table
from tests.pipeline import FinishedRun

ZERO = 1_700_000_000.0
WINDOWS = "nf4/windows-00000-0123456789abcdef"
PROMPTS = "nf4/generations-00003-0123456789abcdef"


def told(events: Sequence[Event]) -> Timeline | None:
    return timeline_of(starts_of(events))


def event(
    seconds: float, kind: EventKind, actor: int | None = 1, place: int | None = 0, **more: object
) -> Event:
    """An event at some seconds; `sent`, `began` and `ended` in seconds as well."""
    times = {
        key: moment(ZERO + float(str(more.pop(key))))
        for key in ("sent", "began", "ended")
        if key in more
    }
    variant = None if actor is None else "nf4"
    where = {"event": kind, "variant": variant, "actor": actor, "place": place}
    return Event.model_validate({"time": moment(ZERO + seconds), **where, **times, **more})


def a_start(offset: float = 0.0) -> list[Event]:
    """One device: 3 s of starting, 2 of loading, 4 of scoring, 1 of failing, 5 of answering."""
    return [
        event(offset + 1, "run_started", None, None, began=offset),
        event(
            offset + 2, "driver_worked", None, None, phase="reading", began=offset, ended=offset + 2
        ),
        event(offset + 2, "actor_started", began=offset + 1),
        event(offset + 6, "actor_prepared", began=offset + 2, ended=offset + 4),
        event(offset + 6, "actor_loaded", sent=offset + 2, began=offset + 4, ended=offset + 6),
        event(
            offset + 11.5,
            "shard_computed",
            shard=WINDOWS,
            sent=offset + 6.5,
            began=offset + 7,
            ended=offset + 11,
        ),
        event(offset + 13, "failed", shard=PROMPTS, sent=offset + 12),
        event(
            offset + 18,
            "shard_computed",
            shard=PROMPTS,
            sent=offset + 13,
            began=offset + 13,
            ended=offset + 18,
        ),
        event(offset + 19, "actor_stopped"),
        event(offset + 20, "run_ended", None, None),
    ]


def test_each_second_of_a_device_is_told_once() -> None:
    found = told(a_start())
    assert found is not None
    (device,) = found.devices
    assert device.seconds == pytest.approx(
        {
            "starting": 3,
            "loading": 2,
            "scoring": 4,
            "answering": 5,
            "sending": 0.5,
            "waiting": 0.5 + 1 + 1,
            "failing": 1,
            # Before it was asked for, and after it was stopped.
            "unused": 1 + 1,
        }
    )
    assert found.seconds == pytest.approx(20)
    assert found.seconds_to_first_shard == pytest.approx(7)
    # From the model's being there to the last shard's end.
    assert device.work_seconds == pytest.approx(18 - 6)
    assert found.busy_share == device.busy_share == pytest.approx(9 / 12)


def test_the_time_between_a_stop_and_a_resumption_is_nobodys() -> None:
    once, twice = told(a_start()), told([*a_start(), *a_start(1000)])
    assert once is not None
    assert twice is not None
    assert twice.starts == 2
    assert twice.seconds == pytest.approx(2 * once.seconds)
    assert twice.busy_share == pytest.approx(once.busy_share)
    assert twice.seconds_to_first_shard == pytest.approx(once.seconds_to_first_shard)


def test_a_second_device_that_does_nothing_halves_the_busy_share() -> None:
    idle = [
        event(2, "actor_started", actor=2, place=1, began=1),
        event(6, "actor_loaded", actor=2, place=1, sent=2, began=4, ended=6),
        event(18, "actor_stopped", actor=2, place=1),
    ]
    # As they are written: by time.
    found = told(sorted([*a_start(), *idle], key=lambda one: one.time))
    assert found is not None
    assert [device.busy_share for device in found.devices] == pytest.approx([9 / 12, 0])
    assert found.busy_share == pytest.approx(9 / 24)


def test_of_a_run_that_did_not_say_who_did_what_nothing_is_told() -> None:
    assert told([]) is None
    assert told([Event(event="shard_computed", variant="nf4", shard=WINDOWS)]) is None


@given(skew=st.floats(-100, 100), late=st.floats(0, 5))
def test_another_machines_clock_loses_no_time_and_makes_none(skew: float, late: float) -> None:
    skewed = [
        one
        if one.actor is None
        else one.model_copy(
            update={
                key: getattr(one, key) + timedelta(seconds=skew)
                for key in ("began", "ended")
                if getattr(one, key) is not None and one.event != "actor_started"
            }
        )
        for one in a_start(late)
    ]
    # Another device works by the driver's clock, so that there is work whatever becomes of this.
    other = [
        event(late + 2, "actor_started", actor=2, place=1, began=late + 1),
        event(late + 9, "shard_computed", actor=2, place=1, shard=WINDOWS, began=late + 4),
    ]
    (start,) = starts_of(sorted([*skewed, *other], key=lambda one: one.time))
    mine = [stretch for stretch in start.stretches if stretch.place == 0]
    for before, after in pairwise(mine):
        assert before.ended == pytest.approx(after.began)
    assert all(stretch.seconds >= 0 and stretch.phase in PHASES for stretch in mine)
    assert sum(stretch.seconds for stretch in mine) == pytest.approx(18)


def test_a_real_runs_trace_has_every_shard_on_its_device(finished_run: FinishedRun) -> None:
    """Chrome's format: complete events with a begin and a length in microseconds."""
    events = run_at(finished_run.folder).read_events().events
    trace = json.loads(render_trace(starts_of(events)))
    rows = [row for row in trace["traceEvents"] if row["ph"] == "X"]
    computed = [event.shard for event in events if event.event == "shard_computed"]
    assert {row["args"]["shard"] for row in rows if "shard" in row["args"]} == set(computed)
    assert all(row["ts"] >= 0 and row["dur"] >= 0 and row["tid"] == 1 for row in rows)
    names = {row["args"]["name"] for row in trace["traceEvents"] if row["name"] == "thread_name"}
    assert names == {"device 1"}


def test_the_comparison_tells_where_the_time_of_a_run_went(finished_run: FinishedRun) -> None:
    found = finished_run.comparison.timeline
    assert found is not None
    (device,) = found.devices
    assert sum(device.seconds.values()) == pytest.approx(found.seconds)
    assert 0 < found.busy_share <= 1
    assert device.seconds["loading"] > 0


def test_a_line_that_was_cut_off_costs_no_other(tmp_path: Path) -> None:
    lines = [one.model_dump_json(exclude_none=True) for one in a_start()]
    (tmp_path / "events.jsonl").write_text("\n".join([*lines, lines[0][:20]]))
    assert told(run_at(tmp_path).read_events().events) == told(a_start())


def test_a_table_passes_from_process_to_process_as_it_is(finished_run: FinishedRun) -> None:
    """With the environment in its schema, and an empty list where there is one."""
    for path in finished_run.folder.glob("shards/*/*.arrow"):
        computed = Computed(read_table(path), Span(1.0, 2.5))
        passed = pickle.loads(pickle.dumps(computed))
        assert passed.table.equals(computed.table, check_metadata=True)
        assert passed.span.seconds == 1.5
