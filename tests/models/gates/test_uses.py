"""What a quantization risks, by use: by whole intervals, and by a file that says what it may."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import run_command
from orchestrator.comparison_schema import VariantFigures
from orchestrator.errors import BadInputError, ExitStatus
from orchestrator.gates.uses import Use, check_uses, risks_of, uses_of
from orchestrator.report.contents import Report
from orchestrator.runs.finished import read_run
from orchestrator.storage.results_folder import run_at
from tests.commands import flags_of
from tests.pipeline import FinishedRun, judgement_of, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model


def figures_with(
    run: FinishedRun, readings: dict[str, tuple[float | None, tuple[float, float] | None]]
) -> VariantFigures:
    """A variant whose mean KL along the reference's answers is so, by category."""
    figures = run.comparison.variants["nf4"]
    one = figures.generation.by_category["A"]
    by_category = {
        category: one.model_copy(
            update={
                "kl_along_reference": one.kl_along_reference.model_copy(
                    update={"value": value, "interval": interval}
                )
            }
        )
        for category, (value, interval) in readings.items()
    }
    generation = figures.generation.model_copy(update={"by_category": by_category})
    return figures.model_copy(update={"generation": generation})


def use(**changes: Any) -> Use:
    content = {
        "use": "u",
        "categories": ["A"],
        "why": "so",
        "measures": [{"measure": "kl.mean", "low": 0.1, "high": 0.2}],
        **changes,
    }
    return Use.model_validate(content)


@pytest.mark.parametrize(
    ("interval", "level"),
    [
        ((0.01, 0.1), "low"),
        ((0.01, 0.11), "undecided"),
        ((0.11, 0.2), "medium"),
        ((0.15, 0.25), "undecided"),
        ((0.2, 0.25), "undecided"),
        ((0.21, 0.25), "high"),
        (None, "undecided"),
    ],
)
def test_a_level_is_that_of_the_whole_interval(
    interval: tuple[float, float] | None, level: str, finished_run: FinishedRun
) -> None:
    figures = figures_with(finished_run, {"A": (0.15, interval)})
    risk = risks_of(figures, [use()])["u"]
    assert (risk.level, risk.categories, risk.stands_in) == (level, ["A"], False)
    (reason,) = risk.reasons
    assert (reason.measure, reason.category, reason.value) == ("kl.mean", "A", 0.15)
    assert (reason.interval, reason.low, reason.high) == (interval, 0.1, 0.2)


def test_more_may_be_better(finished_run: FinishedRun) -> None:
    measures = [{"measure": "success", "low": 1.0, "high": 0.5}]
    risk = risks_of(finished_run.comparison.variants["nf4"], [use(measures=measures)])["u"]
    assert risk.level == "low"
    risk = risks_of(
        finished_run.comparison.variants["nf4"],
        [use(measures=[{"measure": "success", "low": 1.9, "high": 1.5}])],
    )["u"]
    assert risk.level == "high"


def test_the_worst_category_decides(finished_run: FinishedRun) -> None:
    low, medium, high = (0.01, (0.0, 0.05)), (0.15, (0.12, 0.18)), (0.3, (0.25, 0.4))
    unknown = (0.15, (0.0, 0.4))
    for readings, level, decided in (
        ({"A": low, "B": low}, "low", ["A", "B"]),
        ({"A": low, "B": medium}, "medium", ["B"]),
        ({"A": medium, "B": unknown}, "undecided", ["B"]),
        ({"A": unknown, "B": high}, "high", ["B"]),
    ):
        figures = figures_with(finished_run, readings)
        risk = risks_of(figures, [use(categories=["A", "B"])])["u"]
        assert (risk.level, [r.category for r in risk.reasons]) == (level, decided)


def test_what_others_stand_in_for_is_never_low(finished_run: FinishedRun) -> None:
    figures = figures_with(finished_run, {"A": (0.01, (0.0, 0.05))})
    risk = risks_of(figures, [use(categories=["own"], stand_ins=["A", "B"])])["u"]
    assert (risk.level, risk.categories, risk.stands_in) == ("no sign of risk", ["A"], True)
    worse = figures_with(finished_run, {"A": (0.3, (0.25, 0.4))})
    assert risks_of(worse, [use(categories=[], stand_ins=["A"])])["u"].level == "high"
    # Where its own are there, nothing stands in.
    both = figures_with(finished_run, {"A": (0.01, (0.0, 0.05)), "own": (0.3, (0.25, 0.4))})
    risk = risks_of(both, [use(categories=["own"], stand_ins=["A"])])["u"]
    assert (risk.level, risk.categories) == ("high", ["own"])


