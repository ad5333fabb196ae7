"""What is refused before anything runs, and differences that a report refuses to state."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from actors.engine import Engine
from actors.errors import CannotLoadError
from orchestrator.devices import Devices
from orchestrator.errors import BadInputError
from orchestrator.interface import Comparison
from orchestrator.models import resolve_model
from orchestrator.plan import Plan, make_plan
from orchestrator.report.markdown import render_markdown
from orchestrator.settings import Settings
from orchestrator.shards import ModelLocation
from orchestrator.store import RunStore, manifest_of
from orchestrator.sweep import read_inputs
from orchestrator.variants import VARIANTS
from tests.pipeline import make_test_plan, read_comparison, run_in_process, write_inputs
from tests.tiny_models import SAMPLE_ROWS, make_tiny_model


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        **write_inputs(folder, SAMPLE_ROWS),
        "model": str(make_tiny_model(folder / "model")),
        "variants": ("fp16", "nf4"),
        "max_windows": 6,
        "shard_size": 2,
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
    needed = {
        name: make_plan(
            Settings(**{**settings, "variants": (name,)}), inputs, Devices("cuda", 1, None, 1)
        )
        .variants[0]
        .needed_bytes
        for name in ("fp32", "nf4")
    }
    room = (needed["fp32"] + needed["nf4"]) // 2
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
        Engine(location, VARIANTS["nf4"], "float32", "cpu", 1).load()


def test_a_run_has_one_writer(settings: dict[str, Any], tmp_path: Path) -> None:
    manifest = manifest_of(make_test_plan(**settings, results=tmp_path))
    with (
        RunStore(tmp_path, manifest),
        pytest.raises(BadInputError, match="being written by another process"),
        RunStore(tmp_path, manifest),
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
        RunStore(tmp_path, manifest_of(other)),
    ):
        pass


@pytest.mark.parametrize(
    ("stage", "refusal"),
    [
        ("windows", "nf4: 4 windows against the reference's 6: perplexities are not compared."),
        ("generations", "nf4: 2 prompts against the reference's 4: answers are not compared."),
    ],
)
def test_variants_with_other_items_are_not_compared(
    stage: str, refusal: str, finished: tuple[Plan, Comparison], tmp_path: Path
) -> None:
    plan, whole = finished
    assert whole.complete
    assert whole.notes == []
    lost = next(s for s in plan.shards if s.variant == "nf4" and s.work.stage == stage)
    (tmp_path / "r" / "shards" / lost.path).unlink()
    partial = read_comparison(tmp_path / "r")
    assert not partial.complete
    assert partial.notes == ["This run is partial: 20 of 22 items are in it.", refusal]
    nf4, before = partial.variants["nf4"], whole.variants["nf4"]
    assert before.perplexity.delta_pct is not None
    assert before.generation.seconds.delta_pct is not None
    assert (nf4.perplexity.delta_pct is None) == (stage == "windows")
    assert (nf4.generation.seconds.delta_pct is None) == (stage == "generations")
    page = render_markdown(partial)
    assert "This report is partial" in page
    assert refusal in page
