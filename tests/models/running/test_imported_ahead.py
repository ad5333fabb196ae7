"""A process that has imported what an actor needs becomes what is started in its place."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from orchestrator.running.imported_ahead import importing

SCRIPT = """
import json, os, sys
has = "actors.transformers_engine" in sys.modules
asked = sys.stdin.read()
print(json.dumps([sys.argv, os.environ["SAID"], os.getcwd(), asked, has, __name__]), flush=True)
sys.stderr.write("to the other stream")
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    made = tmp_path / "a script.py"
    made.write_text(SCRIPT)
    return made


def imports() -> psutil.Process:
    """The process that this one started to import."""
    found = [one for one in psutil.Process().children() if "actors.imported" in one.cmdline()]
    assert len(found) == 1
    return found[0]


def run(command: str, script: Path) -> "subprocess.CompletedProcess[str]":
    """As Ray starts a worker."""
    return subprocess.run(
        ["bash", "-c", f'exec {command} "{script}" --flag "two words"'],
        input="a question",
        capture_output=True,
        text=True,
        cwd=script.parent,
        # More than goes with one message.
        env={**os.environ, "SAID": "ü" * 50_000},
        timeout=120,
    )


def test_it_runs_a_script_as_python_would_and_has_the_libraries(script: Path) -> None:
    with importing() as command:
        taken, fresh = run(command, script), run(command, script)
    for ran, has in ((taken, True), (fresh, False)):
        assert ran.returncode == 0
        assert ran.stderr == "to the other stream"
        words, said, folder, asked, found, name = json.loads(ran.stdout)
        assert words == [str(script), "--flag", "two words"]
        assert (said, folder, asked) == ("ü" * 50_000, str(script.parent), "a question")
        # It is taken over once.
        assert (found, name) == (has, "__main__")


def test_where_it_died_python_runs_the_script(script: Path) -> None:
    with importing() as command:
        imports().kill()
        ran = run(command, script)
    assert ran.returncode == 0
    assert json.loads(ran.stdout)[4] is False


def test_it_ends_with_the_context_and_with_who_started_it() -> None:
    with importing():
        process = imports()
    assert process.wait(10) is not None or not process.is_running()
    starts = """
import time
import psutil
from orchestrator.running.imported_ahead import importing
with importing():
    print(psutil.Process().children()[0].pid, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        left = psutil.Process(int(starter.stdout.readline()))
        starter.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    with suppress(psutil.NoSuchProcess):
        while left.is_running() and left.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.1)
