"""Tables of a report → LaTeX files, for a paper's `\\input`."""

from orchestrator.printable import printable
from orchestrator.report.tables import formats
from orchestrator.report.tables.cells import Cell, ReportTable

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "‖": r"$\parallel$",
    "–": "--",
    "≤": r"$\leq$",
    "→": r"$\rightarrow$",
}


def render_latex(table: ReportTable) -> str:
    """A table as a `tabular` with the rules of the package booktabs.

    Text of models may hold letters that XeLaTeX and LuaLaTeX alone know.
    """
    columns = "".join("l" if column.alignment != "number" else "r" for column in table.columns)
    rows = [_row(*map(_cell, row)) for row in table.rows]
    return "\n".join(
        [
            f"% {printable(table.caption)}. Needs \\usepackage{{booktabs}}.",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _row(*(escaped(column.head) for column in table.columns)),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Text in which nothing acts."""
    return "".join(_SPECIAL.get(character, character) for character in printable(text))


def _row(*cells: str) -> str:
    return rf"{' & '.join(cells)} \\"


def _cell(cell: Cell) -> str:
    shown = escaped(cell.text)
    if cell.quoted is not None:
        shown = rf"\texttt{{{escaped(formats.visible(cell.quoted))}}} {shown}".rstrip()
    return rf"\emph{{{shown}}}" if cell.is_emphasized else shown
