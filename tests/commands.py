"""The real command line, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.pipeline import write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model


def start_cli(arguments: Sequence[str], cores: int | None = None) -> "subprocess.Popen[str]":
    """Starts `python -m orchestrator`, its two outputs in pipes.

    Args:
        cores: that it may use; all of the machine unless given.
    """
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def run_cli(
    arguments: Sequence[str], timeout_seconds: float = 240, cores: int | None = None
) -> "subprocess.CompletedProcess[str]":
    """Runs `python -m orchestrator` to its end."""
    with start_cli(arguments, cores) as process:
        try:
            out, error = process.communicate(timeout=timeout_seconds)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def told(messages: str) -> list[str]:
    """The lines of a command's messages, less those that say what it is at."""
    return [line for line in messages.splitlines() if not line.endswith("…")]


def flags_of(**settings: Any) -> list[str]:
    """The flags that say some settings; one that is true is a flag alone."""
    words: list[str] = []
    for name, value in settings.items():
        said = ",".join(value) if isinstance(value, tuple) else str(value)
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [said])]
    return words


def tiny_sweep_flags(folder: Path) -> list[str]:
    """Flags of a sweep over a tiny model: 25 windows or so, 6 prompts, two variants."""
    inputs = write_inputs(folder, SAMPLE_ROWS, prompts=6)
    return [
        *("--model", str(make_tiny_model(folder / "model"))),
        *("--dataset", inputs["dataset"]),
        *("--prompts", inputs["prompts"]),
        *("--max-new-tokens", "8", "--variants", "fp16,nf4"),
    ]
