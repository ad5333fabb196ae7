"""A sweep audits the weights that it is of, and says so where they are not what they pass for."""

from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from pyarrow import parquet

from orchestrator.cli import run_command
from orchestrator.comparison_schema import Comparison
from orchestrator.errors import ExitStatus
from orchestrator.integrity import remembered
from orchestrator.runs.finished import read_run, reduce_run
from orchestrator.storage.results_folder import run_at
from orchestrator.storage.run_folder import RunFolder
from tests.commands import flags_of
from tests.once_quantized_models import changed, expanded
from tests.pipeline import FinishedRun, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

ONCE_NF4 = "On a grid: NF4 (bitsandbytes NF4), groups of 64; 14 of 14 linear weights (p < 1e-300)."


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("genuine") / "model", hidden=128)


@pytest.fixture(scope="module")
def once_nf4(genuine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return changed(genuine, tmp_path_factory.mktemp("once") / "nf4", expanded("NF4 by 64"))


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, RunFolder]]:
    """Runs a small sweep of a model; its status, and the run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    inputs = write_inputs(tmp_path / "inputs", SAMPLE_ROWS, prompts=1)

    def run(model: Path, *, command: str = "run", **settings: Any) -> tuple[int, RunFolder]:
        said: dict[str, Any] = {
            **inputs,
            "model": model,
            "variants": ("fp16", "nf4"),
            "max_windows": 2,
            "max_new_tokens": 2,
            "cluster": "none",
            "results": tmp_path / "results",
            "run_id": "r",
            **settings,
        }
        return run_command([command, *flags_of(**said)]), run_at(tmp_path / "results" / "r")

    return run


def of_integrity(comparison: Comparison) -> list[str]:
    """The notes that say something of it."""
    return [note for note in comparison.notes if "once quantized" in note or "audits" in note]


def test_a_reference_on_a_grid_is_told(
    sweep: Callable[..., tuple[int, RunFolder]],
    once_nf4: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, run = sweep(once_nf4, gate="quantized_share == 0% for fp16")
    assert status == ExitStatus.GATE_FAILED
    comparison = read_run(run).comparison
    (note,) = of_integrity(comparison)
    assert note == (
        "fp16, the reference, was once quantized, though its files do not say so: the others are "
        f"held against that, not against original weights. {ONCE_NF4}"
    )
    assert note in capsys.readouterr().out.replace("\n", " ")
    for figures in comparison.variants.values():
        assert figures.integrity is not None
        assert figures.integrity.once_quantized
        assert (figures.integrity.family, figures.integrity.block) == ("NF4", 64)
        assert (figures.integrity.linear_weights, figures.integrity.quantized_share) == (14, 1.0)
    page = (run.path / "report.html").read_text()
    assert "Its reference was once quantized." in page
    assert "NF4 (bitsandbytes NF4), groups of 64" in page


def test_every_tensor_is_a_row_of_a_table(
    sweep: Callable[..., tuple[int, RunFolder]], once_nf4: Path
) -> None:
    _, run = sweep(once_nf4)
    rows = parquet.read_table(run.path / "tables" / "integrity.parquet").to_pylist()
    linear = [row for row in rows if row["role"] == "linear"]
    assert len(linear) == 14
    assert {(row["family"], row["block"], row["bits"]) for row in linear} == {("NF4", "64", 4)}
    assert {row["checkpoint"] for row in rows} == {str(once_nf4)}


def test_it_is_refused_before_anything_is_scored_where_integrity_is_required(
    sweep: Callable[..., tuple[int, RunFolder]],
    once_nf4: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in ("plan", "run"):
        status, run = sweep(once_nf4, command=command, require_integrity=True)
        assert status == ExitStatus.BAD_INPUT
        assert not run.path.exists()
        said = capsys.readouterr().err
        assert f"error: --require-integrity: {once_nf4}" in said
        assert ONCE_NF4 in said


def test_a_genuine_reference_passes_and_nothing_is_said_of_it(
    sweep: Callable[..., tuple[int, RunFolder]], genuine: Path
) -> None:
    status, run = sweep(genuine, require_integrity=True, gate="quantized_share == 0% for fp16")
    assert status == ExitStatus.DONE
    comparison = read_run(run).comparison
    assert of_integrity(comparison) == []
    integrity = comparison.variants["fp16"].integrity
    assert integrity is not None
    assert (integrity.verdict, integrity.grid) == ("no trace of quantization", None)


def test_a_candidate_that_passes_for_plain_is_told(
    sweep: Callable[..., tuple[int, RunFolder]], genuine: Path, once_nf4: Path
) -> None:
    status, run = sweep(genuine, variants=("fp16", f"mine={once_nf4}"), require_integrity=True)
    assert status == ExitStatus.DONE
    assert of_integrity(read_run(run).comparison) == [
        f"mine: its weights were once quantized, though its files do not say so. {ONCE_NF4}"
    ]


def test_the_same_weights_are_not_looked_at_twice(
    sweep: Callable[..., tuple[int, RunFolder]],
    genuine: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep(genuine)
    monkeypatch.setattr(remembered, "audit_files", None)
    status, run = sweep(genuine, run_id="again")
    assert status == ExitStatus.DONE
    capsys.readouterr()
    assert sweep(genuine, command="plan")[0] == ExitStatus.DONE
    assert "integrity: No trace of quantization in 14 linear weights." in capsys.readouterr().out
    first, again = (run.path.parent / name / "audits.json" for name in ("r", "again"))
    assert first.read_bytes() == again.read_bytes()


def test_what_remembers_may_be_damaged(
    sweep: Callable[..., tuple[int, RunFolder]], once_nf4: Path, tmp_path: Path
) -> None:
    sweep(once_nf4)
    (path,) = (tmp_path / "caches").rglob("audits/*.json")
    path.write_bytes(path.read_bytes()[:-100])
    _, run = sweep(once_nf4, run_id="again")
    assert len(of_integrity(read_run(run).comparison)) == 1


def test_a_run_without_audits_is_read_as_before_and_a_damaged_one_says_so(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    run = run_at(copytree(finished_run.folder, tmp_path / "r"))
    path = run.path / "audits.json"
    path.write_bytes(path.read_bytes().replace(b"no trace", b"a  trace", 1))
    assert of_integrity(reduce_run(run).comparison) == [
        "What the weights show of quantization before the run is left out: audits.json is not as "
        "it was written. The command that started the run writes it again."
    ]
    path.unlink()
    comparison = reduce_run(run).comparison
    assert of_integrity(comparison) == []
    assert all(figures.integrity is None for figures in comparison.variants.values())
