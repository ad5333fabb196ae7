"""Noise in weights, from the words of a command line to the pictures of a report."""

from pathlib import Path

import pytest
from pyarrow import parquet

from orchestrator.cli import run_command
from orchestrator.errors import ExitStatus
from orchestrator.runs.finished import read_run
from orchestrator.storage.results_folder import run_at
from orchestrator.storage.run_folder import RunFolder
from tests.commands import flags_of
from tests.gguf_models import write_gguf
from tests.pipeline import write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

VARIANTS = (
    "fp16",
    "nf4",
    "nf4+noise=1",
    "nf4+noise=1@1",
    "nf4+noise=0.50",
    "fp16+noise=nf4:1",
    "fp16+noise=abs:1e-3",
)


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("noisy")
    return flags_of(
        **write_inputs(folder, SAMPLE_ROWS, prompts=1),
        model=make_tiny_model(folder / "model", hidden=128),
        variants=VARIANTS,
        gate="kl.mean <= 9 for nf4+noise=0.500",
        max_windows=3,
        max_new_tokens=2,
        cluster="none",
        results=folder / "results",
        run_id="r",
    )


@pytest.fixture(scope="module")
def run(flags: list[str]) -> RunFolder:
    assert run_command(flags) == ExitStatus.DONE
    return run_at(Path(flags[flags.index("--results") + 1]) / "r")


def test_a_variant_has_one_name_in_every_place(run: RunFolder) -> None:
    comparison = read_run(run).comparison
    names = [
        *("fp16", "nf4", "nf4+noise=1", "nf4+noise=1@1", "nf4+noise=0.5"),
        *("fp16+noise=nf4:1", "fp16+noise=abs:0.001"),
    ]
    assert list(comparison.variants) == names
    assert sorted(path.name for path in (run.path / "shards").iterdir()) == sorted(names)
    assert {path.stem for path in (run.path / "answers").iterdir()} == set(names)
    table = parquet.read_table(run.path / "tables" / "loading.parquet")
    assert sorted(table["variant"].to_pylist()) == sorted(names)
    page, markdown = ((run.path / f"report.{kind}").read_text() for kind in ("html", "md"))
    for name in names:
        assert name in page
        assert name in markdown


def test_a_run_with_noise_is_resumed_however_it_is_said(
    run: RunFolder, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shards = {path: path.stat().st_mtime_ns for path in (run.path / "shards").rglob("*.arrow")}
    said = [flag.replace("nf4+noise=0.50", "nf4+noise=nf4:.5") for flag in flags]
    assert said != flags
    assert run_command(said) == ExitStatus.DONE
    assert {path: path.stat().st_mtime_ns for path in shards} == shards
    assert run_command(["report", str(run.path)]) == ExitStatus.DONE


def test_what_was_added_is_a_part_of_the_comparison(run: RunFolder) -> None:
    variants = read_run(run).comparison.variants
    assert variants["nf4"].weight_noise is None
    found = variants["nf4+noise=1@1"].weight_noise
    assert found is not None
    assert (found.base, found.unit, found.sigma, found.seed) == ("nf4", "nf4", 1.0, 1)
    assert found.standard_deviation is not None
    assert found.codes_changed_share is not None
    absolute = variants["fp16+noise=abs:0.001"].weight_noise
    assert absolute is not None
    assert absolute.standard_deviation == pytest.approx(0.001)
    assert absolute.codes_changed_share is None
    # Other noise of the same amount gives other numbers.
    kls = [variants[name].kl for name in ("nf4+noise=1", "nf4+noise=1@1")]
    assert kls[0] != kls[1]


def test_the_report_draws_it(run: RunFolder) -> None:
    page = (run.path / "report.html").read_text()
    assert "What does noise in the weights cost?" in page
    assert "nf4 with noise of 1 half-widths has a KL of" in page
    assert "fp16, by nf4's cells" in page
    assert "know nothing of other noise" in page


def test_a_sweep_of_it_is_embedded(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["plan", "--sweep", "noise"]) == ExitStatus.DONE
    assert "nf4+noise=0.5@2" in capsys.readouterr().out


def test_a_gguf_file_takes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_gguf(make_tiny_model(tmp_path / "m"), tmp_path / "m.gguf", kind="Q8_0")
    chosen = flags_of(model=file, dataset="demo", variants=("fp16", "fp16+noise=abs:0.1"))
    assert run_command(["plan", *chosen]) == ExitStatus.BAD_INPUT
    said = capsys.readouterr().err
    assert "noise is not added to the weights of a GGUF file" in said
    assert len(said.splitlines()) == 1
