"""Answers to prompts → how fast and how long they are, overall and by category. Pure."""

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator import statistics
from orchestrator.comparison_json import Generation, GenerationFigures
from orchestrator.measures import column, compared


def generation_of(rows: pa.Table, base: pa.Table | None) -> Generation:
    """The figures of a variant's answers.

    Args:
        rows: its rows of the table `generations`.
        base: the reference's; None for the reference, which is not held against itself.
    """

    def of_category(category: str) -> GenerationFigures:
        chosen = pc.field("category") == category
        others = None if base is None else base.filter(chosen)
        return _figures(rows.filter(chosen), others)

    categories: list[str] = rows["category"].unique().to_pylist()
    return Generation(
        **dict(_figures(rows, base)),
        by_category={category: of_category(category) for category in categories},
    )


def _figures(rows: pa.Table, base: pa.Table | None) -> GenerationFigures:
    """The figures of some answers, held against the reference's answers to the same prompts."""
    seconds, tokens = column(rows, "seconds"), column(rows, "new_tokens")
    n = len(rows)
    seconds_change = speed_change = tokens_change = None
    if base is not None and n and rows["prompt"].equals(base["prompt"]):
        base_seconds, base_tokens = column(base, "seconds"), column(base, "new_tokens")
        seconds_change = statistics.change_pct_of_mean(seconds, base_seconds)
        if tokens.sum() > 0 and base_tokens.sum() > 0:
            speeds = (tokens, seconds), (base_tokens, base_seconds)
            speed_change = statistics.change_pct_of_ratio(*speeds)
            tokens_change = statistics.change_pct_of_mean(tokens, base_tokens)
    return GenerationFigures(
        prompts=n,
        succeeded=int(pc.sum(rows["success"]).as_py() or 0),
        seconds=compared(statistics.mean(seconds) if n else None, seconds_change, n),
        tokens_per_second=compared(
            statistics.ratio(tokens, seconds) if n else None, speed_change, n
        ),
        new_tokens=compared(statistics.mean(tokens) if n else None, tokens_change, n),
    )
