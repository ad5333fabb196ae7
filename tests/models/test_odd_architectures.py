"""Models whose code is unlike others': scored like any other, or refused in one line, once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from scipy.special import log_softmax

from actors.actor import ModelActor
from actors.engine import ENGINES
from actors.roofline import roofline_of
from actors.transformers_engine import TransformersEngine
from orchestrator.comparison_schema import Comparison
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variant_errors import CannotLoadError
from orchestrator.planning.plan import Plan
from tests import oracle
from tests.pipeline import (
    RecordingPool,
    assignment,
    make_test_plan,
    run_as_far_as_it_goes,
    write_inputs,
)
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model, save_random_model

_TOKENS: dict[str, Any] = {"vocab_size": 512, "bos_token_id": 0, "eos_token_id": 1}
_CONFIGS = {
    "rwkv": lambda: hf.RwkvConfig(
        **_TOKENS,
        hidden_size=64,
        num_hidden_layers=2,
        attention_hidden_size=64,
        intermediate_size=128,
        context_length=256,
    ),
    "recurrent-gemma": lambda: hf.RecurrentGemmaConfig(
        **_TOKENS,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        lru_width=64,
        attention_window_size=64,
        pad_token_id=None,
    ),
    "openai-gpt": lambda: hf.OpenAIGPTConfig(
        vocab_size=512, n_embd=64, n_layer=2, n_head=4, n_positions=128
    ),
    "mpt": lambda: hf.MptConfig(
        **_TOKENS,
        pad_token_id=None,
        d_model=64,
        n_layers=2,
        n_heads=4,
        max_seq_len=128,
        logit_scale="inv_sqrt_d_model",
    ),
}
_MAMBA = hf.MambaConfig(**_TOKENS, hidden_size=64, num_hidden_layers=2, pad_token_id=None)
LENGTH = 100


def save(config: Any, folder: Path) -> Path:
    return save_random_model(config, folder, make_tiny_model(folder.parent / "tokenizer", "llama"))


def run(folder: Path, tmp_path: Path, *variants: str) -> tuple[Plan, Comparison, set[str]]:
    plan = make_test_plan(
        **write_inputs(tmp_path / "inputs", SAMPLE_ROWS),
        model=str(folder),
        variants=("fp16", *variants),
        window_length=LENGTH,
        max_windows=3,
        max_prompts=2,
        max_new_tokens=4,
        batch_sizes=(2,),
        results=tmp_path / "results",
    )
    return plan, *run_as_far_as_it_goes(plan)


@pytest.mark.parametrize("name", _CONFIGS)
def test_a_model_of_another_memory_or_other_words_is_scored(name: str, tmp_path: Path) -> None:
    folder = save(_CONFIGS[name](), tmp_path / "model")
    plan, comparison, given_up = run(folder, tmp_path, "int8", "nf4")
    assert not given_up
    windows = plan.inputs.windows
    found = oracle.scored_logits(folder, "fp16", windows)
    losses = [
        -log_softmax(logits, axis=-1)[np.arange(len(w.target_ids)), list(w.target_ids)]
        for logits, w in zip(found, windows, strict=True)
    ]
    figures = comparison.variants["fp16"]
    expected = np.exp(np.concatenate(losses).mean())
    assert figures.perplexity.value == pytest.approx(expected, rel=1e-4)
    for variant in ("int8", "nf4"):
        assert comparison.variants[variant].kl
    assert all(v.generation.prompts == 2 for v in comparison.variants.values())


@pytest.mark.parametrize("variant", ["int8", "nf4"])
def test_what_cannot_be_made_ready_is_told_once_in_one_line(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    start = RecordingPool.start

    def counted(pool: RecordingPool, gpus: int) -> Any:
        started.append(gpus)
        return start(pool, gpus)

    monkeypatch.setattr(RecordingPool, "start", counted)
    _, comparison, given_up = run(save(_MAMBA, tmp_path / "model"), tmp_path, variant)
    (reason,) = given_up
    assert reason.startswith(f"variant {variant} of {tmp_path / 'model'} cannot be made ready (")
    assert reason.endswith("leave it out, or take other versions of the libraries")
    assert "\n" not in reason
    assert comparison.variants["fp16"].perplexity.value
    # Not tried again in a process of its own.
    assert len(started) <= 2


@pytest.mark.parametrize("place", ["made", "described"])
def test_what_a_library_raises_is_no_traceback(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Any) -> Any:
        raise AttributeError("no such thing\nand more")

    if place == "made":
        monkeypatch.setitem(ENGINES, "plain", fails)
    else:
        monkeypatch.setattr(TransformersEngine, "describe", fails)
    folder = make_tiny_model(tmp_path)
    chosen = assignment(ModelLocation(id_or_path=str(folder)), "fp16")
    told = r"^variant fp16 of .* cannot be made ready \(AttributeError: no such thing\); leave"
    with pytest.raises(CannotLoadError, match=told):
        ModelActor().load(chosen, describe=True)


def test_a_side_figure_that_cannot_be_had_is_none_and_said(tmp_path: Path) -> None:
    model: Any = hf.AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path))
    model.get_input_embeddings = None
    found = roofline_of(model, torch.device("cpu"))
    assert found.read_weights_bytes is None
    assert found.cache_bytes_per_token
    (problem,) = found.problems
    assert problem.startswith("the weights that a token reads (TypeError: ")
