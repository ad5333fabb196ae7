"""4-bit tiles on a GPU that has their kernel: it multiplies what is emulated elsewhere."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from actors.kernels import linear_of
from actors.loading import load_model, prepare_arithmetic
from actors.tile_int4 import rounded
from actors.transformers_engine import TransformersEngine
from actors.weights import weight_bytes
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.stages import GenerationsPayload
from orchestrator.contract.variants import VARIANTS
from orchestrator.inputs.models import resolve_model
from orchestrator.planning.sizes import expected_weights_bytes
from tests.gpu.test_cuda_candidates import GPU
from tests.models.actors.test_streaming import PROMPTS, WINDOWS
from tests.pipeline import assignment
from tests.tiny_engines import engine_at
from tests.tiny_models import make_mistral

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0),
        reason="no CUDA device with the kernel",
    ),
]

CUDA = torch.device("cuda")
NAME = "torchao-int4-tile"
TILE = VARIANTS[NAME]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of 256 and 1,408 weights, which fill no whole tiles."""
    return make_mistral(tmp_path_factory.mktemp("model"), hidden=256, intermediate=1408, layers=2)


def test_the_kernel_multiplies_what_is_emulated_without_it(folder: Path) -> None:
    model = load_model(ModelLocation(id_or_path=str(folder)), TILE, CUDA)
    prepare_arithmetic(model, torch.bfloat16)
    assert linear_of(model) == "torchao Int4TilePackedTo4dTensor"
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    layers = dict(plain.named_modules())
    seen = 0
    for name, module in model.named_modules():
        if type(module) is torch.nn.Linear and name != "lm_head":
            one_each = torch.eye(module.in_features, dtype=torch.bfloat16, device=CUDA)
            multiplied = module(one_each).T.cpu()
            assert torch.equal(multiplied, rounded(layers[name].weight.data, 128)), name
            seen += 1
    assert seen == 14
    expected = expected_weights_bytes(resolve_model(str(folder), None).checkpoint.tensors, TILE)
    assert weight_bytes(model).total == expected


def test_it_scores_and_answers_also_by_a_graph(folder: Path) -> None:
    location = ModelLocation(id_or_path=str(folder))
    engine = engine_at(folder, GPU, "bfloat16", NAME)
    loading = engine.held.loading
    assert loading["kernel"] is None and loading["quantized_weights_bytes"] > 0
    assert loading["running_weights_bytes"] == loading["weights_bytes"]
    elsewhere = TransformersEngine(assignment(location, NAME, "float32"))
    found, emulated = (
        torch.tensor(one.evaluate(WINDOWS)["negative_log_likelihood"].to_pylist())
        for one in (engine, elsewhere)
    )
    # Activations in bfloat16 against float32.
    assert torch.allclose(found, emulated, rtol=0.02)
    payload = GenerationsPayload(
        first_item=0, prompts=PROMPTS, max_new_tokens=8, decodings=("eager", "graph")
    )
    rows = engine.evaluate(payload)
    assert rows["graph_refusal"].null_count == len(rows)
