"""Every protocol and variant against a plain transformers loop that shares no code with this."""

from pathlib import Path

import pytest

from orchestrator.comparison_schema import Comparison
from tests import oracle
from tests.pipeline import make_test_plan, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

LENGTH = 48
STRIDE = 20
VARIANTS = ("fp16", "int8", "nf4", "nf4-dq", "bf16")


@pytest.fixture(scope="module", params=[False, True], ids=["no-bos", "bos"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"), bos=request.param)


@pytest.fixture(scope="module", params=oracle.PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def comparison(model: Path, protocol: str, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("run")
    plan = make_test_plan(
        model=str(model),
        variants=VARIANTS,
        protocol=protocol,
        window_length=LENGTH,
        stride=STRIDE,
        max_prompts=0,
        results=folder,
        **write_inputs(folder, SAMPLE_ROWS),
    )
    return run_in_process(plan)


@pytest.mark.parametrize("variant", VARIANTS)
def test_perplexities_agree_with_a_plain_loop(
    variant: str, protocol: str, model: Path, comparison: Comparison
) -> None:
    expected = oracle.perplexities(
        model, SAMPLE_ROWS, protocol, variant=variant, length=LENGTH, stride=STRIDE
    )
    figures = comparison.variants[variant]
    assert figures.perplexity.scored_tokens == expected.scored_tokens
    assert figures.perplexity.windows == expected.windows
    assert figures.perplexity.value == pytest.approx(expected.perplexity, rel=1e-4)
    assert figures.word_perplexity.value == pytest.approx(expected.word_perplexity, rel=1e-3)
    assert figures.bits_per_byte.value == pytest.approx(expected.bits_per_byte, rel=1e-4)


def test_quantization_is_seen(comparison: Comparison) -> None:
    values = [figures.perplexity.value for figures in comparison.variants.values()]
    assert len(set(values)) == len(values)
