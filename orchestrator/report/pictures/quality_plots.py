"""Cells of the comparison → pictures of quality. Each has a table with the same cells beside it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.comparison_schema import Bucket, Comparison, Exceedance, KLDivergence, Perplexity
from orchestrator.gates.verdicts import Judgement
from orchestrator.report.pictures.canvas import (
    INK,
    MUTED,
    Plot,
    draw,
    error_bars,
    look,
    plain,
    scale_logarithmically,
)
from orchestrator.report.pictures.tradeoff_plots import thresholds, tradeoff_plots
from orchestrator.report.tables import formats
from orchestrator.report.tables.quality_tables import with_kl

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def quality_plots(comparison: Comparison, judgement: Judgement) -> Iterator[Plot]:
    """What there is something for."""
    found = _differing(comparison)
    if with_kl(comparison):
        yield from tradeoff_plots(comparison, judgement)
    changes = {
        name: v.perplexity
        for name, v in comparison.variants.items()
        if v.perplexity.delta_pct is not None
    }
    if changes:
        yield _changes(comparison, judgement, changes)
    distribution = draw_distributions(comparison)
    if distribution is not None:
        yield distribution
        yield _by_bucket(
            comparison,
            "confidence",
            "KL by confidence",
            f"{comparison.reference}'s top probability",
            {name: divergence.by_confidence for name, divergence in found.items()},
        )


def draw_distributions(comparison: Comparison) -> Plot | None:
    """The share of tokens whose KL is above a value, both axes logarithmic.

    Returns:
        None where no variant has a KL that is anywhere above 0.
    """
    found = {name: divergence.distribution for name, divergence in _differing(comparison).items()}
    if not found:
        return None

    def paint(axes: "Axes") -> None:
        for name, distribution in found.items():
            seen = look(name, comparison.variants)
            axes.plot(
                *_points(distribution), color=seen.colour, linestyle=seen.dash, label=plain(name)
            )
        if comparison.noise_floor is not None:
            points = _points(comparison.noise_floor.distribution)
            axes.plot(*points, color=MUTED, linestyle=":", label="noise floor")
        scale_logarithmically(axes, "x", "y")
        axes.set_xlabel(f"KL({plain(comparison.reference)} ‖ variant) of a token, nats")
        axes.set_ylabel("share of tokens above")
        axes.legend(frameon=False)

    return draw(
        "kl",
        f"KL from {comparison.reference}, by token",
        "A curve a variant: the share of all scored tokens whose KL is above a value. The further "
        "to the right and up, the worse.",
        3.4,
        paint,
    )


def _differing(comparison: Comparison) -> dict[str, KLDivergence]:
    """The divergences of those whose predictions are not all equal to the reference's."""
    return {name: kl for name, kl in with_kl(comparison).items() if not kl.identical}


def _points(distribution: list[Exceedance]) -> tuple[list[float], list[float]]:
    """Values and shares; a share of nothing has no place on a logarithmic axis."""
    shown = [point for point in distribution if point.share > 0]
    return [point.kl for point in shown], [point.share for point in shown]


def _changes(comparison: Comparison, judgement: Judgement, changes: dict[str, Perplexity]) -> Plot:
    """The change of perplexity of each candidate, paired over the same windows."""

    def paint(axes: "Axes") -> None:
        axes.axvline(0.0, color=MUTED, linestyle="--", linewidth=1)
        for threshold in thresholds(judgement, "perplexity_delta_pct"):
            axes.axvline(threshold, color=INK, linewidth=0.8)
        for row, (name, figure) in enumerate(reversed(changes.items())):
            seen = look(name, comparison.variants)
            axes.errorbar(
                [figure.delta_pct or 0.0],
                [row],
                xerr=error_bars(figure.delta_pct, figure.delta_pct_interval),
                color=seen.colour,
                marker=seen.mark,
                capsize=3,
            )
        axes.set_yticks(range(len(changes)), [plain(name) for name in reversed(changes)])
        axes.set_ylim(-0.6, len(changes) - 0.4)
        axes.set_xlabel(f"change of perplexity against {plain(comparison.reference)}, %")

    return draw(
        "perplexity",
        "Change of perplexity, paired over the same windows",
        f"A point a variant, with its {formats.level(comparison.confidence)} interval; the dashed "
        "line is no change, a whole line what the rule asks.",
        0.8 + 0.3 * len(changes),
        paint,
    )


def _by_bucket(
    comparison: Comparison, name: str, title: str, label: str, buckets: dict[str, list[Bucket]]
) -> Plot:
    def paint(axes: "Axes") -> None:
        for variant, found in buckets.items():
            usable = [(n, b.kl) for n, b in enumerate(found) if (b.kl.value or 0.0) > 0]
            seen = look(variant, comparison.variants)
            axes.plot(
                [n for n, _ in usable],
                [kl.value or 0.0 for _, kl in usable],
                color=seen.colour,
                linestyle=seen.dash,
                marker=seen.mark,
                label=plain(variant),
            )
            for n, kl in usable:
                axes.errorbar(
                    [n],
                    [kl.value or 0.0],
                    yerr=error_bars(kl.value, kl.interval, logarithmic=True),
                    color=seen.colour,
                    capsize=2,
                )
        first = next(iter(buckets.values()))
        axes.set_xticks(range(len(first)), [f"{b.lower:g}–{b.upper:g}" for b in first])
        scale_logarithmically(axes, "y")
        axes.set_xlabel(plain(label))
        axes.set_ylabel("mean KL, nats")
        axes.legend(frameon=False)

    level = formats.level(comparison.confidence)
    description = f"A line a variant, with {level} intervals, over classes of tokens."
    return draw(name, title, description, 2.9, paint)
