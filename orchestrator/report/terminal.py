"""A comparison → tables on a terminal."""

from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.table import Table

from orchestrator.comparison_schema import Comparison
from orchestrator.console import plain_text, say
from orchestrator.gates.verdicts import Judgement, Verdict
from orchestrator.report import sentences
from orchestrator.report.tables import formats
from orchestrator.report.tables.cells import ReportTable
from orchestrator.report.tables.quality_tables import summary

# Characters, more than any table has.
_UNBOUNDED = 10_000


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints the summary: quality, size and speed of each variant, and where it is far off."""
    print_table(summary(comparison), console)
    for name, figures in comparison.variants.items():
        if figures.generation.categories_beyond:
            say(console, sentences.of_categories(figures.generation, name, comparison))
    if missing := sentences.of_missing(comparison):
        say(console, missing)
    for note in comparison.notes:
        say(console, f"Note: {note}")


def print_table(shown: ReportTable, console: Console) -> None:
    """Prints a table of a report; on a terminal that is too narrow for it, a list a row."""
    table = Table(title=plain_text(shown.caption))
    for column in shown.columns:
        justify: JustifyMethod = "left" if column.alignment != "number" else "right"
        # A figure that does not fit goes on in the next line: half of one would be another.
        table.add_column(plain_text(column.head), justify=justify, overflow="fold")
    for row in shown.rows:
        table.add_row(
            *(plain_text(cell.text, style="italic" if cell.is_emphasized else "") for cell in row)
        )
    unbounded = console.options.update(width=_UNBOUNDED)
    width = Measurement.get(console, unbounded, table).maximum
    if console.is_terminal and width > console.width:
        _print_list(shown, console)
    else:
        console.print(table)


def _print_list(shown: ReportTable, console: Console) -> None:
    """Prints a table as a list, a line a figure; what is absent is left out."""
    console.print(plain_text(shown.caption, style="italic"))
    heads = [column.head for column in shown.columns]
    indent = max(map(len, heads[1:])) + 2
    for row in shown.rows:
        console.print(plain_text(row[0].text, style="bold"))
        for head, cell in zip(heads[1:], row[1:], strict=True):
            if not cell.is_absent:
                console.print(plain_text(f"  {head:<{indent}}{cell.text}"))


_STYLES: dict[Verdict, str] = {
    "pass": "green",
    "fail": "bold red",
    "not measured": "bold red",
    "undecided": "yellow",
}


def print_judgement(judgement: Judgement, comparison: Comparison, console: Console) -> None:
    """Prints the verdict of each gate that was asked for, and the recommendation."""
    if judgement.asked:
        table = Table(title=plain_text(f"{judgement.run_id}: gates"))
        for column in ("gate", "variant", "category", "measured", "verdict"):
            table.add_column(column, overflow="fold")
        for result in judgement.results:
            style = _STYLES[result.verdict]
            reason = f" ({result.reason})" if result.reason else ""
            table.add_row(
                plain_text(result.gate),
                plain_text(result.variant),
                plain_text(result.category or formats.ABSENT),
                plain_text(formats.gated(result)),
                plain_text(f"{result.verdict}{reason}", style=style),
            )
        console.print(table)
        say(console, sentences.of_gates(judgement))
    say(console, sentences.of_recommendation(judgement, comparison))
