"""`from orchestrator import compare`: in a script, and in a notebook."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator import BadInputError, OrchestratorError, Result, compare
from tests.pipeline import write_inputs
from tests.places import REPOSITORY
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a sweep of seconds."""
    folder = tmp_path_factory.mktemp("api")
    return {
        **write_inputs(folder / "inputs", SAMPLE_ROWS),
        "model": str(make_tiny_model(folder / "model")),
        "variants": "fp16,nf4",
        "max_windows": 3,
        "max_prompts": 2,
        "max_new_tokens": 3,
        "results": str(folder / "results"),
        "run_id": "r",
    }


@pytest.fixture(scope="module")
def result(settings: dict[str, Any]) -> Result:
    return compare(**settings, gate="kl.mean <= 0.000001")


def test_it_gives_what_the_files_hold(result: Result) -> None:
    assert {"run.json", "report.html", "shards"} <= {path.name for path in result.folder.iterdir()}
    written = json.loads((result.folder / "comparison.json").read_text())
    kl = result.comparison.variants["nf4"].kl
    assert kl is not None and kl.mean.value == written["variants"]["nf4"]["kl"]["mean"]["value"]
    windows = result.tables["windows"]
    assert windows.num_rows == 6
    assert set(windows["variant"].to_pylist()) == {"fp16", "nf4"}


def test_a_gate_that_fails_is_a_verdict_and_no_exception(result: Result) -> None:
    assert not result.judgement.passed
    assert [found.variant for found in result.judgement.results] == ["nf4"]


def test_the_same_call_computes_nothing_again(settings: dict[str, Any], result: Result) -> None:
    shards = {path: path.stat().st_mtime_ns for path in result.folder.glob("shards/*/*")}
    again = compare({"max-windows": 3, "variants": {"fp16": None, "nf4": None}}, **settings)
    assert {path: path.stat().st_mtime_ns for path in again.folder.glob("shards/*/*")} == shards
    assert again.comparison.variants == result.comparison.variants
    # It is not asked for a gate this time.
    assert not again.judgement.asked


def test_settings_come_from_a_file_too(
    settings: dict[str, Any], result: Result, tmp_path: Path
) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps({**settings, "cluster": "none"}))
    assert compare(file).folder == result.folder
    assert compare(str(file), run_id="r").folder == result.folder
    # Where it runs is said there, too, and by default it is here.
    file.write_text(json.dumps({**settings, "run_id": "other", "cluster": "nowhere"}))
    with pytest.raises(BadInputError, match="cannot join 'nowhere'"):
        compare(file)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"variants": "fp16,nf5"}, "--variants: unknown variant 'nf5'"),
        ({"modell": "x"}, "modell: unknown setting; did you mean 'model'?"),
        ({"max_windows": -1}, "--max-windows: "),
        ({"tracker": "tensorboard"}, "--tracker: "),
        ({"reference": "bf16"}, "--reference: 'bf16' is not one of --variants"),
    ],
)
def test_a_mistake_is_an_error_of_one_line(
    wrong: dict[str, Any], problem: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(BadInputError) as raised:
        compare(**{**settings, **wrong})
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, OrchestratorError)


def test_a_file_that_is_not_there_is_an_error_of_one_line() -> None:
    with pytest.raises(BadInputError, match=r"--config: cannot read nowhere\.yaml"):
        compare("nowhere.yaml")


def test_the_package_imports_nothing_until_it_is_asked() -> None:
    words = "import sys, orchestrator; print([m for m in sys.modules if m in sys.argv])"
    heavy = ["pydantic", "numpy", "pyarrow", "torch", "ray", "rich", "orchestrator.api"]
    ran = subprocess.run(
        [sys.executable, "-c", words, *heavy], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'compair'"):
        orchestrator.compair  # type: ignore[attr-defined] # noqa: B018


def test_it_brings_its_types() -> None:
    for package in ("orchestrator", "actors"):
        assert (REPOSITORY / package / "py.typed").is_file()
