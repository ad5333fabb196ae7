"""Divergence on a real GPU: the numbers of the full logits, in bounded memory."""

from pathlib import Path

import numpy as np
import pytest
import torch

from actors.head import Head, StateReader, States
from actors.loading import load_model, prepare_arithmetic
from actors.token_divergence import compare_logits, compare_positions
from actors.token_measures import TokenMeasures
from orchestrator.contract.shards import ModelLocation, Window
from orchestrator.contract.variants import VARIANTS
from tests import oracle
from tests.ruled_out import assert_as_by_scipy, ruled_out
from tests.tiny_models import make_tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

if torch.cuda.is_available():
    from actors.fused_divergence import compare_logits_fused

GPU = torch.device("cuda")
IDS = tuple(np.random.default_rng(0).integers(2, 512, 100).tolist())
WINDOW = Window.scored_from(IDS, 1)


def reader(folder: Path, variant: str, dtype: torch.dtype) -> StateReader:
    model = load_model(ModelLocation(id_or_path=str(folder)), VARIANTS[variant], GPU)
    prepare_arithmetic(model, dtype)
    return StateReader(model, GPU)


def assert_as_defined(
    found: TokenMeasures, p: torch.Tensor, q: torch.Tensor, targets: list[int]
) -> None:
    for name, values in oracle.token_measures(p.double().cpu(), q.double().cpu(), targets).items():
        measured = getattr(found, name).cpu().numpy()
        np.testing.assert_allclose(measured, values, atol=1e-5, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["fp16", "int8", "nf4"])
def test_measures_are_those_of_the_full_logits(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path)
    readers = [reader(folder, variant, dtype) for variant in ("fp16", name)]
    p, q = (each.states(WINDOW) for each in readers)
    targets = torch.tensor(WINDOW.target_ids, device=GPU)
    with torch.inference_mode():
        found = compare_positions(
            p.logits, q.logits, targets, q.vocabulary, p.logit_bytes + q.logit_bytes
        )
        full = [each._model(torch.tensor([IDS], device=GPU)).logits[0, :-1] for each in readers]
    assert_as_defined(found, full[0], full[1], list(WINDOW.target_ids))
    if name == "fp16":
        assert float(found.kl.abs().max()) <= 1e-6
        assert bool(found.same_top_token.all())


@pytest.mark.parametrize("vocabulary", [32_000, 151_936, 262_144])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("fused", [True, False])
def test_extra_memory_is_bounded_whatever_the_vocabulary(
    fused: bool, vocabulary: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fused:
        monkeypatch.setattr("actors.token_divergence.find_spec", lambda _: None)
    positions, hidden = 2048, 256
    weight = torch.randn(vocabulary, hidden, device=GPU, dtype=dtype)
    head = Head(weight, None, (("softcap", 30.0),))
    reference, candidate = (
        States(torch.randn(positions, hidden, device=GPU, dtype=dtype), head) for _ in range(2)
    )
    targets = torch.zeros(positions, dtype=torch.int64, device=GPU)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode():
        compare_positions(
            reference.logits,
            candidate.logits,
            targets,
            vocabulary,
            reference.logit_bytes + candidate.logit_bytes,
        )
    assert torch.cuda.max_memory_allocated() - before < 256 * 2**20


@pytest.mark.parametrize("vocabulary", [17, 4096, 32_000, 151_936])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_both_kernels_are_the_definition(vocabulary: int, dtype: torch.dtype) -> None:
    generator = torch.Generator(device=GPU).manual_seed(vocabulary)
    p = 4 * torch.randn(37, vocabulary, device=GPU, generator=generator)
    q = (p + 0.3 * torch.randn(37, vocabulary, device=GPU, generator=generator)).to(dtype)
    p = p.to(dtype)
    # Equal logits: the first of them is the top token, in both models.
    p[0], q[0] = 0, 0
    targets = torch.randint(vocabulary, (37,), device=GPU, generator=generator)
    for compare in (compare_logits, compare_logits_fused):
        assert_as_defined(compare(p, q, targets), p, q, targets.tolist())


@pytest.mark.parametrize("vocabulary", [32_000, 151_936])
def test_close_models_have_no_negative_divergence(vocabulary: int) -> None:
    p = 20 + 3 * torch.randn(200, vocabulary, device=GPU)
    q = p + 1e-3 * torch.randn(200, vocabulary, device=GPU)
    targets = torch.zeros(200, dtype=torch.int64, device=GPU)
    expected = oracle.token_measures(p.double().cpu(), q.double().cpu(), [0] * 200)
    for compare in (compare_logits, compare_logits_fused):
        found = compare(p, q, targets)
        for name in ("kl", "reverse_kl"):
            measured = getattr(found, name).cpu().numpy()
            assert measured.min() >= -1e-6
            np.testing.assert_allclose(measured, expected[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("vocabulary", [5000, 32_000])
def test_both_kernels_take_what_both_rule_out_for_no_difference(vocabulary: int) -> None:
    p, q = ruled_out(vocabulary)
    # A first block of nothing else.
    p[1, :4600], q[1, :4600] = -float("inf"), -float("inf")
    targets = torch.full((4,), vocabulary - 1, device=GPU)
    for compare in (compare_logits, compare_logits_fused):
        assert_as_by_scipy(compare(p.to(GPU), q.to(GPU), targets), p, q)


def test_both_kernels_show_what_is_not_a_number_in_its_own_position() -> None:
    p = torch.randn(3, 5000, device=GPU, dtype=torch.float16)
    q = p.clone()
    p[1, 4999], q[2, 3] = float("nan"), float("inf")
    for compare in (compare_logits, compare_logits_fused):
        found = compare(p, q, torch.tensor([1, 1, 1], device=GPU))
        assert found.kl.isfinite().tolist() == [True, False, False]
        assert found.reverse_kl.isfinite().tolist() == [True, False, False]


@pytest.mark.parametrize("through_head", [True, False])
def test_the_common_tokens_of_two_vocabularies_are_compared(through_head: bool) -> None:
    generator = torch.Generator(device=GPU).manual_seed(0)
    rows, common = (5120, 4999), 4999
    values = [torch.randn(41, 64, device=GPU, generator=generator) for _ in rows]
    heads = [Head(torch.randn(n, 64, device=GPU, generator=generator) / 8, None, ()) for n in rows]
    both = [States(value, head) for value, head in zip(values, heads, strict=True)]
    if not through_head:
        both = [States(states.logits(slice(None)), None) for states in both]
    p, q = (states.logits(slice(None))[:, :common] for states in both)
    one, other = (states.over(common) for states in both)
    targets = torch.randint(common, (41,), device=GPU, generator=generator)
    found = compare_positions(
        one.logits, other.logits, targets, common, one.logit_bytes + other.logit_bytes
    )
    assert_as_defined(found, p, q, targets.tolist())
