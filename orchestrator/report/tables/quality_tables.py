"""Cells of the comparison → the tables of quality: the summary, perplexity and divergence."""

from collections.abc import Callable, Iterator

from orchestrator.comparison_schema import (
    PERCENTILES,
    Bucket,
    Comparison,
    KLDivergence,
    Perplexity,
    ProbabilityChange,
    TokenMeasure,
    VariantFigures,
    WorstToken,
)
from orchestrator.report.tables import cells, formats
from orchestrator.report.tables.cells import (
    NOT_COMPARED,
    NOT_LOADED,
    VARIANT,
    Cell,
    Column,
    ReportTable,
)


def quality_tables(comparison: Comparison) -> Iterator[ReportTable]:
    """The tables of quality that there is something for, in their order."""
    yield summary(comparison)
    yield _perplexity(comparison)
    yield _divergence(comparison)
    compared = with_kl(comparison)
    if compared:
        yield _standard_errors(comparison)
    if comparison.pairs:
        yield _pairs(comparison)
    if compared:
        yield _percentiles(comparison, compared)
        yield _probability_changes(comparison, compared)
        yield _confidence(comparison, compared)
        yield _position(comparison, compared)
        for name, divergence in compared.items():
            if divergence.identical:
                continue
            yield _worst_tokens(comparison, name, divergence)


def with_kl(comparison: Comparison) -> dict[str, KLDivergence]:
    """The divergences of those that are held against the reference."""
    return {name: v.kl for name, v in comparison.variants.items() if v.kl is not None}


def summary(comparison: Comparison) -> ReportTable:
    """What a terminal shows: quality, size and speed of each variant."""
    decodings = comparison.provenance.decodings
    level = formats.level(comparison.confidence)
    columns = [
        VARIANT,
        Column("perplexity", "perplexity"),
        Column(f"change [{level}]", "perplexity_change_pct", NOT_COMPARED),
        Column("KL", "kl_nats", NOT_COMPARED),
        Column("same top", "same_top_token_share", NOT_COMPARED),
        Column("size", "size_bytes", NOT_LOADED),
        *(
            Column(f"tok/s, {way}", f"tokens_per_second_{way}", "not decoded so, or not its own")
            for way in decodings
        ),
        Column("ok", "success_share"),
    ]
    rows = [
        [
            cells.text(name),
            cells.measure(v.perplexity),
            cells.change(v.perplexity),
            cells.kl(v.kl),
            cells.percent(v.same_top_token, 1),
            cells.size(v.memory.size_bytes),
            *(_speed(v, way) for way in decodings),
            cells.share(v.generation.succeeded, v.generation.prompts),
        ]
        for name, v in comparison.variants.items()
    ]
    caption = f"{comparison.run_id}: changes against {comparison.reference}"
    floor = comparison.noise_floor
    if floor is not None:
        kl, same = cells.small(floor.kl), cells.percent(floor.same_top_token, 1)
        after = [cells.absent()] * (2 + len(decodings))
        rows.append([_FLOOR, cells.absent(), cells.absent(), kl, same, *after])
    return ReportTable("summary", caption, columns, rows)


_FLOOR = Cell("noise floor", "noise floor", is_emphasized=True)


def _speed(figures: VariantFigures, way: str) -> Cell:
    latency = figures.own_latency.get(way)
    return cells.absent() if latency is None else cells.measure(latency.tokens_per_second, 1)


def _perplexity(comparison: Comparison) -> ReportTable:
    columns = [
        VARIANT,
        Column("perplexity", "perplexity"),
        Column("change", "perplexity_change_pct", NOT_COMPARED),
        Column("word perplexity", "word_perplexity"),
        Column("bits per byte", "bits_per_byte"),
        Column("scored tokens", "scored_tokens"),
        Column("windows", "windows"),
    ]
    rows = [
        [
            cells.text(name),
            cells.measure(v.perplexity, 4),
            cells.change(v.perplexity),
            cells.measure(v.word_perplexity),
            cells.measure(v.bits_per_byte, 4),
            cells.count(v.perplexity.scored_tokens),
            cells.count(v.perplexity.windows),
        ]
        for name, v in comparison.variants.items()
    ]
    return ReportTable("perplexity", "Perplexity of each variant", columns, rows)


