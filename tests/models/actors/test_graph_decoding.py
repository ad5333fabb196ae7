"""The step that is captured as a CUDA graph says what `generate` says; here it runs uncaptured."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.decoding import EagerDecoder, prepare_generation
from actors.graph_decoding import CannotCaptureError, GraphDecoder
from actors.loading import load_model
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variants import VARIANTS
from orchestrator.errors import BadInputError
from orchestrator.inputs.sources import read_inputs
from orchestrator.planning.devices import Devices
from orchestrator.planning.plan import make_plan
from orchestrator.settings import Settings
from orchestrator.settings_layers import resolve_settings
from tests.pipeline import write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import edit_json, make_tiny_model

CPU = torch.device("cpu")


def load(folder: Path) -> Any:
    """A model that is ready to generate, and runs to the limit."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prepare_generation(model, AutoTokenizer.from_pretrained(folder))
    model.generation_config.eos_token_id = None
    return model


def decoders(model: Any) -> tuple[EagerDecoder, GraphDecoder]:
    return EagerDecoder(model, CPU), GraphDecoder(model, CPU, capture=False)


@pytest.mark.parametrize(
    ("architecture", "window"),
    [
        ("llama", None),
        ("mistral", None),
        ("mistral", 8),
        ("qwen2", None),
        ("gemma2", None),
        ("gemma2", 8),
        ("cohere", None),
    ],
)
def test_answers_are_those_of_generate(
    architecture: str, window: int | None, tmp_path: Path
) -> None:
    """Also where a window slides: within the prompt, within the answer, and past both."""
    folder = make_tiny_model(tmp_path, architecture=architecture)
    if window is not None:
        edit_json(folder / "config.json", sliding_window=window)
    eager, graph = decoders(load(folder))
    graph.prepare(40 + 24)
    # Longer ones first: what a cache held before must not show.
    for length in (40, 3, 12):
        prompt = list(range(40, 40 + length))
        expected = eager.decode(prompt, 24)
        found = graph.decode(prompt, 24)
        assert found.token_ids == expected.token_ids
        assert len(found.token_seconds) == len(expected.token_seconds) == 24
        assert not found.broken


def test_an_answer_ends_behind_its_end_token(tmp_path: Path) -> None:
    model = load(make_tiny_model(tmp_path))
    free = EagerDecoder(model, CPU).decode(range(40, 50), 16).token_ids
    for end in (free[0], free[5]):
        model.generation_config.eos_token_id = [end, 399]
        eager, graph = decoders(model)
        graph.prepare(26)
        expected = free[: free.index(end) + 1]
        for decoder in (eager, graph):
            found = decoder.decode(range(40, 50), 16)
            assert found.token_ids == expected
            assert len(found.token_seconds) == len(expected)


def test_a_longer_answer_than_prepared_for_is_prepared_for_again(tmp_path: Path) -> None:
    eager, graph = decoders(load(make_tiny_model(tmp_path)))
    graph.prepare(20)
    assert graph.decode(range(40, 50), 5).token_ids == eager.decode(range(40, 50), 5).token_ids
    graph.prepare(300)
    prompt = [40 + number % 300 for number in range(280)]
    assert graph.decode(prompt, 10).token_ids == eager.decode(prompt, 10).token_ids


def test_logits_that_are_no_numbers_are_noted(tmp_path: Path) -> None:
    model = load(make_tiny_model(tmp_path))
    model.model.norm.weight.data[:] = float("nan")
    for decoder in decoders(model):
        if isinstance(decoder, GraphDecoder):
            decoder.prepare(20)
        assert decoder.decode(range(40, 50), 4).broken


def test_llm_int8_is_refused_since_its_columns_depend_on_values(tmp_path: Path) -> None:
    location = ModelLocation(id_or_path=str(make_tiny_model(tmp_path)))
    model = load_model(location, VARIANTS["int8"], CPU)
    with pytest.raises(CannotCaptureError, match=r"LLM\.int8 chooses columns by their values"):
        GraphDecoder(model, CPU, capture=False)


def test_a_model_with_another_cache_is_refused(tmp_path: Path) -> None:
    model = load(make_tiny_model(tmp_path, architecture="mamba"))
    with pytest.raises(CannotCaptureError, match="not of keys and values alone"):
        GraphDecoder(model, CPU, capture=False)


def test_a_gpu_answers_both_ways_and_a_cpu_one_way_unless_told(tmp_path: Path) -> None:
    given = {
        **write_inputs(tmp_path, SAMPLE_ROWS),
        "model": str(make_tiny_model(tmp_path / "model")),
        "variants": ("fp16",),
    }
    cpu, gpu = Devices("cpu", 1, None, node_cores=1), Devices("cuda", 1, 2**34, node_cores=4)

    def ways(devices: Devices, **settings: Any) -> set[tuple[str, ...]]:
        chosen = Settings(**given, **settings)
        plan = make_plan(chosen, read_inputs(chosen), devices)
        shards = [shard for shard in plan.shards if shard.record.stage == "generations"]
        return {shard.payload.decodings for shard in shards}  # type: ignore[union-attr]

    assert ways(cpu) == {("eager",)}
    assert ways(gpu) == {("eager", "graph")}
    assert ways(gpu, decoding=("graph",)) == {("graph",)}
    with pytest.raises(BadInputError, match="--decoding: graph needs a CUDA device"):
        ways(cpu, decoding=("eager", "graph"))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"decoding": ("eager", "eager")}, "--decoding: a way is named twice"),
        ({"decoding": ()}, "--decoding: name at least one"),
        ({"decoding": ("fast",)}, "--decoding: Input should be 'eager' or 'graph'"),
        ({"repeats": 0}, "--repeats: Input should be greater than or equal to 1"),
    ],
)
def test_impossible_ways_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInputError, match=problem):
        resolve_settings(given)
