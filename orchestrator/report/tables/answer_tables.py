"""Cells of the comparison → the tables of answers: speed, agreement, categories."""

from collections.abc import Callable, Iterator

from orchestrator.comparison_schema import Comparison, GenerationFigures, Latency
from orchestrator.report.tables import cells, formats
from orchestrator.report.tables.cells import (
    NOT_COMPARED,
    ON_CPU,
    ONE_TOKEN,
    VARIANT,
    Cell,
    Column,
    ReportTable,
)

_DECODING = Column("decoding", "decoding", look="text")
_CATEGORY = Column("category", "category", look="text")
_PROMPTS = Column("prompts", "prompts")
_OWN = "is the reference"


def answer_tables(comparison: Comparison) -> Iterator[ReportTable]:
    """The tables of answers that there is something for, in their order."""
    if not any(v.generation.prompts for v in comparison.variants.values()):
        return
    yield _latency(comparison)
    if comparison.provenance.repeats > 1:
        yield _repeats(comparison)
    if comparison.variants[comparison.reference].throughput:
        yield _throughput(comparison)
    if categories_of(comparison):
        yield _answers(comparison)
        yield _categories(comparison)
        yield from _category_tables(comparison)


def categories_of(comparison: Comparison) -> list[str]:
    """The categories of the reference's answers."""
    return list(comparison.variants[comparison.reference].generation.by_category)


def _latencies(comparison: Comparison) -> Iterator[tuple[str, str, Latency]]:
    for name, v in comparison.variants.items():
        for decoding, latency in v.generation.latency.items():
            yield name, decoding, latency


def _latency(comparison: Comparison) -> ReportTable:
    columns = [
        VARIANT,
        _DECODING,
        Column("seconds", "seconds"),
        Column("to the first token, ms", "time_to_first_token_seconds"),
        Column("per token, ms", "time_per_output_token_seconds", ONE_TOKEN),
        Column("change", "time_per_output_token_change_pct", NOT_COMPARED),
        Column("95% within, ms", "token_seconds_p95", ONE_TOKEN),
        Column("tokens per second", "tokens_per_second"),
        Column("change", "tokens_per_second_change_pct", NOT_COMPARED),
        Column("of the memory's speed", "memory_bandwidth_share", ON_CPU),
    ]
    rows = []
    for name, decoding, found in _latencies(comparison):
        percentiles = found.token_seconds_percentiles
        rows.append(
            [
                _timed(name, comparison),
                cells.text(decoding),
                cells.measure(found.seconds, 3),
                cells.milliseconds(found.time_to_first_token_seconds),
                cells.milliseconds(found.time_per_output_token_seconds),
                cells.change(found.time_per_output_token_seconds, 1),
                Cell(
                    formats.token_percentile(percentiles, "95"),
                    None if percentiles is None else percentiles["95"],
                ),
                cells.measure(found.tokens_per_second, 1),
                cells.change(found.tokens_per_second, 1),
                cells.percent(found.memory_bandwidth_share, 1),
            ]
        )
    return ReportTable(
        "latency", "Time and speed of answers", columns, rows, list(_latency_notes(comparison))
    )


def _timed(name: str, comparison: Comparison) -> Cell:
    """A variant whose times follow, which may not be its format's own."""
    if comparison.variants[name].memory.expanded:
        return Cell(f"{name} (expanded)", name)
    return cells.text(name)


def _latency_notes(comparison: Comparison) -> Iterator[str]:
    p = comparison.provenance
    for name, v in comparison.variants.items():
        if v.memory.expanded:
            yield (
                f"{name} is expanded to run: these are times of {v.compute_dtype} weights, not of "
                "its format."
            )
    each = f", each {p.repeats} times" if p.repeats > 1 else ""
    graph = ", `graph` the same step as a CUDA graph" if "graph" in p.decodings else ""
    yield (
        f"Greedy decoding, one prompt at a time, at most {p.max_new_tokens} new tokens{each}. "
        f"`eager` is transformers' `generate`{graph}; the answers are those of "
        f"`{p.decodings[0]}`. Per token is of every token but an answer's first; tokens per second "
        "are end to end. Intervals are over prompts."
    )
    kinds = {name: v.linear for name, v in comparison.variants.items() if v.linear is not None}
    if kinds:
        each = "; ".join(f"{name} by `{kind}`" for name, kind in kinds.items())
        yield f"Linear layers were multiplied as the package and class say: {each}."
    copied = comparison.variants[comparison.reference].generation.device_copy_bytes_per_second
    if copied is not None:
        yield (
            "Of the memory's speed: the bytes of weights and cache that a token must read, over "
            f"its time, as a share of the {formats.speed(copied)} that a copy within the device's "
            "memory moves."
        )