def _divergence(comparison: Comparison) -> ReportTable:
    keys = {
        "KL": "kl_nats",
        "reverse KL": "reverse_kl_nats",
        "same top token": "same_top_token_share",
        "perplexity ratio": "perplexity_ratio",
        "likelihoods' correlation": "log_perplexity_correlation",
        "probability change": "probability_change",
        "its root mean square": "probability_change_rms",
    }
    columns = [VARIANT, *(Column(head, key, NOT_COMPARED) for head, key in keys.items())]
    rows = []
    floor = comparison.noise_floor
    if floor is not None:
        kl, same = cells.small(floor.kl), cells.percent(floor.same_top_token)
        rows.append([_FLOOR, kl, cells.absent(), same, *[cells.absent()] * 4])
    for name, v in comparison.variants.items():
        if name == comparison.reference:
            continue
        probability = v.probability_change
        rows.append(
            [
                cells.text(name),
                cells.kl(v.kl),
                cells.small(None if v.kl is None else v.kl.reverse_mean),
                cells.percent(v.same_top_token),
                cells.small(v.perplexity_ratio),
                cells.significant(v.log_perplexity_correlation, 5),
                cells.percent(None if probability is None else probability.mean, 3),
                cells.percent(None if probability is None else probability.rms, 3),
            ]
        )
    note = (
        f"KL({comparison.reference} ‖ variant) in nats, over the whole vocabulary, the mean of all "
        "scored tokens. Probabilities are the true token's."
    )
    caption = f"Divergence from {comparison.reference}"
    return ReportTable("divergence", caption, columns, rows, [note])


def _standard_errors(comparison: Comparison) -> ReportTable:
    columns = [
        VARIANT,
        Column("of", "figure", look="text"),
        Column("by stretches", "stderr", "one stretch"),
        Column("as if tokens were independent", "stderr_tokens", "one token"),
    ]
    rows = [
        [
            cells.text(name),
            cells.text(of),
            cells.significant(figure.stderr, 2),
            cells.significant(figure.stderr_tokens, 2),
        ]
        for name, v in comparison.variants.items()
        for of, figure in _token_measures(v)
        if figure is not None and figure.value is not None
    ]
    note = "The intervals are made of the first; llama.cpp prints the second."
    return ReportTable("standard_errors", "Standard errors", columns, rows, [note])


def _token_measures(
    figures: VariantFigures,
) -> Iterator[tuple[str, TokenMeasure | Perplexity | None]]:
    yield "perplexity", figures.perplexity
    if figures.kl is not None:
        yield "KL", figures.kl.mean
        yield "reverse KL", figures.kl.reverse_mean
    yield "same top token", figures.same_top_token
    yield "perplexity ratio", figures.perplexity_ratio
    if figures.probability_change is not None:
        yield "probability change", figures.probability_change.mean
        yield "its root mean square", figures.probability_change.rms


def _pairs(comparison: Comparison) -> ReportTable:
    columns = [
        Column("pair", "pair", look="text"),
        Column("difference of KL", "kl_difference_nats"),
        Column("p", "p", "one stretch"),
        Column("p, Holm", "p_holm", "one stretch"),
        Column("difference of log-perplexity", "log_perplexity_difference"),
    ]
    rows = [
        [
            cells.text(f"{pair.a} less {pair.b}"),
            cells.small(pair.kl_difference),
            cells.p_value(pair.p_value),
            cells.p_value(pair.p_value_holm),
            cells.small(pair.log_perplexity_difference),
        ]
        for pair in comparison.pairs
    ]
    note = "Paired over stretches of the text, by Student's t; Holm's correction is over all pairs."
    return ReportTable("pairs", "Candidate against candidate", columns, rows, [note])


def _percentiles(comparison: Comparison, compared: dict[str, KLDivergence]) -> ReportTable:
    return _by_level(comparison, "kl_percentiles", "KL", dict(compared), "_nats")


def _probability_changes(comparison: Comparison, compared: dict[str, KLDivergence]) -> ReportTable:
    found = {
        name: change
        for name in compared
        if (change := comparison.variants[name].probability_change) is not None
    }
    return _by_level(
        comparison, "probability_change_percentiles", "probability change", dict(found), ""
    )


