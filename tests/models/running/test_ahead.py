"""What begins before the plan is there: hashing, imports, models that are most likely needed."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.background import Background
from orchestrator.contract.shards import Payload
from orchestrator.contract.variant_errors import CannotLoadError
from orchestrator.errors import BadInputError
from orchestrator.inputs import checkpoints
from orchestrator.inputs.content_hashes import HashedFile
from orchestrator.planning.devices import Devices
from orchestrator.planning.layout import lay_out
from orchestrator.planning.plan import Plan, make_plan
from orchestrator.running.ahead import prepare
from orchestrator.settings import Settings
from orchestrator.storage.results_folder import ResultsFolder, run_at
from orchestrator.storage.store import earlier_runs
from tests.made_up_actors import Sweep, fine
from tests.pipeline import FinishedRun, make_test_plan, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

Rule = Callable[[str, Payload | None], None]
VARIANTS = ("nf4", "fp16", "int8")


@pytest.fixture(scope="module")
def one_core(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("inputs")
    return make_test_plan(
        model=str(make_tiny_model(folder / "model")),
        variants=VARIANTS,
        reference="fp16",
        max_windows=6,
        shard_size=2,
        batch_tokens=1,
        max_new_tokens=4,
        **write_inputs(folder, SAMPLE_ROWS),
    )


def prepared_sweep(one_core: Plan, gpus: int, *, loads: bool = True, rule: Rule = fine) -> Sweep:
    devices = Devices("cuda", gpus, None, node_cores=8)
    plan = make_plan(one_core.settings, one_core.inputs, devices)
    sweep = Sweep(plan, rule)
    layout = lay_out(plan.settings, plan.inputs, devices)
    sweep.prepared = prepare(sweep.pool, layout, loads=loads, now=1.0)
    return sweep


@pytest.mark.parametrize(
    ("gpus", "loading"),
    [
        (1, ["fp16"]),
        (2, ["fp16", "nf4"]),
        (5, ["fp16", "nf4", "int8", None, None]),
    ],
)
def test_the_reference_is_loaded_first_then_each_other_variant(
    gpus: int, loading: list[str | None], one_core: Plan
) -> None:
    sweep = prepared_sweep(one_core, gpus)
    assert [one.variant for one in sweep.prepared] == loading
    assert not sweep.run().abandoned
    assert len(sweep.committed) == len(sweep.plan.shards)
    assert {*sweep.loads} == {*VARIANTS}
    if gpus < len(VARIANTS):
        assert len(sweep.loads) == len(VARIANTS)
    if gpus < len(VARIANTS):
        assert len(sweep.pool.started) == gpus


def test_what_a_resumed_run_does_not_need_is_not_loaded(one_core: Plan) -> None:
    sweep = prepared_sweep(one_core, 1, loads=False)
    rest = [shard for shard in sweep.plan.shards if shard.record.variant != "int8"]
    windows = [s for s in sweep.plan.shards if s.record.stage in ("windows", "teacher_forced")]
    done = [*rest, *(shard for shard in windows if shard.record.variant == "int8")]
    assert not sweep.run(finished=done).abandoned
    assert sweep.loads == ["int8"]


def test_a_model_that_cannot_be_loaded_beforehand_is_told_like_any_other(one_core: Plan) -> None:
    def rule(variant: str, payload: Payload | None) -> None:
        if variant == "fp16":
            raise CannotLoadError("variant fp16 is not whole")

    with pytest.raises(BadInputError, match="variant fp16 is not whole"):
        prepared_sweep(one_core, 2, rule=rule).run()


def test_where_the_time_went_counts_from_when_an_actor_was_asked_for(one_core: Plan) -> None:
    sweep = prepared_sweep(one_core, 2)
    assert not sweep.run().abandoned
    started = [event for event in sweep.events if event.event == "actor_started"][:2]
    assert [event.began and event.began.timestamp() for event in started] == [1.0, 1.0]


def test_background_work_goes_on_beside_and_gives_its_result_or_its_error() -> None:
    release = threading.Event()
    working = Background(lambda: release.wait(10))
    release.set()
    assert working.result() is True
    failing = Background(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        failing.result()


def test_a_checkpoint_is_hashed_once_whoever_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    hashes = checkpoints.file_hashes

    def slow(paths: tuple[Path, ...]) -> list[HashedFile]:
        calls.append(paths)
        time.sleep(0.05)
        return hashes(paths)

    monkeypatch.setattr(checkpoints, "file_hashes", slow)
    checkpoint = checkpoints.read_folder(str(make_tiny_model(tmp_path)), None, "--model")
    assert not calls
    checkpoint.begin_hashing()
    found = {Background(lambda: checkpoint.content_hash).result() for _ in range(3)}
    assert found == {checkpoint.content_hash}
    assert len(calls) == 1
    again = replace(checkpoint)
    assert again.content_hash == checkpoint.content_hash


def test_earlier_runs_are_known_by_what_was_said(finished_run: FinishedRun) -> None:
    results = ResultsFolder.at(finished_run.folder.parent)
    settings = Settings.model_validate(run_at(finished_run.folder).read_manifest().settings)
    assert earlier_runs(results, settings) == [True]
    assert earlier_runs(results, settings.model_copy(update={"max_windows": 5})) == []
    assert earlier_runs(results, settings.model_copy(update={"run_id": "other"})) == []