def _repeats(comparison: Comparison) -> ReportTable:
    columns = [
        VARIANT,
        _DECODING,
        Column("seconds", "seconds_stderr"),
        Column("to the first token, ms", "time_to_first_token_stderr_seconds"),
        Column("per token, ms", "time_per_output_token_stderr_seconds"),
        Column("tokens per second", "tokens_per_second_stderr"),
    ]
    rows = [
        [
            cells.text(name),
            cells.text(decoding),
            cells.significant(found.seconds.stderr_repeats, 2),
            cells.thousandfold(found.time_to_first_token_seconds.stderr_repeats),
            cells.thousandfold(found.time_per_output_token_seconds.stderr_repeats),
            cells.significant(found.tokens_per_second.stderr_repeats, 2),
        ]
        for name, decoding, found in _latencies(comparison)
    ]
    return ReportTable(
        "latency_repeats",
        "Standard errors that the repeats leave, the machine's own",
        columns,
        rows,
    )


def _throughput(comparison: Comparison) -> ReportTable:
    columns = [
        VARIANT,
        Column("prompts at once", "batch_size"),
        _DECODING,
        Column("tokens per second", "tokens_per_second"),
        Column("per step, ms", "step_seconds", ONE_TOKEN),
        Column("keys and values", "cache_bytes", "another cache"),
        Column("peak", "device_peak_bytes", ON_CPU),
    ]
    rows = [
        [
            _timed(name, comparison),
            cells.count(found.batch_size),
            cells.text(found.decoding),
            cells.measure(found.tokens_per_second, 1),
            cells.thousandfold(found.step_seconds, 4),
            cells.size(found.cache_bytes),
            cells.size(found.device_peak_bytes),
        ]
        for name, v in comparison.variants.items()
        for found in v.throughput
        if not found.problem
    ]
    some = comparison.variants[comparison.reference].throughput[0]
    notes = [
        f"Prompts of {some.prompt_tokens} tokens each, {some.new_tokens} new tokens for every one. "
        "A step is a token for each prompt.",
        *_throughput_problems(comparison),
    ]
    return ReportTable("throughput", "Throughput by prompts at once", columns, rows, notes)


def _throughput_problems(comparison: Comparison) -> Iterator[str]:
    """What could not be decoded, each reason once a variant and way."""
    for name, v in comparison.variants.items():
        sizes: dict[tuple[str, str], list[str]] = {}
        for found in v.throughput:
            if found.problem:
                key = found.decoding, found.problem
                sizes.setdefault(key, []).append(str(found.batch_size))
        for (decoding, problem), those in sizes.items():
            yield f"{name}, {', '.join(those)} at once, {decoding}: {problem}."


def _answers(comparison: Comparison) -> ReportTable:
    reference = comparison.reference
    columns = [
        VARIANT,
        Column("succeeded", "success_share"),
        Column("new tokens", "new_tokens"),
        Column("change", "new_tokens_change_pct", NOT_COMPARED),
        Column(f"KL along {reference}'s answers", "kl_along_reference_nats", NOT_COMPARED),
        Column("same top token", "same_top_token_share", NOT_COMPARED),
        Column("identical answers", "identical_share", NOT_COMPARED),
        Column("tokens before the first difference", "first_difference", "none differs"),
        Column("degenerate", "degenerate_share"),
    ]
    rows = []
    for name, v in comparison.variants.items():
        g = v.generation
        rows.append(
            [
                cells.text(name),
                cells.share(g.succeeded, g.prompts),
                cells.measure(g.new_tokens, 1),
                cells.change(g.new_tokens, 1),
                cells.small(g.kl_along_reference),
                cells.percent(g.same_top_token_along_reference),
                cells.proportion(g.identical_answers),
                cells.measure(g.first_difference, 1),
                cells.share(g.degenerate, g.prompts),
            ]
        )
    note = (
        f"KL and same top token are along {reference}'s own answers, which every variant is given "
        "and scores token by token; the rest is of each variant's own answers. A first difference "
        "is of the answers that are not identical. Degenerate answers are empty, repeat the same "
        "tokens over and over, or hold what is no character."
    )
    return ReportTable("answers", f"The answers beside {reference}'s", columns, rows, [note])


