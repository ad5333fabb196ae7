"""A comparison → tables on a terminal."""

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from orchestrator.comparison_json import Comparison, Latency
from orchestrator.console import say
from orchestrator.gates.verdicts import Judgement
from orchestrator.report import formats, sentences


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints the summary: quality, size and speed of each variant, and where it is far off."""
    table = Table(title=Text(f"{comparison.run_id}: changes against {comparison.reference}"))
    decodings = comparison.provenance.decodings
    speeds = [f"tok/s, {name}" for name in decodings]
    columns = ("perplexity", "change [95%]", "KL", "same top", "weights", *speeds, "ok")
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
            *(_speed(figures.generation.latency.get(name)) for name in decodings),
            formats.share(figures.generation.succeeded, figures.generation.prompts),
        )
    if comparison.noise_floor is not None:
        floor = comparison.noise_floor
        kl, same = formats.small(floor.kl), formats.percent(floor.same_top_token)
        before, after = [formats.ABSENT] * 2, [formats.ABSENT] * (2 + len(decodings))
        table.add_row(Text("noise floor", style="italic"), *before, kl, same, *after)
    console.print(table)
    for name, figures in comparison.variants.items():
        if figures.generation.categories_beyond:
            say(console, sentences.of_categories(figures.generation, name, comparison))
    for note in comparison.notes:
        say(console, f"Note: {note}")


def print_judgement(judgement: Judgement, comparison: Comparison, console: Console) -> None:
    """Prints the verdict of each gate that was asked for, and the recommendation."""
    if judgement.asked:
        table = Table(title=Text(f"{judgement.run_id}: gates"))
        for column in ("gate", "variant", "category", "measured", "verdict"):
            table.add_column(column, overflow="fold")
        for result in judgement.results:
            style = {"pass": "green", "fail": "bold red", "undecided": "yellow"}[result.verdict]
            reason = f" ({result.reason})" if result.reason else ""
            table.add_row(
                Text(result.gate),
                Text(result.variant),
                Text(result.category or formats.ABSENT),
                Text(formats.gated(result)),
                Text(f"{result.verdict}{reason}", style=style),
            )
        console.print(table)
        say(console, sentences.of_gates(judgement))
    say(console, sentences.of_recommendation(judgement, comparison))


def _speed(latency: Latency | None) -> str:
    """Tokens per second by a way of decoding, where there is one."""
    return formats.ABSENT if latency is None else formats.measure(latency.tokens_per_second, 1)
