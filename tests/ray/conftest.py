"""The real command line, in a process of its own, on real Ray."""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.pipeline import write_inputs
from tests.tiny_models import SAMPLE_ROWS, make_tiny_model


def start_cli(arguments: Sequence[str]) -> "subprocess.Popen[str]":
    """Starts `python -m orchestrator`, its two outputs in pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def run_cli(
    arguments: Sequence[str], timeout_seconds: float = 240
) -> "subprocess.CompletedProcess[str]":
    """Runs `python -m orchestrator` to its end."""
    with start_cli(arguments) as process:
        try:
            out, error = process.communicate(timeout=timeout_seconds)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


@pytest.fixture(scope="session")
def tiny_sweep(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags of a sweep over a tiny model: 25 windows or so, 6 prompts, two variants."""
    folder = tmp_path_factory.mktemp("inputs")
    inputs = write_inputs(folder, SAMPLE_ROWS, prompts=6)
    return [
        *("--model", str(make_tiny_model(folder / "model"))),
        *("--dataset", inputs["dataset"]),
        *("--prompts", inputs["prompts"]),
        *("--max-new-tokens", "8", "--variants", "fp16,nf4"),
    ]
