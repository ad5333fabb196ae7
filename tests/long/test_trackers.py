"""`--tracker`: a finished run in the real libraries, without a network."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator import tracking
from orchestrator.cli import run_command
from orchestrator.comparison_schema import Comparison
from tests.pipeline import FinishedRun, make_test_plan, run_in_process, write_inputs
from tests.places import REPOSITORY
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

PROJECT = "quantization-orchestrator"
# A process of its own: these libraries read their variables when they are imported, and write their
# last lines when it ends.
SEND = """
import sys
from pathlib import Path
from orchestrator import tracking
from orchestrator.publish import publish
from orchestrator.storage.results_folder import run_at
tracking.track(sys.argv[1], publish(run_at(Path(sys.argv[2]))))
"""


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    """Variables by which every tracker keeps what it is told in a folder."""
    return {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path),
        "MLFLOW_TRACKING_URI": (tmp_path / "mlruns").as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
    }


def send(tracker: str, run: Path, variables: Mapping[str, str]) -> str:
    """Sends a run, and gives what was told on the way; standard output is for results."""
    sent = subprocess.run(
        [sys.executable, "-c", SEND, tracker, str(run)],
        capture_output=True,
        text=True,
        cwd=run.parent,
        env={**os.environ, **variables, "PYTHONPATH": str(REPOSITORY)},
    )
    assert (sent.returncode, sent.stdout) == (0, ""), sent.stderr
    return sent.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """FP16 and NF4 of a tiny model."""
    folder = tmp_path_factory.mktemp("finished")
    plan = make_test_plan(
        **write_inputs(folder / "inputs", SAMPLE_ROWS),
        model=str(make_tiny_model(folder / "model")),
        variants=("fp16", "nf4"),
        max_windows=4,
        max_new_tokens=8,
        results=folder,
        run_id="r",
    )
    return FinishedRun(folder / "r", run_in_process(plan))


@pytest.fixture
def run(finished: FinishedRun, tmp_path: Path) -> Path:
    return shutil.copytree(finished.folder, tmp_path / "r")


def expected(comparison: Comparison) -> dict[str, float]:
    """Some figures, by the name that they must have."""
    nf4 = comparison.variants["nf4"]
    assert nf4.kl is not None and nf4.kl.mean.value is not None and nf4.kl.mean.interval
    assert nf4.perplexity.value is not None and nf4.memory.size_bytes is not None
    return {
        "nf4/perplexity": nf4.perplexity.value,
        "nf4/kl.mean": nf4.kl.mean.value,
        "nf4/kl.mean_low": nf4.kl.mean.interval[0],
        "nf4/kl.mean_high": nf4.kl.mean.interval[1],
        "nf4/size_bytes": float(nf4.memory.size_bytes),
    }


def test_wandb_keeps_the_run(
    run: Path, offline: dict[str, str], finished: FinishedRun, tmp_path: Path
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    told = send("wandb", run, offline)
    assert told.splitlines()[-1].endswith("figures sent to wandb")
    (kept,) = tmp_path.glob("wandb/offline-run-*-r")
    content = next(kept.glob("*.wandb")).read_bytes()
    for name in (*expected(finished.comparison), "max_new_tokens", "report.html"):
        assert name.encode() in content, name


def test_mlflow_keeps_the_run_once(
    run: Path,
    offline: dict[str, str],
    finished: FinishedRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    for _ in range(2):
        send("mlflow", run, offline)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = mlflow.MlflowClient(offline["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name(PROJECT)
    (kept,) = client.search_runs([experiment.experiment_id])
    assert (kept.info.run_name, kept.info.status) == ("r", "FINISHED")
    for name, value in expected(finished.comparison).items():
        assert kept.data.metrics[name] == pytest.approx(value)
    assert kept.data.params["max_new_tokens"] == "8"
    files = {file.path for file in client.list_artifacts(kept.info.run_id)}
    assert files == {"report.html", "comparison.json"}


def test_trackio_keeps_the_run(
    run: Path, offline: dict[str, str], finished: FinishedRun, tmp_path: Path
) -> None:
    pytest.importorskip("trackio", reason="trackio is not installed")
    send("trackio", run, offline)
    with sqlite3.connect(tmp_path / "trackio" / f"{PROJECT}.db") as database:
        ((name, logged),) = database.execute("SELECT run_name, metrics FROM metrics").fetchall()
        ((settings,),) = database.execute("SELECT config FROM configs").fetchall()
    assert name == "r"
    for metric, value in expected(finished.comparison).items():
        assert json.loads(logged)[metric] == pytest.approx(value)
    assert json.loads(settings)["max_new_tokens"] == 8


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """Words for a sweep of seconds."""
    inputs = write_inputs(tmp_path / "inputs", SAMPLE_ROWS)
    flags = {
        **inputs,
        "model": make_tiny_model(tmp_path / "model"),
        "variants": "fp16,nf4",
        "cluster": "none",
        "max_windows": 2,
        "max_prompts": 1,
        "max_new_tokens": 2,
        "results": tmp_path / "results",
        "run_id": "r",
        "tracker": "trackio",
    }
    return [
        word
        for name, value in flags.items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]


def test_a_tracker_that_is_not_installed_is_refused_before_anything_runs(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    assert run_command(command) == 2
    assert capsys.readouterr().err.strip() == (
        "error: --tracker: trackio is not installed; pip install "
        "'quantization-orchestrator[trackio]'"
    )
    assert not (tmp_path / "results").exists()


def test_what_a_tracker_does_not_take_stays_whole_and_is_told_of(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(sent: object) -> None:
        raise ConnectionError("no route to host\nat all")

    monkeypatch.setattr(tracking, "check_tracker", lambda name: None)
    monkeypatch.setitem(tracking._TRACKERS, "trackio", refuse)
    assert run_command(command) == 1
    told = capsys.readouterr()
    assert "changes against fp16" in told.out
    assert told.err.splitlines()[-1] == (
        "error: the run is whole, and trackio did not take it (no route to host); see to that, and "
        "run the same command again to send it"
    )
    assert (tmp_path / "results" / "r" / "report.html").exists()
    sent: list[tracking._Sent] = []
    monkeypatch.setitem(tracking._TRACKERS, "trackio", sent.append)
    assert run_command(command) == 0
    assert "nf4/kl.mean" in sent[0].figures
    assert sent[0].settings["max_windows"] == 2
