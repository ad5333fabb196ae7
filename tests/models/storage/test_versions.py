"""What a change of a version costs: its own stage and what reads it, and nothing else."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.comparison_schema import COMPARISON_VERSION
from orchestrator.contract.manifest import Versions
from orchestrator.contract.stages import STAGES
from orchestrator.contract.version import VERSION
from orchestrator.errors import BadInputError
from orchestrator.gates.chosen import GateSettings
from orchestrator.planning.plan import Plan, manifest_of
from orchestrator.runs.finished import read_run
from orchestrator.storage.results_folder import ResultsFolder, run_at
from orchestrator.storage.store import RunStore
from tests.pipeline import make_test_plan, read_comparison, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Those of a run that is finished."""
    folder = tmp_path_factory.mktemp("run")
    chosen = {
        **write_inputs(folder, SAMPLE_ROWS),
        "model": str(make_tiny_model(folder / "model")),
        "variants": ("fp16", "nf4"),
        "max_windows": 2,
        "window_choice": "first",
        "batch_tokens": 1,
        "max_new_tokens": 3,
        "batch_sizes": (2,),
        "results": folder,
        "run_id": "r",
    }
    run_in_process(make_test_plan(**chosen))
    return chosen


def raised(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Has a stage another version than when the run was made."""
    changed = replace(STAGES[stage], version=STAGES[stage].version + 1)
    monkeypatch.setitem(STAGES, stage, changed)


def left_to_do(plan: Plan, results: Path) -> set[str]:
    with RunStore(ResultsFolder.at(results), manifest_of(plan)) as store:
        done = store.finished()
    return {shard.record.stage for shard in plan.shards if shard.record.fingerprint not in done}


@pytest.mark.parametrize(
    ("stage", "again"),
    [
        ("windows", {"windows"}),
        ("throughput", {"throughput"}),
        ("noise", {"noise"}),
        # Every variant scores the answers.
        ("generations", {"generations", "teacher_forced"}),
    ],
)
def test_a_stage_of_another_version_is_measured_again_and_the_rest_is_kept(
    stage: str,
    again: set[str],
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(settings["results"] / "r", tmp_path / "r")
    raised(monkeypatch, stage)
    plan = make_test_plan(**{**settings, "results": tmp_path})
    assert left_to_do(plan, tmp_path) == again


def test_a_run_is_named_by_its_inputs_and_not_by_versions(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    unnamed = {**settings, "run_id": None}
    before = make_test_plan(**unnamed).run_id
    raised(monkeypatch, "windows")
    assert make_test_plan(**unnamed).run_id == before


def test_an_upgrade_of_the_program_is_noted_and_measures_nothing_again(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(settings["results"] / "r", tmp_path / "r")
    assert run_at(tmp_path / "r").read_manifest().orchestrator_version == VERSION
    assert read_comparison(tmp_path / "r").provenance.versions["orchestrator"] == [VERSION]
    monkeypatch.setattr("orchestrator.planning.plan.VERSION", "9.9")
    plan = make_test_plan(**{**settings, "results": tmp_path})
    assert left_to_do(plan, tmp_path) == set()
    assert run_at(tmp_path / "r").read_manifest().orchestrator_version == "9.9"


def test_tables_of_a_stage_in_another_version_are_not_read(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    raised(monkeypatch, "windows")
    told = "stage windows in version 8, and this program knows version 9; the command .* again"
    with pytest.raises(BadInputError, match=told):
        read_comparison(settings["results"] / "r")


def test_a_run_from_when_all_stages_had_one_version_is_read(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(settings["results"] / "r", tmp_path / "r")
    today = run_at(tmp_path / "r").read_manifest()
    path = tmp_path / "r" / "run.json"
    content = json.loads(path.read_text())
    for name in ("sha256", "version", "versions"):
        del content[name]
    content["schema_version"] = 8
    del content["settings"]["gate_set"]
    content["settings"]["gates"] = "close"
    content["identity"] |= {"scoring_version": 5, "schema_version": 8}
    # The first windows were taken, and nobody said so; nor was there any stretch.
    for part in (content["identity"], content["settings"]):
        del part["window_choice"]
    for name in ("looks", "text_windows"):
        del content[name]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**content, "sha256": digest}))
    found = run_at(tmp_path / "r").read_manifest()
    assert (found.identity, found.shards) == (today.identity, today.shards)
    assert found.looks == today.looks
    assert found.settings["window_choice"] == "first"
    assert found.versions == Versions(scoring=5, stages=dict.fromkeys(today.versions.stages, 8))
    # As the set of gates was called then.
    assert GateSettings.among(found.settings).gate_set == "close"
    # Shards are known by their recipe, whatever layout the manifest has.
    assert not left_to_do(make_test_plan(**{**settings, "results": tmp_path}), tmp_path)


def test_a_comparison_of_an_older_layout_is_made_again_from_the_shards(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(settings["results"] / "r", tmp_path / "r")
    older = folder / "comparison.json"
    older.write_text(json.dumps({"version": COMPARISON_VERSION - 1}))
    assert read_run(run_at(folder)).comparison == read_comparison(folder)
    assert json.loads(older.read_text()) == {"version": COMPARISON_VERSION - 1}
    raised(monkeypatch, "windows")
    with pytest.raises(BadInputError, match="stage windows in version 8"):
        read_run(run_at(folder))