def _categories(comparison: Comparison) -> ReportTable:
    columns = [
        _CATEGORY,
        VARIANT,
        _PROMPTS,
        Column("succeeded", "success_share"),
        Column(f"KL along {comparison.reference}'s answers", "kl_along_reference_nats", _OWN),
        Column("same top token", "same_top_token_share", _OWN),
        Column("identical answers", "identical_share", _OWN),
        Column("tokens before the first difference", "first_difference", "none differs"),
        Column("degenerate", "degenerate_share"),
    ]
    rows = [
        [
            cells.text(category),
            cells.text(name),
            cells.count(g.prompts),
            cells.share(g.succeeded, g.prompts),
            cells.small(g.kl_along_reference),
            cells.proportion(g.same_top_token_along_reference),
            cells.proportion(g.identical_answers),
            cells.measure(g.first_difference, 1),
            cells.share(g.degenerate, g.prompts),
        ]
        for category in categories_of(comparison)
        for name, v in comparison.variants.items()
        if (g := v.generation.by_category.get(category)) is not None
    ]
    return ReportTable("categories", "Quality by category", columns, rows)


def _category_tables(comparison: Comparison) -> Iterator[ReportTable]:
    """A category a row, the variants side by side: what a reader of other reports looks for."""
    reference = comparison.reference
    others = [name for name in comparison.variants if name != reference]
    if others:
        yield _side_by_side(
            comparison,
            "category_kl",
            f"KL along {reference}'s answers by category, nats",
            {name: Column(name, f"{name}_nats", "not measured", "shade") for name in others},
            lambda g: cells.small(g.kl_along_reference),
        )
    yield _side_by_side(
        comparison,
        "category_success",
        "Answers that succeeded by category",
        {name: Column(name, f"{name}_share", "no answer") for name in comparison.variants},
        lambda g: cells.share(g.succeeded, g.prompts),
    )
    way = comparison.provenance.decodings[0]
    yield _side_by_side(
        comparison,
        "category_seconds",
        f"Seconds of an answer by category, by {way}",
        {
            name: Column(name, f"{name}_seconds", "no answer", "bar")
            for name, v in comparison.variants.items()
            if not v.memory.expanded
        },
        lambda g: cells.measure(g.seconds, 3),
        lambda g: cells.change(g.seconds, 1),
    )
    yield _side_by_side(
        comparison,
        "category_length",
        "New tokens of an answer by category",
        {name: Column(name, f"{name}_tokens", "no answer", "bar") for name in comparison.variants},
        lambda g: cells.measure(g.new_tokens, 1),
        lambda g: cells.change(g.new_tokens, 1),
    )


_OfAnswers = Callable[[GenerationFigures], Cell]


def _side_by_side(
    comparison: Comparison,
    name: str,
    caption: str,
    columns: dict[str, Column],
    show: _OfAnswers,
    show_change: _OfAnswers | None = None,
) -> ReportTable:
    """A table of a figure by category, with its change where there is one."""
    heads = [_CATEGORY, _PROMPTS]
    for variant, column in columns.items():
        heads.append(column)
        if show_change and variant != comparison.reference:
            heads.append(Column("change", f"{variant}_change_pct", NOT_COMPARED))

    def row(category: str) -> list[Cell]:
        answers = comparison.variants[comparison.reference].generation.by_category[category]
        found = [cells.text(category), cells.count(answers.prompts)]
        for variant in columns:
            g = comparison.variants[variant].generation.by_category.get(category)
            found.append(cells.absent() if g is None else show(g))
            if show_change and variant != comparison.reference:
                found.append(cells.absent() if g is None else show_change(g))
        return found

    rows = [row(category) for category in categories_of(comparison)]
    return ReportTable(name, caption, heads, rows)
