"""What is refused before anything runs, and differences that a report refuses to state."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.transformers_engine import TransformersEngine
from orchestrator.comparison_schema import Comparison
from orchestrator.contract.environment import environment_of, with_environment
from orchestrator.contract.manifest import RUN_VERSION
from orchestrator.contract.shards import ModelLocation, ShardRecord
from orchestrator.contract.variant_errors import CannotLoadError
from orchestrator.errors import BadInputError
from orchestrator.inputs.models import resolve_model
from orchestrator.inputs.sources import read_inputs
from orchestrator.planning.devices import Devices
from orchestrator.planning.plan import Plan, make_plan, manifest_of
from orchestrator.planning.sizes import HELD_BYTES
from orchestrator.report.tables.formats import size
from orchestrator.settings import Settings
from orchestrator.storage.results_folder import ResultsFolder, run_at
from orchestrator.storage.shard_file import read_table, shard_content
from orchestrator.storage.store import RunStore
from tests.pipeline import (
    assignment,
    make_test_plan,
    markdown_of,
    read_comparison,
    run_in_process,
    write_inputs,
)
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        **write_inputs(folder, SAMPLE_ROWS),
        "model": str(make_tiny_model(folder / "model")),
        "variants": ("fp16", "nf4"),
        "max_windows": 6,
        "shard_size": 2,
        "batch_tokens": 1,
        "max_new_tokens": 4,
    }


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("tokenizer*.json", "has no tokenizer; save one"),
        ("*.safetensors", r"has no \.safetensors weights; convert"),
        ("config.json", r"has no config\.json; name a transformers folder"),
    ],
)
def test_an_incomplete_model_folder_is_refused(
    pattern: str, problem: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = shutil.copytree(settings["model"], tmp_path / "model")
    for path in folder.glob(pattern):
        path.unlink()
    with pytest.raises(BadInputError, match=f"^--model: .*{problem}"):
        resolve_model(str(folder), None)


def test_a_model_too_large_for_the_device_says_by_how_much_and_what_fits(
    settings: dict[str, Any],
) -> None:
    chosen = Settings(**{**settings, "variants": ("fp32",)})
    inputs = read_inputs(chosen)
    both = Settings(**{**settings, "variants": ("fp32", "nf4")})
    planned = make_plan(both, read_inputs(both), Devices("cuda", 1, None, 1)).variants
    room = sum(variant.needed_bytes or 0 for variant in planned) // 2
    with pytest.raises(BadInputError, match=r"fp32 needs .* too much; these fit: .*nf4"):
        make_plan(chosen, inputs, Devices("cuda", 1, room, 1))
    with pytest.raises(BadInputError, match="no variant fits"):
        make_plan(chosen, inputs, Devices("cuda", 1, 1, 1))


def test_missing_bitsandbytes_is_told_with_the_remedy(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    location = ModelLocation(id_or_path=settings["model"])
    with pytest.raises(CannotLoadError, match=r"missing or broken .*pip install bitsandbytes"):
        TransformersEngine(assignment(location, "nf4"))


def test_a_run_has_one_writer(settings: dict[str, Any], tmp_path: Path) -> None:
    manifest = manifest_of(make_test_plan(**settings, results=tmp_path))
    with (
        RunStore(ResultsFolder.at(tmp_path), manifest),
        pytest.raises(BadInputError, match="being written by another process"),
        RunStore(ResultsFolder.at(tmp_path), manifest),
    ):
        pass


@pytest.fixture
def finished(settings: dict[str, Any], tmp_path: Path) -> tuple[Plan, Comparison]:
    plan = make_test_plan(**settings, results=tmp_path, run_id="r")
    return plan, run_in_process(plan)


def test_a_run_is_not_mixed_with_one_of_other_settings(
    finished: tuple[Plan, Comparison], settings: dict[str, Any], tmp_path: Path
) -> None:
    other = make_test_plan(**{**settings, "max_windows": 5}, results=tmp_path, run_id="r")
    with (
        pytest.raises(BadInputError, match=r"--run-id: .*other settings \(max_windows\)"),
        RunStore(ResultsFolder.at(tmp_path), manifest_of(other)),
    ):
        pass


@pytest.mark.parametrize(
    ("stage", "refusal"),
    [
        ("windows", "nf4: 4 windows against the reference's 6: perplexities are not compared."),
        ("generations", "nf4: 3 prompts against the reference's 4: answers are not compared."),
        (
            "teacher_forced",
            "nf4: 2 of the reference's 4 answers are scored: divergence along them is not given.",
        ),
    ],
)
def test_variants_with_other_items_are_not_compared(
    stage: str, refusal: str, finished: tuple[Plan, Comparison], tmp_path: Path
) -> None:
    plan, whole = finished
    assert whole.complete
    assert whole.notes == []
    lost = next(shard.record for shard in plan.variants[1].shards if shard.record.stage == stage)
    run_at(tmp_path / "r").shard_path(lost).unlink()
    partial = read_comparison(tmp_path / "r")
    assert not partial.complete
    assert partial.notes == [refusal]
    nf4, before = partial.variants["nf4"], whole.variants["nf4"]
    assert before.perplexity.delta_pct is not None
    assert before.generation.seconds.delta_pct is not None
    assert (nf4.perplexity.delta_pct is None) == (stage == "windows")
    assert (nf4.generation.seconds.delta_pct is None) == (stage == "generations")
    assert before.generation.kl_along_reference.value is not None
    assert (nf4.generation.kl_along_reference.value is None) == (stage != "windows")
    assert (nf4.generation.identical_answers.value is None) == (stage == "generations")
    page = markdown_of(partial)
    assert "This report is partial" in page
    assert refusal in page


def test_a_run_of_another_version_is_refused_whoever_reads_it(
    finished: tuple[Plan, Comparison], tmp_path: Path
) -> None:
    plan, _ = finished
    path = tmp_path / "r" / "run.json"
    manifest = json.loads(path.read_text())
    del manifest["version"]
    # As an earlier version wrote it: with less in it than is needed today.
    del manifest["identity"]["variants"]
    path.write_text(json.dumps({**manifest, "schema_version": 7}))
    told = rf"is of version 7, and this program knows versions up to {RUN_VERSION}; .* --run-id"
    with pytest.raises(BadInputError, match=told):
        run_at(tmp_path / "r").read_manifest()
    with (
        pytest.raises(BadInputError, match=told),
        RunStore(ResultsFolder.at(tmp_path), manifest_of(plan)),
    ):
        pass


def restamp(path: Path, record: ShardRecord, **changes: str) -> None:
    """Writes a shard's file again as if it had been computed elsewhere."""
    table = read_table(path)
    environment = environment_of(table.schema).model_copy(update=changes)
    path.write_bytes(shard_content(with_environment(table, environment), record.fingerprint))


