"""Signals while Ray starts and once it has: a line, a status, and nothing left."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest


@pytest.mark.parametrize(
    ("seconds", "number"),
    [
        (0.4, signal.SIGINT),
        (0.8, signal.SIGTERM),
        (1.2, signal.SIGHUP),
        (1.6, signal.SIGINT),
        (3.0, signal.SIGTERM),
    ],
)
def test_a_signal_before_the_first_shard_is_a_line_and_leaves_nothing(
    seconds: float, number: signal.Signals, tmp_path: Path
) -> None:
    mark = {"STARTED_BY": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "--results", str(tmp_path), "--max-prompts", "1"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **mark},
    ) as process:
        time.sleep(seconds)
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 75, error
    assert "To go on: python -m orchestrator" in error or "To resume: " in error
    assert "Traceback" not in error
    deadline = time.monotonic() + 20
    while (left := processes_with(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left


def test_a_signal_once_ray_has_started_is_a_line_and_nothing_of_rays() -> None:
    """Ray's handler in C would print a stack, and abort the process three seconds later."""
    script = """
import os, signal, sys
from orchestrator.process import guarded
from orchestrator.running.ray_cluster import connected
from orchestrator.settings_layers import resolve_settings

def command():
    with connected(resolve_settings({})):
        os.kill(os.getpid(), signal.SIGTERM)

sys.exit(guarded(command))
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 75, found.stderr
    assert found.stderr.startswith("stopped. To go on: ")


def processes_with(mark: dict[str, str]) -> list[str]:
    """The processes that have such an environment: the command's, and all that it started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if mark.items() <= process.environ().items():
                found.append(process.name())
    return found
