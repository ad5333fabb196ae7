"""Several runs → pages: side by side, and over time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.comparison_schema import Measure, VariantFigures
from orchestrator.gates.verdicts import Judgement
from orchestrator.report import sentences
from orchestrator.report.page import html_environment, style_sheet
from orchestrator.report.pictures.canvas import Plot, draw, look, plain, scale_logarithmically
from orchestrator.report.tables import formats
from orchestrator.report.tables.cells import ReportTable
from orchestrator.report.tables.runs_tables import over_time, side_by_side, unlike
from orchestrator.runs.finished import FinishedRun
from orchestrator.runs.history import Series
from orchestrator.runs.shifts import Shifts

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class _Section:
    heading: str
    lines: Sequence[str] = ()
    warnings: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    tables: Sequence[ReportTable] = field(default_factory=list)


@dataclass(frozen=True)
class RunsPage:
    """A page on several runs.

    Attributes:
        html: all of it.
        tables: those that it shows.
    """

    html: str
    tables: Sequence[ReportTable]


def render_side_by_side(runs: Sequence[FinishedRun]) -> RunsPage:
    """A page of several runs."""
    tables = list(side_by_side(runs))
    warnings = unlike(runs)
    sections = [_Section(table.caption, tables=[table]) for table in tables]
    if warnings:
        sections.insert(0, _Section("What is not to be compared", warnings=warnings))
    introduction = [
        "Runs stand in one table where they measured the same; changes and KL are against each "
        f"run's own reference. ± and [ ] are {_levels(runs)} intervals."
    ]
    names = ", ".join(run.name for run in runs)
    return RunsPage(_render(f"Side by side: {names}", introduction, sections), tables)


def _levels(runs: Sequence[FinishedRun]) -> str:
    """The confidence of the runs' intervals, with the runs where it is not the same in all."""
    found: dict[str, list[str]] = {}
    for run in runs:
        found.setdefault(formats.level(run.comparison.confidence), []).append(run.name)
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{level} ({', '.join(names)})" for level, names in found.items())


def render_history(
    found: Sequence[tuple[Series, Sequence[Judgement | None]]],
    shifts: Sequence[Shifts | None],
    problems: Sequence[str],
) -> RunsPage:
    """A page of each model over time."""
    tables = [over_time(series, judgements) for series, judgements in found]
    sections = [
        _Section(
            series.model,
            lines=[_measured(series), *sentences.of_shifts(changed)],
            plots=list(_plots(series, number)),
            tables=[table],
        )
        for number, ((series, _), table, changed) in enumerate(
            zip(found, tables, shifts, strict=True)
        )
    ]
    if problems:
        sections.append(_Section("Not read", warnings=problems))
    introduction = ["Each model over time, by what was measured; unlike runs share no series."]
    return RunsPage(_render("History", introduction, sections), tables)


def _measured(series: Series) -> str:
    p = series.runs[0].comparison.provenance
    return (
        f"On {p.dataset.name}, protocol {p.protocol}, windows of {p.window_length} tokens"
        f"{formats.windows_taken(p)}; at most {p.max_new_tokens} new tokens a prompt."
    )


def _render(title: str, introduction: Sequence[str], sections: Sequence[_Section]) -> str:
    return (
        html_environment()
        .get_template("runs.html.jinja")
        .render(title=title, introduction=introduction, sections=sections, style=style_sheet())
    )


def _speed(figures: VariantFigures) -> Measure | None:
    found = list(figures.own_latency.values())
    return found[0].tokens_per_second if found else None


# What is drawn over time: its name, its label, where it is, whether its axis is logarithmic.
_DRAWN: tuple[tuple[str, str, Callable[[VariantFigures], Measure | None], bool], ...] = (
    ("perplexity", "perplexity", lambda v: v.perplexity, False),
    ("kl", "mean KL, nats", lambda v: v.kl.mean if v.kl else None, True),
    ("speed", "tokens per second", _speed, False),
)


def _plots(series: Series, number: int) -> Iterator[Plot]:
    if len(series.runs) < 2:
        return
    for name, label, read, logarithmic in _DRAWN:
        lines = {
            variant: [
                (place, figure)
                for place, run in enumerate(series.runs)
                if (figures := run.comparison.variants.get(variant)) is not None
                and (figure := read(figures)) is not None
                and figure.value is not None
            ]
            for variant in series.variants
        }
        shown = {variant: points for variant, points in lines.items() if points}
        if shown:
            yield _over_time(f"history-{number}-{name}", label, series, shown, logarithmic)


def _over_time(
    name: str,
    label: str,
    series: Series,
    lines: dict[str, list[tuple[int, Measure]]],
    logarithmic: bool,
) -> Plot:
    def paint(axes: "Axes") -> None:
        for variant, points in lines.items():
            seen = look(variant, series.variants)
            places = [place for place, _ in points]
            values = [figure.value or 0.0 for _, figure in points]
            axes.plot(
                places,
                values,
                color=seen.colour,
                linestyle=seen.dash,
                marker=seen.mark,
                label=plain(variant),
            )
        names = [plain(run.name) for run in series.runs]
        axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
        if logarithmic:
            scale_logarithmically(axes, "y")
        axes.set_ylabel(label)
        axes.legend(frameon=False)

    title = f"{label} of {series.model}, run by run"
    return draw(name, title, "A line a variant, in the order of time.", 2.9, paint)