def test_every_device_and_version_of_a_run_is_named_and_unlike_ones_are_noted(
    finished: tuple[Plan, Comparison], tmp_path: Path
) -> None:
    plan, whole = finished
    assert len(whole.provenance.devices) == 1
    records = [shard.record for shard in plan.variants[1].shards]
    windows = [record for record in records if record.stage == "windows"]
    path = run_at(tmp_path / "r").shard_path(windows[-1])
    restamp(path, windows[-1], device="Card B", torch_version="9.9")
    mixed = read_comparison(tmp_path / "r")
    here = whole.provenance.devices[0]
    assert mixed.provenance.devices == [here, "Card B"]
    assert mixed.provenance.versions["torch"] == [*whole.provenance.versions["torch"], "9.9"]
    assert mixed.notes == [
        f"Shards were computed with several versions of torch: {torch.__version__}, 9.9.",
        f"The windows were timed on unlike devices ({here}, Card B): "
        "differences of speed are theirs as well.",
    ]
    assert "Card B" in markdown_of(mixed)


def test_what_is_already_finished_is_not_touched_by_asking(
    finished: tuple[Plan, Comparison], tmp_path: Path
) -> None:
    plan, _ = finished
    records = [shard.record for shard in plan.shards]
    damaged = run_at(tmp_path / "r").shard_path(records[1])
    damaged.write_bytes(damaged.read_bytes()[:-10])
    # Whether a file is whole is seen when it is read.
    done = run_at(tmp_path / "r").finished(run_at(tmp_path / "r").read_manifest())
    assert done == {record.fingerprint for record in records}
    assert damaged.exists()
    with RunStore(ResultsFolder.at(tmp_path), manifest_of(plan)) as store:
        assert store.set_aside_damaged({records[0].fingerprint}) == set()
        assert store.set_aside_damaged() == {records[1].fingerprint}
        assert store.finished() == done - {records[1].fingerprint}
    assert not damaged.exists()
    assert damaged.with_suffix(".damaged").exists()


def test_a_size_that_nothing_foresees_is_left_open(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HELD_BYTES, "4-bit", lambda *_: None)
    chosen = Settings(**settings, results=tmp_path)
    plan = make_plan(chosen, read_inputs(chosen), Devices("cpu", 1, 2**40, 1))
    assert plan.variants[1].needed_bytes is None
    comparison = run_in_process(plan)
    memory = comparison.variants["nf4"].memory
    assert memory.expected_weights_bytes is None
    assert memory.weights_bytes
    assert comparison.notes == []
    assert f"| {size(memory.weights_bytes)} | – |" in markdown_of(comparison)
