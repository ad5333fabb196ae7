"""Cells of the comparison → the tables of what weights show of quantization before the run."""

from collections.abc import Iterator

from orchestrator.comparison_schema import Comparison, Integrity
from orchestrator.report.tables import cells
from orchestrator.report.tables.cells import Column, ReportTable

_OF = Column("weights of", "variants", look="text")


def integrity_tables(comparison: Comparison) -> Iterator[ReportTable]:
    """The tables of integrity that there is something for."""
    audited = _by_checkpoint(comparison)
    if audited:
        yield _integrity(audited)
    if any(found.findings for found in audited.values()):
        yield _findings(audited)


def _by_checkpoint(comparison: Comparison) -> dict[str, Integrity]:
    """What was found, by the variants that are made of the same weights."""
    names: dict[str, list[str]] = {}
    found: dict[str, Integrity] = {}
    for name, figures in comparison.variants.items():
        if figures.integrity is not None:
            names.setdefault(figures.checkpoint, []).append(name)
            found[figures.checkpoint] = figures.integrity
    return {", ".join(names[checkpoint]): integrity for checkpoint, integrity in found.items()}


def _integrity(audited: dict[str, Integrity]) -> ReportTable:
    columns = [
        _OF,
        Column("they show", "verdict", look="text"),
        Column("grid", "grid", "on none", look="text"),
        Column("linear weights", "linear_weights"),
        Column("quantized before", "quantized_share", "no linear weight to look at"),
        Column("log10 p", "log10_p", "on no grid, or on one that random order has as well"),
    ]
    rows = [
        [
            cells.text(names),
            cells.text(found.verdict),
            cells.absent() if found.grid is None else cells.text(found.grid),
            cells.count(found.linear_weights),
            cells.absent()
            if found.quantized_share is None
            else cells.share_of_all(found.quantized_share),
            cells.significant(found.log10_p),
        ]
        for names, found in audited.items()
    ]
    note = (
        "By a sample of the weights as their files have them, before anything is quantized here. "
        "Every tensor is in `tables/integrity.parquet`; the command `audit` reads them all."
    )
    caption = "What the weights show of quantization before this run"
    return ReportTable("integrity", caption, columns, rows, [note])


def _findings(audited: dict[str, Integrity]) -> ReportTable:
    rows = [
        [cells.text(names), cells.text(finding)]
        for names, found in audited.items()
        for finding in found.findings
    ]
    columns = [_OF, Column("finding", "finding", look="text")]
    return ReportTable("integrity_findings", "What else the weights show", columns, rows)
