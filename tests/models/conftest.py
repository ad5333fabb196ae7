"""A finished run that many tests read, made once."""

from pathlib import Path

import pytest

from orchestrator.comparison_schema import Comparison
from tests.pipeline import FinishedRun, make_test_plan, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """FP16, LLM.int8 and NF4 of a tiny model: 6 windows, 10 prompts in two categories."""
    folder: Path = tmp_path_factory.mktemp("finished")
    comparison: Comparison = run_in_process(
        make_test_plan(
            **write_inputs(folder / "inputs", SAMPLE_ROWS, prompts=10),
            model=str(make_tiny_model(folder / "model")),
            variants=("fp16", "int8", "nf4"),
            max_windows=6,
            max_new_tokens=8,
            repeats=2,
            batch_sizes=(1, 2),
            results=folder,
            run_id="r",
        )
    )
    return FinishedRun(folder / "r", comparison)
