"""A comparison → tables on a terminal."""

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from orchestrator.comparison_json import Comparison
from orchestrator.console import say
from orchestrator.report import formats


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints the summary: quality, size and speed of each variant."""
    table = Table(title=Text(f"{comparison.run_id}: changes against {comparison.reference}"))
    columns = ("perplexity", "change [95%]", "KL", "same top", "weights", "tokens/s", "ok")
    for column in ("variant", *columns):
        # A figure that does not fit goes on in the next line: half of one would be another.
        justify: JustifyMethod = "left" if column == "variant" else "right"
        table.add_column(column, justify=justify, overflow="fold")
    for name, figures in comparison.variants.items():
        table.add_row(
            Text(name),
            formats.measure(figures.perplexity),
            Text(formats.change(figures.perplexity)),
            formats.kl(figures.kl),
            formats.percent(figures.same_top_token),
            formats.size(figures.memory.weights_bytes),
            formats.measure(figures.generation.tokens_per_second, digits=1),
            formats.share(figures.generation.succeeded, figures.generation.prompts),
        )
    if comparison.noise_floor is not None:
        floor = comparison.noise_floor
        kl, same = formats.small(floor.kl), formats.percent(floor.same_top_token)
        empty = [formats.ABSENT] * 2
        table.add_row(Text("noise floor", style="italic"), *empty, kl, same, *empty, formats.ABSENT)
    console.print(table)
    for note in comparison.notes:
        say(console, f"Note: {note}")
