"""What the pictures of costs show: thresholds, a scale, and variants whose KL is 0."""

import re

import pytest

from orchestrator.comparison_schema import Comparison
from orchestrator.report.contents import Report
from tests.pipeline import FinishedRun, judgement_of


def drawn(comparison: Comparison, *gates: str) -> dict[str, str]:
    plots = Report(comparison, judgement_of(comparison, *gates)).plots
    assert not [plot.failure for plot in plots.values() if plot.failure]
    return {name: plot.svg for name, plot in plots.items()}


def identical(comparison: Comparison, name: str) -> Comparison:
    """The comparison with a variant that predicts what the reference does."""
    content = comparison.model_dump(by_alias=True)
    kl = content["variants"][name]["kl"]
    kl["mean"].update(value=0.0, interval=(0.0, 0.0), stderr=0.0)
    kl["identical"] = True
    return Comparison.model_validate(content)


@pytest.mark.parametrize(
    ("gate", "where"), [("kl.mean <= 0.05", True), ("kl.mean <= 0.05 in Coding", False)]
)
def test_what_the_rule_asks_of_all_is_a_line(
    gate: str, where: bool, finished_run: FinishedRun
) -> None:
    categories = finished_run.comparison.variants["fp16"].generation.by_category
    picture = drawn(finished_run.comparison, gate.replace("Coding", next(iter(categories))))
    assert ("asked: 0.05" in picture["tradeoff-size"]) == where


def test_formats_that_everybody_knows_stand_at_the_edge(finished_run: FinishedRun) -> None:
    picture = drawn(finished_run.comparison)["tradeoff-size"]
    assert re.search(r"– Q\d", picture)


def test_a_kl_of_nothing_is_marked_and_stretches_no_axis(finished_run: FinishedRun) -> None:
    pictures = drawn(identical(finished_run.comparison, "nf4"))
    picture = pictures["tradeoff-size"]
    assert "nf4 (KL 0)" in picture
    assert "1e-08" not in picture
    # Its curve has no place on a logarithmic axis either.
    assert "nf4" not in pictures["kl"]
    assert "int8" in pictures["kl"]


def test_a_change_is_drawn_against_none_and_what_is_asked(finished_run: FinishedRun) -> None:
    comparison = finished_run.comparison
    plain, asked = (
        drawn(comparison, *gates)["perplexity"]
        for gates in (("kl.mean <= 1",), ("perplexity_delta_pct <= 5%",))
    )
    assert "change of perplexity against fp16, %" in plain
    assert plain != asked
    alone = {"variants": {"fp16": comparison.variants["fp16"]}, "pairs": []}
    assert "perplexity" not in drawn(comparison.model_copy(update=alone))
