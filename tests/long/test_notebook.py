"""A notebook runs a sweep: `from orchestrator import compare`."""

from pathlib import Path
from typing import Any

import pytest

from tests.pipeline import write_inputs
from tests.places import REPOSITORY
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model


def test_a_notebook_runs_it_and_shows_how_far_it_is(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    here = {
        **write_inputs(tmp_path / "inputs", SAMPLE_ROWS),
        "model": str(make_tiny_model(tmp_path / "model")),
        "variants": "fp16,nf4",
        "max_windows": 3,
        "max_prompts": 2,
        "max_new_tokens": 3,
        "results": str(tmp_path),
        "gate": "kl.mean <= 1e-9",
    }
    cells = [
        "from orchestrator import OrchestratorError, compare",
        f"result = compare(**{here!r})",
        "result",
        "result.comparison.variants['nf4'].kl.mean.n, result.judgement.passed",
        "try:\n    compare(variants='nf5')\nexcept OrchestratorError as error:\n    print(error)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbclient.NotebookClient(notebook, timeout=200, kernel_name="python3").execute(cwd=REPOSITORY)
    outputs = [cell["outputs"] for cell in notebook["cells"]]
    told = "".join(map(text_of, outputs[1]))
    assert told.index("finding the model") < told.index("fp16: loading…") < told.index("nf4:")
    assert "in all" in told
    (shown,) = outputs[2]
    page = shown["data"]["text/html"]
    assert "<table" in page and "nf4" in page and "Stay with fp16" in page
    assert outputs[3][0]["data"]["text/plain"] == "(3, False)"
    assert text_of(outputs[4][0]).startswith("--variants: unknown variant 'nf5'")


def text_of(output: Any) -> str:
    return str(output.get("text") or output["data"]["text/plain"])
