"""A rule as a sentence has it, and the scale that a KL is read by."""

import pytest

from orchestrator.gates.gate_measures import GATE_MEASURES
from orchestrator.gates.language import parse_gate
from orchestrator.report.rules import in_words
from orchestrator.report.tables.kl_scale import KL_OF_FORMATS, place_of


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ("perplexity_delta_pct <= 5%", "perplexity at most 5% higher"),
        ("kl.mean <= 0.05", "mean KL at most 0.05 nats"),
        ("kl.mean <= 1.0 by category", "mean KL at most 1 nat in every category"),
        ("kl.mean < 0.1 in Code Generation", "mean KL below 0.1 nats in Code Generation"),
        ("success == 1 for nf4", "nf4's answers that succeed exactly 100%"),
        ("same_top_token > 95%", "same top token above 95%"),
        ("tokens_per_second_delta_pct >= -10%", "tokens per second at most 10% lower"),
        ("tokens_per_second_delta_pct >= 20%", "tokens per second at least 20% higher"),
        ("size_bytes <= 6GiB", "size at most 6.00 GiB"),
        ("seconds <= 2.5", "seconds of an answer at most 2.5 s"),
        ("kl.p99 <= 1", "KL of 99% of the tokens at most 1 nat"),
    ],
)
def test_a_gate_reads_as_a_sentence(gate: str, expected: str) -> None:
    assert in_words(parse_gate(gate)) == expected


def test_every_measure_has_words_of_its_own() -> None:
    words = [m.words for m in GATE_MEASURES.values() if not m.name.endswith("_delta_pct")]
    assert all(words)
    assert len(set(words)) == len(words)


def test_a_kl_has_its_place_among_formats_that_everybody_knows() -> None:
    assert list(KL_OF_FORMATS.values()) == sorted(KL_OF_FORMATS.values())
    assert place_of(0.0001) == "less than Q8_0"
    assert place_of(0.02) == "between Q5_K_M and Q4_K_M"
    assert place_of(3.0) == "more than Q2_K"
