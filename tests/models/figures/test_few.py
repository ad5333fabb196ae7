"""Of few prompts or windows nobody can tell: no interval, no claim, no verdict."""

from pathlib import Path

import pytest

from orchestrator.comparison_schema import Comparison, GenerationFigures, Measure
from orchestrator.report import claims, sentences
from orchestrator.report.contents import Report
from orchestrator.report.html import render_html
from orchestrator.report.markdown import render_markdown
from orchestrator.report.tables import formats
from tests.pipeline import FinishedRun, judgement_of, make_test_plan, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two categories of two prompts, and two windows."""
    folder: Path = tmp_path_factory.mktemp("few")
    return run_in_process(
        make_test_plan(
            **write_inputs(folder / "inputs", SAMPLE_ROWS, prompts=4),
            model=str(make_tiny_model(folder / "model")),
            variants=("fp16", "nf4"),
            max_windows=2,
            max_new_tokens=4,
            results=folder,
            run_id="r",
        )
    )


def measures_of(figures: GenerationFigures) -> list[Measure]:
    latency = figures.latency["eager"]
    return [
        *(figures.seconds, figures.tokens_per_second, figures.new_tokens),
        *(figures.kl_along_reference, figures.same_top_token_along_reference),
        *(figures.identical_answers, latency.seconds, latency.tokens_per_second),
    ]


def test_fewer_than_five_prompts_have_no_interval(
    few: Comparison, finished_run: FinishedRun
) -> None:
    answers = few.variants["nf4"].generation
    for figures, n in ((answers, 4), (answers.by_category["A"], 2)):
        for measure in measures_of(figures):
            assert measure.n == n
            assert measure.value is not None
            assert measure.interval is None
        assert figures.seconds.delta_pct_interval is None
    assert answers.categories_beyond == []
    enough = finished_run.comparison.variants["nf4"].generation.by_category["A"]
    assert enough.prompts == 5
    assert all(measure.interval for measure in measures_of(enough))


def test_fewer_than_three_windows_have_none_either(
    few: Comparison, finished_run: FinishedRun
) -> None:
    figures = few.variants["nf4"]
    assert figures.kl is not None
    for measure in (figures.perplexity, figures.kl.mean, figures.same_top_token):
        assert measure is not None
        assert (measure.n, measure.interval) == (2, None)
    assert finished_run.comparison.variants["nf4"].perplexity.interval is not None


def test_gates_over_few_are_undecided_and_say_how_many_there_are(few: Comparison) -> None:
    judgement = judgement_of(few, "kl.mean <= 100 by category", "kl.mean <= 100", "seconds <= 100")
    assert {(r.verdict, r.reason) for r in judgement.results if r.category} == {
        ("undecided", "too few: 2 prompts")
    }
    whole = {r.gate: r.reason for r in judgement.results if not r.category}
    assert whole == {"kl.mean <= 100": "too few: 2 windows", "seconds <= 100": "too few: 4 prompts"}
    assert not judgement.passed


def test_the_report_says_how_many_there_are_and_claims_nothing(few: Comparison) -> None:
    report = Report(few, judgement_of(few))
    by_category = [table for name, table in report.tables.items() if name.startswith("categor")]
    assert len(by_category) == 5
    for table in by_category:
        heads = [column.head for column in table.columns]
        assert {row[heads.index("prompts")].value for row in table.rows} == {2}
        for place, head in enumerate(heads):
            if head == "change":
                assert {row[place].text for row in table.rows} == {formats.TOO_FEW}
                assert all(row[place].value is not None for row in table.rows)
    too_few = "Too few prompts to tell: at most 2 a category, of at least 5."
    assert claims.of_categories(few) == too_few
    page, once = render_html(report), "Fewer than 5 prompts in a category are too few to tell"
    assert once in render_markdown(report)
    assert page.count("oo few prompts") == 1
    said = sentences.of_categories(few.variants["nf4"].generation, "nf4", few)
    assert said == "nf4: too few prompts a category to tell (at most 2)."
    page = render_html(report)
    assert "A (2)" in page and too_few in page
    assert "not compared with nf4" in claims.of_speed(few)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.1, 0.5), "0.30 ± 0.20"),
        ((-0.3, 0.9), "0.30 [-0.30, 0.90]"),
        ((0.3, 0.3), "0.30"),
        (None, "0.30"),
    ],
)
def test_an_interval_wider_than_its_figure_is_not_printed_with_a_plus_or_minus(
    interval: tuple[float, float] | None, expected: str
) -> None:
    assert formats.measure(Measure(value=0.3, stderr=None, interval=interval, n=9)) == expected
