"""Cells → the sentences that a report's sections begin with.

A difference is claimed only where its interval, or its test, leaves no other reading.
"""

import math
from collections.abc import Sequence

from orchestrator.comparison_schema import Compared, Comparison, VariantFigures
from orchestrator.comparison_schema.measure_fields import FEWEST_PROMPTS
from orchestrator.gates.verdicts import Judgement
from orchestrator.report import sentences
from orchestrator.report.tables import formats
from orchestrator.report.tables.noise_tables import noise_series

# Of other items, of one alone, or not measured.
_UNKNOWN = "not compared"


def of_perplexity(comparison: Comparison) -> str:
    """The variants whose perplexity differs from the reference's."""
    figures = [(n, formats.change(v.perplexity), v.perplexity) for n, v in _candidates(comparison)]
    return _beside(f"Perplexity, beside {comparison.reference}'s", "higher", "lower", figures)


def of_divergence(comparison: Comparison) -> str:
    """How the divergence is spread over tokens: of half of them, and of the worst."""
    found = {n: v.kl for n, v in _candidates(comparison) if v.kl is not None}
    if not found:
        return "No divergence was measured."
    same = [name for name, kl in found.items() if kl.identical]
    if len(same) == len(found):
        return f"Every prediction of {', '.join(same)} is equal to {comparison.reference}'s."
    half, worst = (
        ", ".join(
            f"{name} {formats.significant(kl.percentiles[level])}"
            for name, kl in found.items()
            if name not in same
        )
        for level in ("50", "99")
    )
    noise = [name for name, kl in found.items() if kl.indistinguishable and not kl.identical]
    only = f" Identical: {', '.join(same)}." if same else ""
    only += f" No more than rounding: {', '.join(noise)}." if noise else ""
    return (
        f"Half of the tokens have a KL above, in nats: {half}; one in a hundred above: {worst}."
        f"{only}"
    )


def of_noise(comparison: Comparison) -> str:
    """The divergence of what has the most noise in its weights, beside that of what has none."""
    parts = []
    for series in noise_series(comparison):
        (start, least), (most, figures) = series.points[0], series.points[-1]
        if figures.kl is None or figures.kl.mean.value is None:
            continue
        has_none = start == 0 and least.kl is not None
        before = f", {formats.kl(least.kl)} without" if has_none else ""
        parts.append(
            f"{series.label} with noise of {most:g} half-widths has a KL of "
            f"{formats.kl(figures.kl)}{before}"
        )
    return f"{'; '.join(parts)}." if parts else "By what follows; no curve was asked for."


def of_speed(comparison: Comparison) -> str:
    """Who decodes faster or slower than the reference, by each way that both have."""
    several = len(comparison.provenance.decodings) > 1
    figures = [
        (
            f"{name} by {way}" if several else name,
            formats.change(latency.tokens_per_second, 1),
            latency.tokens_per_second,
        )
        for name, v in _candidates(comparison)
        for way, latency in v.own_latency.items()
    ]
    return _beside(f"Tokens per second, beside {comparison.reference}'s", "more", "fewer", figures)


def of_size(comparison: Comparison) -> str:
    """How much smaller the variants are."""
    base = formats.size(comparison.variants[comparison.reference].memory.size_bytes)
    parts = [
        f"{name} {formats.times(figures.memory.compression_ratio)} smaller"
        for name, figures in _candidates(comparison)
        if figures.memory.compression_ratio is not None
    ]
    return f"{comparison.reference} takes {base}{''.join(f', {part}' for part in parts)}."


def of_fit(comparison: Comparison) -> str:
    """The smallest card that holds each variant, by arithmetic."""
    least: dict[int | None, list[str]] = {}
    for name, figures in comparison.variants.items():
        cards = figures.memory.cards
        if cards:
            fitting = (card.card_gib for card in cards if card.fits)
            least.setdefault(next(fitting, None), []).append(name)
    if not least:
        return "No variant's size is known yet."
    parts = [
        f"{'none of these' if card is None else f'{card} GiB'} for {', '.join(names)}"
        for card, names in sorted(least.items(), key=lambda item: item[0] or math.inf)
    ]
    return f"The smallest card, by arithmetic: {'; '.join(parts)}."


def of_whole_fit(comparison: Comparison) -> str:
    """That each card holds all that the model takes, by every variant; empty where one does not."""
    cards = [card for v in comparison.variants.values() for card in v.memory.cards]
    if not cards or not all(card.is_whole for card in cards):
        return ""
    tokens = comparison.provenance.maximum_length
    return f"Each holds the whole of the {tokens} tokens that the model takes, with every variant."