def test_a_use_that_nothing_tells_of_is_not_measured(finished_run: FinishedRun) -> None:
    figures = finished_run.comparison.variants["nf4"]
    risk = risks_of(figures, [use(categories=["none"], stand_ins=["neither"])])["u"]
    assert (risk.level, risk.categories, risk.reasons) == ("not measured", [], [])


def test_a_use_without_categories_is_told_by_the_whole(finished_run: FinishedRun) -> None:
    measures = [{"measure": "compression_ratio", "low": 1.0, "high": 0.1}]
    figures = finished_run.comparison.variants["nf4"]
    risk = risks_of(figures, [use(categories=[], measures=measures)])["u"]
    assert (risk.level, risk.reasons[0].category) == ("low", None)


def test_the_embedded_uses_are_of_the_embedded_prompts() -> None:
    from orchestrator.inputs.prompts import load_prompts

    categories = [prompt.category for prompt in load_prompts("suite").prompts]
    uses = uses_of(None)
    assert len(uses) == 6
    text = json.dumps([each.model_dump() for each in uses])
    check_uses(text, categories)
    assert uses_of(text) == uses


def test_every_level_can_be_traced_to_its_cells(finished_run: FinishedRun) -> None:
    uses = [use(use="a"), use(use="b", categories=["none"], stand_ins=["B"])]
    variants = {
        name: figures.model_copy(update={"risks": risks_of(figures, uses)})
        for name, figures in finished_run.comparison.variants.items()
        if name != "fp16"
    }
    comparison = finished_run.comparison.model_copy(
        update={"variants": {**finished_run.comparison.variants, **variants}}
    )
    tables = Report(comparison, judgement_of(comparison)).tables
    levels, reasons = tables["risks"], tables["risk_reasons"]
    assert [column.head for column in levels.columns] == ["use", "told by", "int8", "nf4"]
    for row in levels.rows:
        assert row[0].text in ("a", "b")
    for row in reasons.rows:
        name, measure, category = row[1].text, row[3].text, row[4].text
        assert measure == "kl.mean"
        answers = comparison.variants[name].generation.by_category[category]
        assert row[5].value == answers.kl_along_reference.value
        assert row[5].interval == answers.kl_along_reference.interval


def test_bad_files_get_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = "- {use: u, categories: [A], why: so, measures: [{measure: kl.mean, low: 0, high: 1}]}\n"
    for content, said in (
        (good.replace("kl.mean", "beauty"), "unknown measure 'beauty'"),
        (good.replace("[A]", "[Z]"), "u: no prompt has the category 'Z'; there are: A, B"),
        (good + good, "each once"),
        ("[]", "at least one use"),
        ("a: b", "--uses"),
        (good.replace("low: 0", "low: .nan"), "--uses"),
        (good.replace("why: so, ", ""), "why"),
        ("{", "cannot be read"),
        (None, "cannot be read"),
    ):
        path = tmp_path / "uses.yaml"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content)
        inputs = write_inputs(tmp_path, SAMPLE_ROWS, prompts=4)
        status = run_command(["plan", *flags_of(**inputs, model="demo", uses=path)])
        lines = [x for x in capsys.readouterr().err.splitlines() if not x.endswith("…")]
        assert status == ExitStatus.BAD_INPUT, content
        assert len(lines) == 1, lines
        assert said in lines[0]


def test_a_runs_uses_are_its_own_whatever_becomes_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "uses.yaml"
    path.write_text(
        "- {use: mine, categories: [B], why: so, measures: [{measure: success, low: 1, high: 0}]}\n"
    )
    said = flags_of(
        **write_inputs(tmp_path, SAMPLE_ROWS, prompts=2),
        model=make_tiny_model(tmp_path / "model"),
        variants=("fp16", "nf4"),
        max_windows=1,
        max_new_tokens=2,
        cluster="none",
        uses=path,
        results=tmp_path / "results",
        run_id="r",
    )
    assert run_command(said) == ExitStatus.DONE
    path.unlink()
    folder = run_at(tmp_path / "results" / "r")
    assert run_command(["report", str(folder.path)]) == ExitStatus.DONE
    variants = read_run(folder).comparison.variants
    assert variants["fp16"].risks == {}
    assert list(variants["nf4"].risks) == ["mine"]
    assert variants["nf4"].risks["mine"].level == "low"
    assert "What it risks, by use" in (folder.path / "report.html").read_text()


def test_a_run_whose_uses_are_no_json_is_refused() -> None:
    for text in ("/etc/passwd", "{", "[1]"):
        with pytest.raises(BadInputError):
            uses_of(text)
