"""Tables of a report → CSV files: the numbers behind each cell, with their intervals."""

import csv
import io

from orchestrator.printable import printable
from orchestrator.report.tables.cells import Cell, ReportTable


def render_csv(table: ReportTable) -> str:
    """A table with a column a figure, and two more where it has intervals.

    Numbers are as exact as they were computed, in the unit that the column's name says; what is
    absent is empty.
    """
    with_interval = [
        any(row[number].interval is not None for row in table.rows)
        for number in range(len(table.columns))
    ]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    heads: list[str] = []
    for column, has in zip(table.columns, with_interval, strict=True):
        heads += [column.key, *([f"{column.key}_low", f"{column.key}_high"] if has else [])]
    writer.writerow(heads)
    for row in table.rows:
        values: list[object] = []
        for cell, has in zip(row, with_interval, strict=True):
            values += [_value(cell), *((cell.interval or ("", "")) if has else ())]
        writer.writerow(values)
    return buffer.getvalue()


def _value(cell: Cell) -> object:
    if cell.value is None:
        return "" if cell.is_absent else _harmless(cell.text)
    return _harmless(cell.value) if isinstance(cell.value, str) else cell.value


def _harmless(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown
