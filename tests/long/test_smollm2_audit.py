"""A real model whose FP16 weights were once quantized: SmolLM2, of a Q4_1 file."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.integrity.audit import audit_files
from orchestrator.integrity.files import find_files
from tests.places import SHARED


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as `make_smollm2.py` makes it, of a package that it downloads."""
    maker = SHARED / "models" / "make_smollm2.py"
    if not maker.is_file():
        pytest.skip(f"there is no {maker}, which makes the model")
    folder = tmp_path_factory.mktemp("smollm2") / "model"
    made = subprocess.run([sys.executable, maker, folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"the model cannot be made here: {made.stderr[-200:]}")
    return folder


def test_smollm2_was_once_q4_1(smollm2: Path) -> None:
    audit = audit_files(find_files(str(smollm2), None, "MODEL"))
    linear = [tensor for tensor in audit.tensors if tensor.role == "linear"]
    assert len(linear) == 210
    assert {(t.family, t.block, t.names[0]) for t in linear} == {("INT4 affine", 32, "Q4_1")}
    (embedding,) = (tensor for tensor in audit.tensors if tensor.role == "embedding")
    assert embedding.names[0] == "Q8_0"
