"""What a command's surroundings do to it: streams, encodings, files, signals, devices."""

import io
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.console import messages_console
from orchestrator.planning.devices import visible_devices
from orchestrator.report.terminal import print_comparison
from orchestrator.running.progress import Progress
from orchestrator.settings_layers import resolve_settings
from orchestrator.storage.results_folder import run_at
from tests.pipeline import FinishedRun, read_comparison
from tests.places import REPOSITORY


@pytest.fixture
def run(finished_run: FinishedRun) -> Path:
    return finished_run.folder


def report(
    run: Path, redirection: str = "", **environment: str
) -> "subprocess.CompletedProcess[bytes]":
    command = f"'{sys.executable}' -m orchestrator report '{run}' {redirection}"
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True,
        env={**os.environ, **environment},
        timeout=120,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_a_terminal_of_few_characters_gets_plain_ones(encoding: str, run: Path) -> None:
    process = report(run, PYTHONIOENCODING=encoding)
    assert process.returncode == 0, process.stderr
    shown = process.stdout.decode(encoding)
    assert "nf4" in shown
    if encoding == "ascii":
        assert " +/- " in shown
        assert "?" not in shown


def test_a_reader_that_has_seen_enough_is_no_error(run: Path) -> None:
    process = report(run, "| head -1")
    assert (process.returncode, process.stderr) == (0, b"")


def test_results_that_cannot_be_shown_are_told(run: Path) -> None:
    process = report(run, "> /dev/full")
    assert process.returncode == 1
    assert process.stderr == b"error: the results cannot be shown (No space left on device)\n"


def test_messages_that_cannot_be_written_stop_nothing(run: Path) -> None:
    assert report(run, "2> /dev/full").returncode == 0


def test_progress_on_a_full_disk_is_left_out(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = run_at(run).read_manifest().shards
    with suppress(OSError), Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        with Progress(records, set(), messages_console()) as progress:
            for record in records:
                progress.finished(record, seconds=1.0, left_seconds=None)
            progress.note("something to know")
        written = True
    assert written


@pytest.mark.parametrize("name", ["ray.py", "actors.py", "numpy/__init__.py"])
def test_a_file_that_hides_a_package_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("raise SystemExit('this is not the package')\n")
    process = subprocess.run(
        [sys.executable, "-m", "orchestrator", "plan"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 2
    assert process.stderr == (
        f"error: {path} hides a package of the same name; rename it, or run the command from "
        "another folder\n"
    )


def test_a_signal_that_is_lost_while_ray_starts_ends_the_command_all_the_same() -> None:
    """Ray takes SIGTERM for itself; raised in a callback, its exit would be ignored."""
    script = """
import os, signal, sys
from orchestrator.process import guarded
from orchestrator.running.ray_cluster import _uninterrupted

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass

def command():
    with _uninterrupted():
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        Finalized()
    return 0

sys.exit(guarded(command))
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 75, found.stderr
    assert found.stderr.startswith("stopped. To go on: ")
    assert "Traceback" not in found.stderr


def test_a_signal_where_nothing_can_be_raised_is_remembered_without_a_traceback() -> None:
    script = """
import os, signal
from orchestrator.process import guarded, interrupted

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        if not interrupted():
            raise SystemError("the signal did not come")

class Broken:
    def __del__(self):
        raise ValueError("ours")

def command():
    Finalized()
    Broken()
    return 10 + interrupted()

raise SystemExit(guarded(command))
"""
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 11
    assert "_Interrupted" not in process.stderr
    # What is wrong is still told.
    assert "ValueError: ours" in process.stderr


def test_a_command_that_is_to_outlive_its_terminal_does() -> None:
    with subprocess.Popen(
        ["nohup", sys.executable, "-m", "orchestrator", "plan"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        time.sleep(1)
        process.send_signal(signal.SIGHUP)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert "results: " in out


def test_a_narrow_terminal_breaks_figures_and_loses_none(run: Path) -> None:
    comparison = read_comparison(run)
    for width in (130, 60, 40):
        sink = io.StringIO()
        print_comparison(comparison, Console(file=sink, width=width))
        assert "…" not in sink.getvalue()
        figure = f"{comparison.variants['nf4'].perplexity.value:.2f}"
        digits = sum(character.isdigit() for character in sink.getvalue())
        assert digits >= len(figure) * 4


def test_home_is_meant_by_its_sign_wherever_it_stands(tmp_path: Path) -> None:
    config = tmp_path / "sweep.yaml"
    config.write_text("results: ~/runs\n")
    assert resolve_settings({}, config=config).results == str(Path.home() / "runs")
    assert resolve_settings({"results": "~/runs"}).results == str(Path.home() / "runs")


@pytest.mark.parametrize(
    ("visible", "left"),
    [
        (None, [3, 1, 2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,1,2", [3, 1, 2]),
        ("2, 0", [2, 3]),
        ("1,-1,0", [1]),
        ("0,7,1", [3]),
        ("GPU-8932f937-d72c,GPU-1", [1, 1]),
        ("MIG-x", [1]),
    ],
)
def test_visible_devices_are_those_that_cuda_leaves(visible: str | None, left: list[int]) -> None:
    assert visible_devices([3, 1, 2], visible) == left


def test_without_a_device_none_is_visible() -> None:
    assert visible_devices([], "GPU-1") == []


@pytest.mark.parametrize("swallowed", [False, True])
def test_a_signal_that_a_library_turns_into_its_own_error_is_a_stop_all_the_same(
    swallowed: bool,
) -> None:
    program = f"""
import os, signal, sys
from orchestrator.process import guarded, interrupted
from tests.places import REPOSITORY
def command():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException as error:
        if not {swallowed}:
            raise SystemError("initialization raised an unreported exception") from error
    from orchestrator.running.stop import StopRequest
    return 75 if StopRequest().received else 0
sys.exit(guarded(command))
"""
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 75
    assert "Traceback" not in process.stderr


def test_an_error_that_is_no_stop_is_shown() -> None:
    program = "from orchestrator.process import guarded; guarded(lambda: 1 / 0)"
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 1
    assert "ZeroDivisionError" in process.stderr
