"""A comparison → `report.md`."""

import re
from collections.abc import Sequence

from orchestrator.printable import printable
from orchestrator.report import sentences
from orchestrator.report.contents import Report
from orchestrator.report.tables import formats
from orchestrator.report.tables.cells import Cell, Column, ReportTable
from orchestrator.report.templates import templates


def render_markdown(report: Report) -> str:
    """The report as Markdown; every number in it is a cell of the comparison or the verdicts."""
    comparison, judgement = report.comparison, report.judgement
    environment = templates(autoescape=False, finalize=_finalized)
    environment.filters.update(
        code=_code,
        verbatim=lambda text: _Markdown(printable(text)),
        pair_sentence=sentences.of_pair,
        floor_sentence=sentences.of_noise_floor,
        time_sentence=sentences.of_timeline,
        categories_sentence=sentences.of_categories,
    )
    page = environment.get_template("report.md.jinja").render(
        **report.words,
        table=lambda name: markdown_table(report.tables[name]) if name in report.tables else "",
        recommendation=sentences.of_recommendation(judgement, comparison),
    )
    return re.sub(r"\n{3,}", "\n\n", page).rstrip("\n") + "\n"


class _Markdown(str):
    """Text that is Markdown already."""

    __slots__ = ()


def _code(text: str) -> _Markdown:
    shown = printable(text)
    return _Markdown(formats.code(text) if "`" in shown else f"`{shown}`")


def _finalized(value: object) -> object:
    """What is put into the page."""
    return harmless(value) if isinstance(value, str) and not isinstance(value, _Markdown) else value


def harmless(text: str) -> str:
    """Text of whoever wrote it, in which no link and no HTML acts."""
    return _LINK.sub(r"]\\", _TAG.sub(r"\\<", printable(text)))


# The beginning of a tag, and what makes a link of the brackets before it.
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_LINK = re.compile(r"\](?=[(\[:])")


def markdown_table(table: ReportTable) -> str:
    """A table as Markdown, with its notes."""
    lines = [
        _row([_plain(column.head) for column in table.columns]),
        _rule(table.columns),
        *(_row([_cell(cell) for cell in row]) for row in table.rows),
    ]
    return _Markdown("\n\n".join(["\n".join(lines), *table.notes]) + "\n")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: Sequence[Column]) -> str:
    marks = ["---" if column.alignment != "number" else "---:" for column in columns]
    return f"|{'|'.join(marks)}|"


def _cell(cell: Cell) -> str:
    shown = _plain(cell.text)
    if cell.quoted is not None:
        shown = f"{formats.code(cell.quoted)} {shown}".rstrip()
    return f"*{shown}*" if cell.is_emphasized else shown


def _plain(text: str) -> str:
    """Text that cannot end a table's cell."""
    return harmless(text.replace("\n", " ")).replace("|", "\\|")
