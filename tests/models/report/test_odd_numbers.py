"""A report is written whatever the figures are: none, one, all equal, all zero, absurd."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.comparison_schema import Comparison
from orchestrator.report.contents import Report
from orchestrator.report.html import render_html
from orchestrator.report.pictures.canvas import draw
from orchestrator.report.write import write_report
from orchestrator.storage.results_folder import run_at
from tests.pipeline import FinishedRun, judgement_of

# What an axis is told of such numbers is no concern of a reader's.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")

_ODD = (0.0, -0.0, 1.0, -1.0, 1e-300, 1e300, -1e300, math.inf, -math.inf, math.nan)


def with_numbers(content: Any, number: Callable[[], float]) -> Any:
    """The same comparison with another number wherever one is measured."""
    match content:
        case dict():
            kept = ("from", "to", "factor", "resolution", "kl_threshold", "confidence")
            return {
                key: value if key in kept else with_numbers(value, number)
                for key, value in content.items()
            }
        case list():
            return [with_numbers(value, number) for value in content]
        case float():
            return number()
        case _:
            return content


def content_of(comparison: Comparison) -> Any:
    return json.loads(comparison.model_dump_json(by_alias=True))


def report_of(content: Any) -> Report:
    comparison = Comparison.model_validate(content)
    return Report(comparison, judgement_of(comparison, "kl.mean <= 0.05 by category"))


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-300, 1e300, math.inf, math.nan])
def test_figures_that_are_all_one_number_make_a_report(
    value: float, finished_run: FinishedRun, tmp_path: Path
) -> None:
    report = report_of(with_numbers(content_of(finished_run.comparison), lambda: value))
    write_report(run_at(tmp_path), report.comparison, report.judgement)
    assert "</html>" in (tmp_path / "report.html").read_text()
    if math.isfinite(value) and abs(value) <= 1:
        assert not [plot.failure for plot in report.plots.values() if plot.failure]


@pytest.mark.parametrize("seed", range(4))
def test_figures_of_all_kinds_make_a_report(seed: int, finished_run: FinishedRun) -> None:
    draw_from = random.Random(seed)
    content = with_numbers(
        content_of(finished_run.comparison), lambda: draw_from.choice((*_ODD, 0.3, 17.0))
    )
    assert "</html>" in render_html(report_of(content))


def test_a_run_of_nothing_or_of_the_reference_alone_makes_a_report(
    finished_run: FinishedRun,
) -> None:
    content = content_of(finished_run.comparison)
    alone = {**content, "variants": {"fp16": content["variants"]["fp16"]}, "pairs": []}
    nothing = json.loads(json.dumps(alone))
    figures = nothing["variants"]["fp16"]
    for measure in (figures[name] for name in ("perplexity", "word_perplexity", "bits_per_byte")):
        measure.update(value=None, stderr=None, interval=None, delta_pct=None)
    nothing["noise_floor"] = nothing["timeline"] = None
    for each in (alone, nothing):
        report = report_of(each)
        assert "</html>" in render_html(report)
        assert not [plot.failure for plot in report.plots.values() if plot.failure]


def test_a_picture_that_fails_is_a_note_on_the_page(
    finished_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Any) -> None:
        raise ValueError("no such axis")

    plot = draw("perplexity", "Perplexity", "Points.", 2.0, fails)
    assert plot.file is None
    report = report_of(content_of(finished_run.comparison))
    report.plots["perplexity"] = plot
    page = render_html(report)
    assert "Perplexity: this picture could not be drawn (no such axis)" in page
