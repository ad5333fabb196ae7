"""The real command line, in a process of its own, on real Ray."""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.pipeline import write_inputs
from tests.tiny_models import SAMPLE_ROWS, make_tiny_model


def run_cli(
    arguments: Sequence[str], timeout_seconds: float = 240
) -> "subprocess.CompletedProcess[str]":
    """Runs `python -m orchestrator` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


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
