"""What sections begin with: a difference is claimed where no other reading is left."""

from typing import Any

import pytest

from orchestrator.comparison_schema import Comparison
from orchestrator.report import claims
from tests.pipeline import FinishedRun


def with_change(comparison: Comparison, **by_variant: Any) -> Comparison:
    """The comparison with other changes of perplexity and speed."""
    content = comparison.model_dump(by_alias=True)
    for name, interval in by_variant.items():
        value = None if interval is None else sum(interval) / 2
        figures = content["variants"][name]
        changed = {"delta_pct": value, "delta_pct_interval": interval}
        figures["perplexity"].update(changed)
        figures["generation"]["latency"]["eager"]["tokens_per_second"].update(changed)
    return Comparison.model_validate(content)


@pytest.mark.parametrize(
    ("int8", "nf4", "expected"),
    [
        ((1.0, 2.0), (-4.0, -2.0), "higher with int8 (+1.50% [+1.00, +2.00]); lower with nf4 (-3."),
        ((-1.0, 2.0), (-4.0, 2.0), "not shown to differ with int8, nf4."),
        ((-1.0, 2.0), None, "not shown to differ with int8; not compared with nf4."),
        ((0.0, 2.0), (0.5, 2.0), "higher with nf4 (+1.25% [+0.50, +2.00]); not shown to differ"),
    ],
)
def test_perplexity_differs_where_its_interval_holds_no_zero(
    int8: Any, nf4: Any, expected: str, finished_run: FinishedRun
) -> None:
    said = claims.of_perplexity(with_change(finished_run.comparison, int8=int8, nf4=nf4))
    assert said.startswith("Perplexity, beside fp16's: " + expected)


def test_speed_is_told_by_way_of_decoding(finished_run: FinishedRun) -> None:
    changed = with_change(finished_run.comparison, int8=(-50.0, -40.0), nf4=(-1.0, 9.0))
    assert claims.of_speed(changed) == (
        "Tokens per second, beside fp16's: fewer with int8 (-45.0% [-50.0, -40.0]); "
        "not shown to differ with nf4."
    )
    both = changed.provenance.model_copy(update={"decodings": ["eager", "graph"]})
    assert claims.of_speed(changed.model_copy(update={"provenance": both})) == (
        "Tokens per second, beside fp16's: fewer with int8 by eager (-45.0% [-50.0, -40.0]); "
        "not shown to differ with nf4 by eager."
    )


def test_a_run_of_the_reference_alone_compares_nothing(finished_run: FinishedRun) -> None:
    comparison = finished_run.comparison
    alone = comparison.model_copy(
        update={"variants": {"fp16": comparison.variants["fp16"]}, "pairs": []}
    )
    assert claims.of_perplexity(alone) == "Perplexity, beside fp16's: nothing was compared."
    assert claims.of_divergence(alone) == "No divergence was measured."
    assert claims.of_categories(alone) == "No answers were compared by category."
