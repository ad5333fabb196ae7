"""Cells of the comparison → the tables of what a quantization risks, by use."""

from collections.abc import Iterator

from orchestrator.comparison_schema import Comparison, Risk, RiskReason
from orchestrator.report.tables import cells, formats
from orchestrator.report.tables.cells import VARIANT, Cell, Column, ReportTable

_USE = Column("use", "use", look="text")


def risk_tables(comparison: Comparison) -> Iterator[ReportTable]:
    """The levels, and what decided them; nothing where no use could be told of."""
    risks = {name: v.risks for name, v in comparison.variants.items() if v.risks}
    if any(risk.level != "not measured" for each in risks.values() for risk in each.values()):
        yield _levels(risks)
        yield _reasons(risks)


def _levels(risks: dict[str, dict[str, Risk]]) -> ReportTable:
    columns = [
        _USE,
        Column("told by", "categories", "no prompt speaks for it", look="text"),
        *(Column(name, f"{name}_level", look="text") for name in risks),
    ]
    uses = next(iter(risks.values()))
    rows = [
        [
            cells.text(use),
            _told_by(first),
            *(cells.text(of_variant[use].level) for of_variant in risks.values()),
        ]
        for use, first in uses.items()
    ]
    note = (
        "Low where the whole interval of every measure is, high where all of the interval of one "
        "is beyond, undecided where an interval leaves it open. Where other prompts stand in for a "
        "use's own, nothing better than no sign of risk is said. Categories, measures and "
        "thresholds are data; another file of them is named by `--uses`."
    )
    return ReportTable("risks", "What it risks, by use", columns, rows, [note])


def _told_by(risk: Risk) -> Cell:
    if not risk.categories:
        return cells.absent()
    named = ", ".join(risk.categories)
    return cells.text(f"{named} (stand in)" if risk.stands_in else named)


def _reasons(risks: dict[str, dict[str, Risk]]) -> ReportTable:
    columns = [
        _USE,
        VARIANT,
        Column("level", "level", look="text"),
        Column("by", "measure", look="text"),
        Column("of", "category", "all prompts or windows", look="text"),
        Column("measured", "measured", "not measured"),
        Column("low up to", "low"),
        Column("high beyond", "high"),
    ]
    rows = [
        [
            cells.text(use),
            cells.text(name),
            cells.text(risk.level),
            cells.text(reason.measure),
            cells.absent() if reason.category is None else cells.text(reason.category),
            _measured(reason),
            Cell(f"{reason.low:g}", reason.low),
            Cell(f"{reason.high:g}", reason.high),
        ]
        for name, of_variant in risks.items()
        for use, risk in of_variant.items()
        for reason in risk.reasons
    ]
    return ReportTable("risk_reasons", "What decided the risks", columns, rows)


def _measured(reason: RiskReason) -> Cell:
    text = formats.significant(reason.value)
    if reason.interval is not None:
        low, high = map(formats.significant, reason.interval)
        text = f"{text} [{low}, {high}]"
    return Cell(text, reason.value, reason.interval)
