"""`--cluster none`: a sweep in one process, for notebooks, for debugging, and where Ray is not."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import ExitStatus
from orchestrator.runs.finished import read_run
from orchestrator.settings import Settings
from orchestrator.storage.results_folder import run_at
from orchestrator.sweep import run_sweep
from tests.commands import flags_of
from tests.pipeline import make_test_plan, run_in_process, write_inputs
from tests.places import REPOSITORY
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        **write_inputs(folder, SAMPLE_ROWS),
        "model": str(make_tiny_model(folder / "model")),
        "variants": ("fp16", "int8", "nf4"),
        "max_windows": 4,
        "max_new_tokens": 4,
        "run_id": "r",
    }


def flags(inputs: dict[str, Any], results: Path) -> list[str]:
    return flags_of(**inputs, cluster="none", results=results)


def test_it_gives_the_figures_of_any_other_and_imports_no_ray(
    inputs: dict[str, Any], tmp_path: Path
) -> None:
    script = (
        "import sys; from orchestrator.cli import run_command; "
        "status = run_command(sys.argv[1:]); assert 'ray' not in sys.modules; sys.exit(status)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, *flags(inputs, tmp_path / "none")],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert "on 1 cpu actor\n" in found.stderr
    mine = read_run(run_at(tmp_path / "none" / "r")).comparison
    other = run_in_process(make_test_plan(**inputs, results=tmp_path / "other"))
    assert mine.complete
    for name, figures in other.variants.items():
        assert mine.variants[name].perplexity.value == pytest.approx(
            figures.perplexity.value, rel=1e-6
        )
        assert mine.variants[name].generation.succeeded == figures.generation.succeeded
    assert mine.timeline is not None
    assert len(mine.timeline.devices) == 1


def test_it_runs_off_the_main_thread_and_resumes(inputs: dict[str, Any], tmp_path: Path) -> None:
    first = Settings(**{**inputs, "variants": ("fp16",)}, cluster="none", results=tmp_path)
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(run_sweep(first)))
    thread.start()
    thread.join()
    shards = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.arrow")}
    assert shards
    # Nothing is left to do.
    statuses.append(run_sweep(first))
    assert statuses == [ExitStatus.DONE, ExitStatus.DONE]
    assert shards == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.arrow")}