def of_running(comparison: Comparison) -> str:
    """How much each variant takes while it runs: of the device where measured, else its weights."""
    variants = comparison.variants
    peaks = {name: v.memory.device_peak_bytes for name, v in variants.items()}
    if any(peak is not None for peak in peaks.values()):
        known = {name: peak for name, peak in peaks.items() if peak is not None}
        shown = ", ".join(f"{name} {formats.size(peak)}" for name, peak in known.items())
        return f"Tensors on the device took at most: {shown}."
    held = {name: v.memory.running_weights_bytes for name, v in variants.items()}
    shown = ", ".join(f"{name} {formats.size(count)}" for name, count in held.items())
    return f"While they run here, weights take: {shown}; on a CPU, no more is measured."


def of_recommended(judgement: Judgement, comparison: Comparison) -> list[str]:
    """What speaks against the variant that is recommended, though it passes."""
    name = judgement.recommendation.variant
    if name is None:
        return []
    figures = comparison.variants[name]
    found = []
    if figures.kl is not None and figures.kl.identical and figures.memory.expanded:
        found.append(f"{name} is identical to {comparison.reference}: is that this file, expanded?")
    slower = [
        f"{formats.change(latency.tokens_per_second, 1)} tokens per second ({way})"
        for way, latency in figures.own_latency.items()
        if _direction(latency.tokens_per_second) == -1
    ]
    if slower:
        found.append(f"{name} is slower than {comparison.reference} here: {', '.join(slower)}.")
    if figures.generation.categories_beyond:
        found.append(sentences.of_categories(figures.generation, name, comparison))
    if _direction(figures.perplexity) == 1:
        change = formats.change(figures.perplexity)
        found.append(f"{name}'s perplexity is higher than {comparison.reference}'s: {change}.")
    return found


def of_categories(comparison: Comparison) -> str:
    """In how many uses a candidate is far from the reference's answers."""
    found = []
    threshold = 0.0
    if has_few_prompts(comparison):
        most = sentences.most_prompts(comparison.variants[comparison.reference].generation)
        return f"Too few prompts to tell: at most {most} a category, of at least {FEWEST_PROMPTS}."
    for name, figures in _candidates(comparison):
        generation = figures.generation
        threshold = generation.kl_threshold
        if generation.kl_along_reference.value is None:
            continue
        count, of = len(generation.categories_beyond), len(generation.by_category)
        found.append(f"{name} in {count} of {of}")
    if not found:
        return "No answers were compared by category."
    return f"Categories whose mean KL is shown to be above {threshold:g} nats: {', '.join(found)}."


def has_few_prompts(comparison: Comparison) -> bool:
    """Whether no category has prompts enough to claim anything of."""
    most = sentences.most_prompts(comparison.variants[comparison.reference].generation)
    return 0 < most < FEWEST_PROMPTS


def of_trust(comparison: Comparison) -> str:
    """How much the figures stand on."""
    figures = comparison.variants[comparison.reference]
    tokens, windows = figures.perplexity.scored_tokens, figures.perplexity.windows
    parts = [f"{tokens} tokens in {windows} windows"]
    if comparison.sample.stretches:
        parts[0] += f" ({comparison.sample.stretches} stretches of the text)"
    if figures.generation.prompts:
        parts.append(f"{figures.generation.prompts} prompts")
    alike = all(
        (v.perplexity.windows, v.generation.prompts) == (windows, figures.generation.prompts)
        for v in comparison.variants.values()
    )
    same = "as many for every variant" if alike else "not as many for every variant"
    quantized = figures.integrity is not None and figures.integrity.once_quantized
    but = " Its reference was once quantized." if quantized else ""
    return f"It stands on {' and '.join(parts)}, {same}.{but}"


def _candidates(comparison: Comparison) -> list[tuple[str, VariantFigures]]:
    return [(n, v) for n, v in comparison.variants.items() if n != comparison.reference]


def _direction(figure: Compared) -> int | None:
    """1 for more than the reference, -1 for less; None where the interval holds no change."""
    if figure.delta_pct_interval is None:
        return None
    low, high = figure.delta_pct_interval
    return 1 if low > 0 else -1 if high < 0 else None


def _beside(
    subject: str, more: str, less: str, figures: Sequence[tuple[str, str, Compared]]
) -> str:
    """Which figures are more than the reference's, which less, and of which nobody can tell.

    Args:
        figures: each with its name and its change as text.
    """
    found: dict[str, list[str]] = {more: [], less: [], "not shown to differ": [], _UNKNOWN: []}
    for name, change, figure in figures:
        direction = _direction(figure)
        if figure.delta_pct_interval is None:
            found[_UNKNOWN].append(name)
        elif direction is None:
            found["not shown to differ"].append(name)
        else:
            found[more if direction > 0 else less].append(f"{name} ({change})")
    said = [f"{words} with {', '.join(names)}" for words, names in found.items() if names]
    return f"{subject}: {'; '.join(said) or 'nothing was compared'}."
