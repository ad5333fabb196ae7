"""What all pages share: the style sheet, and how a table's cells are shown."""

import math
from dataclasses import dataclass
from importlib import resources
from typing import TypeGuard

from jinja2 import Environment
from markupsafe import escape

from orchestrator.report.tables import formats
from orchestrator.report.tables.cells import Cell, Column, ReportTable, Value
from orchestrator.report.templates import templates

# How strongly the largest of shaded cells is shaded.
_DARKEST = 0.55


@dataclass(frozen=True)
class _ShownCell:
    """A cell with how a page shows its size: a bar in percent, or how strongly it is shaded."""

    cell: Cell
    column: Column
    bar: float | None
    shade: float | None


def html_environment() -> Environment:
    """Templates of pages; what is put into them is text, whatever it holds."""
    environment = templates(autoescape=True)
    environment.filters.update(shown_rows=_shown_rows, visible=_visible)
    return environment


def shown_in_a_notebook(table: ReportTable, said: str) -> str:
    """A table, and a sentence before it, as a part of somebody else's page."""
    part = html_environment().get_template("parts.html.jinja").module
    return f"<p>{escape(said)}</p>{part.table(table)}"  # type: ignore[attr-defined]


def style_sheet() -> str:
    """The styles of every page."""
    return (resources.files("orchestrator.report") / "style.css").read_text(encoding="utf-8")


def _visible(text: str) -> str:
    """Text in one line that shows even if it is nothing but spaces."""
    shown = formats.visible(text)
    return shown if shown.strip() else "␣" * len(shown) or "(nothing)"


def _shown_rows(table: ReportTable) -> list[list[_ShownCell]]:
    """A table's rows with bars and shades, each as far as the largest of its kind."""
    bars = _largest(table, "bar")
    shades = _largest(table, "shade")
    return [
        [
            _ShownCell(
                cell,
                column,
                bar=_part(cell, bars, 100) if column.look == "bar" else None,
                shade=_part(cell, shades, _DARKEST) if column.look == "shade" else None,
            )
            for cell, column in zip(row, table.columns, strict=True)
        ]
        for row in table.rows
    ]


def _largest(table: ReportTable, look: str) -> float:
    values = [
        float(cell.value)
        for row in table.rows
        for cell, column in zip(row, table.columns, strict=True)
        if column.look == look and _has_size(cell.value)
    ]
    return max(values, default=0.0)


def _part(cell: Cell, largest: float, whole: float) -> float | None:
    if not _has_size(cell.value) or not largest:
        return None
    return round(whole * max(0.0, cell.value) / largest, 3)


def _has_size(value: Value) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