def _by_level(
    comparison: Comparison,
    name: str,
    head: str,
    compared: dict[str, KLDivergence | ProbabilityChange],
    unit: str,
) -> ReportTable:
    columns = [
        Column(head, "percentile", look="text"),
        *(Column(variant, f"{variant}{unit}") for variant in compared),
    ]
    levels = [
        [
            cells.text(f"{level}%"),
            *(_percentile(figures, level) for figures in compared.values()),
        ]
        for level in PERCENTILES
    ]
    rows = [
        [cells.text("maximum"), *(cells.significant(v.maximum) for v in compared.values())],
        *levels,
        [cells.text("minimum"), *(cells.significant(v.minimum) for v in compared.values())],
    ]
    note = (
        "A row p% holds what p of 100 tokens do not exceed, with a "
        f"{formats.level(comparison.confidence)} interval by a bootstrap over stretches of the "
        "text, where there are 6 or more."
    )
    return ReportTable(name, f"Percentiles of the {head} of a token", columns, rows, [note])


def _percentile(figures: KLDivergence | ProbabilityChange, level: str) -> Cell:
    intervals = figures.percentiles_interval
    return Cell(
        formats.percentile(figures, level),
        figures.percentiles[level],
        None if intervals is None else intervals[level],
    )


def _confidence(comparison: Comparison, compared: dict[str, KLDivergence]) -> ReportTable:
    def label(bucket: Bucket) -> str:
        return f"{bucket.lower:g} to {bucket.upper:g}"

    buckets = {name: divergence.by_confidence for name, divergence in compared.items()}
    head = f"{comparison.reference}'s top probability"
    return _by_bucket("confidence", head, "KL by the reference's confidence", buckets, label)


def _position(comparison: Comparison, compared: dict[str, KLDivergence]) -> ReportTable:
    def label(bucket: Bucket) -> str:
        if bucket.upper is None:
            return f"{bucket.lower:.0f} or more"
        return f"{bucket.lower:.0f} to <{bucket.upper:.0f}"

    buckets = {name: divergence.by_position for name, divergence in compared.items()}
    return _by_bucket("position", "tokens before it", "KL by place in the window", buckets, label)


def _by_bucket(
    name: str,
    head: str,
    caption: str,
    buckets: dict[str, list[Bucket]],
    label: Callable[[Bucket], str],
) -> ReportTable:
    columns = [
        Column(head, "bucket", look="text"),
        Column("tokens", "tokens_share"),
        VARIANT,
        Column("KL", "kl_nats", "no token"),
        Column("same top token", "same_top_token_share", "no token"),
    ]
    longest = max(map(len, buckets.values()))
    rows = [
        [
            cells.text(label(found[row])),
            cells.share_of_all(found[row].share),
            cells.text(variant),
            cells.small(found[row].kl),
            cells.percent(found[row].same_top_token),
        ]
        for row in range(longest)
        for variant, found in buckets.items()
        if row < len(found)
    ]
    return ReportTable(name, caption, columns, rows)


def _worst_tokens(comparison: Comparison, name: str, divergence: KLDivergence) -> ReportTable:
    columns = [
        Column("KL", "kl_nats"),
        Column("window, position", "place"),
        Column("context", "context", look="passage"),
        Column("true token", "reference_probability", look="text"),
        Column(comparison.reference, "reference_top_probability", look="text"),
        Column(name, "top_probability", look="text"),
    ]

    def row(token: WorstToken) -> list[Cell]:
        before = formats.share_of_all(token.reference_probability)
        after = formats.share_of_all(token.probability)
        tops = (
            (token.reference_top_token, token.reference_top_probability),
            (token.top_token, token.top_probability),
        )
        return [
            cells.significant(token.kl),
            cells.text(f"{token.window}, {token.position}"),
            cells.quoted(token.context),
            cells.quoted(token.token, f"{before} → {after}", token.reference_probability),
            *(cells.quoted(top, formats.share_of_all(p), p) for top, p in tops),
        ]

    rows = [row(token) for token in divergence.worst_tokens]
    return ReportTable(f"worst_tokens_{name}", f"The worst tokens of {name}", columns, rows)
