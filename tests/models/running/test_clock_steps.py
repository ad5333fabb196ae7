"""The machine's clock is set back and forth while a sweep runs: figures know nothing of it."""

import json
import random
import time
from pathlib import Path

import pytest

from actors.actor import ModelActor
from orchestrator.figures.timeline import starts_of
from orchestrator.planning.plan import manifest_of
from orchestrator.publish import publish
from orchestrator.running.dispatch import Dispatcher
from orchestrator.running.log import Log
from orchestrator.running.stop import StopRequest
from orchestrator.runs.finished import reduce_run
from orchestrator.storage.file_names import RunFile
from orchestrator.storage.results_folder import ResultsFolder
from orchestrator.storage.run_folder import RunFolder
from orchestrator.storage.store import RunStore
from tests.faults.sweeps import tables_in
from tests.pipeline import RecordingPool, make_test_plan, quiet_progress, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

HOUR = 3600.0


class SteppingClock:
    """The time, but set to another hour again and again."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._now = time.time
        self._offset = 0.0
        self.steps = 0

    def __call__(self) -> float:
        if self._chance.random() < 0.2:
            self._offset = self._chance.choice([-5 * HOUR, -HOUR, -1.0, 0.0, 1.0, HOUR])
            self.steps += 1
        return self._now() + self._offset


def sweep(folder: Path, clock: SteppingClock | None) -> RunFolder:
    """A small sweep by some clock; its folder, with its tables."""
    now = clock or time.time
    plan = make_test_plan(
        **write_inputs(folder.parent / "inputs", SAMPLE_ROWS),
        model=str(make_tiny_model(folder.parent / "model")),
        variants=("fp16", "nf4"),
        max_windows=6,
        shard_size=2,
        max_new_tokens=3,
        results=folder,
        run_id="r",
    )
    with RunStore(ResultsFolder.at(folder), manifest_of(plan)) as store:
        log = Log(store.log, now)
        with log.phase("reading"):
            pass
        pool = RecordingPool(ModelActor)
        dispatcher = Dispatcher(
            plan, pool, store.commit, store.read, log, quiet_progress(plan), clock=now
        )
        assert not dispatcher.run(set(), StopRequest()).abandoned
        store.finish()
        publish(store.folder)
        return store.folder


@pytest.mark.parametrize("seed", range(3))
def test_a_clock_that_is_set_changes_no_figure_and_draws_no_negative_time(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(tmp_path / "quiet", None)
    clock = SteppingClock(seed)
    monkeypatch.setattr("time.time", clock)
    disturbed = sweep(tmp_path / "disturbed", clock)
    monkeypatch.undo()
    assert clock.steps > 10
    assert tables_in(tmp_path / "disturbed") == tables_in(tmp_path / "quiet")
    starts = starts_of(disturbed.read_events().events)
    assert all(stretch.seconds > 0 for start in starts for stretch in start.stretches)
    assert all(start.ended >= start.began for start in starts)
    trace = disturbed.read(RunFile.TRACE)
    if trace is not None:
        rows = [row for row in json.loads(trace)["traceEvents"] if row["ph"] == "X"]
        assert all(row["dur"] >= 0 and row["ts"] >= 0 for row in rows)
    timeline = reduce_run(disturbed).comparison.timeline
    if timeline is not None:
        assert timeline.seconds >= 0 and timeline.seconds_to_first_shard >= 0
        assert 0 <= timeline.busy_share <= 1
        for device in timeline.devices:
            assert 0 <= device.busy_share <= 1
            assert min(device.seconds.values()) >= 0
