"""Cells of the comparison → pictures of quality. Each has a table with the same cells beside it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.comparison_schema import Bucket, Comparison, Exceedance, KLDivergence
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
from orchestrator.report.tables import formats
from orchestrator.report.tables.quality_tables import with_kl

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def quality_plots(comparison: Comparison, judgement: Judgement) -> Iterator[Plot]:
    """What there is something for."""
    found = with_kl(comparison)
    if found:
        yield from _tradeoffs(comparison, found, judgement.recommendation.size_bytes)
    yield _perplexities(comparison)
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
        None where no variant has a KL.
    """
    found = {name: divergence.distribution for name, divergence in with_kl(comparison).items()}
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


def _points(distribution: list[Exceedance]) -> tuple[list[float], list[float]]:
    """Values and shares; a share of nothing has no place on a logarithmic axis."""
    shown = [point for point in distribution if point.share > 0]
    return [point.kl for point in shown], [point.share for point in shown]


def _tradeoffs(
    comparison: Comparison, found: dict[str, KLDivergence], sizes: dict[str, int]
) -> Iterator[Plot]:
    reference = comparison.reference
    shown = {name: float(sizes[name]) for name in found if name in sizes}
    if shown:
        unit, scale = ("GiB", 2**30) if max(sizes.values()) >= 2**30 else ("MiB", 2**20)
        yield _tradeoff(
            comparison,
            "tradeoff-size",
            f"KL against size, {unit}",
            f"size of the weights, {unit} (smaller is better)",
            {name: size / scale for name, size in shown.items()},
            sizes.get(reference, 0) / scale or None,
            smaller_is_better=True,
        )
    speeds = {
        name: max(
            (latency.tokens_per_second.value or 0.0)
            for latency in comparison.variants[name].own_latency.values()
        )
        for name in comparison.variants
        if comparison.variants[name].own_latency
    }
    shown = {name: speeds[name] for name in found if speeds.get(name)}
    if shown:
        yield _tradeoff(
            comparison,
            "tradeoff-speed",
            "KL against speed",
            "tokens per second, by the fastest way measured (more is better)",
            shown,
            speeds.get(reference),
            smaller_is_better=False,
        )


def _tradeoff(
    comparison: Comparison,
    name: str,
    title: str,
    label: str,
    places: dict[str, float],
    reference_place: float | None,
    *,
    smaller_is_better: bool,
) -> Plot:
    """Points of a cost and a KL, with the Pareto front: what nothing beats in both."""
    figures = {variant: with_kl(comparison)[variant].mean for variant in places}
    values = {variant: max(figure.value or 0.0, 1e-8) for variant, figure in figures.items()}
    front = _front(places, values, smaller_is_better)

    def paint(axes: "Axes") -> None:
        axes.plot(
            [places[n] for n in front],
            [values[n] for n in front],
            color=MUTED,
            linestyle=":",
            zorder=1,
        )
        for variant, place in places.items():
            seen = look(variant, comparison.variants)
            axes.errorbar(
                [place],
                [values[variant]],
                yerr=error_bars(figures[variant], logarithmic=True),
                color=seen.colour,
                marker=seen.mark,
                capsize=3,
                linestyle="none",
            )
            axes.annotate(
                plain(variant),
                (place, values[variant]),
                xytext=(7, 5),
                textcoords="offset points",
                color=INK,
            )
        if reference_place is not None:
            axes.axvline(reference_place, color=MUTED, linestyle="--", linewidth=1)
            axes.annotate(
                plain(comparison.reference),
                (reference_place, 0.03),
                xycoords=("data", "axes fraction"),
                xytext=(-5 if smaller_is_better else 5, 0),
                textcoords="offset points",
                color=MUTED,
                ha="right" if smaller_is_better else "left",
            )
        floor = comparison.noise_floor
        if floor is not None and (floor.kl.value or 0.0) > 1e-8:
            axes.axhline(floor.kl.value or 0.0, color=MUTED, linestyle=":", linewidth=1)
        axes.margins(x=0.18, y=0.2)
        axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
        axes.set_xlabel(label)
        scale_logarithmically(axes, "y")
        axes.set_ylabel(f"mean KL from {plain(comparison.reference)}, nats")

    return draw(
        name,
        title,
        f"A point a variant, with its {formats.level(comparison.confidence)} interval. The dotted "
        "line joins those that no other point beats in both; the dashed line is "
        f"{comparison.reference}, the reference.",
        3.3,
        paint,
    )


def _front(
    places: dict[str, float], values: dict[str, float], smaller_is_better: bool
) -> list[str]:
    """The variants that no other beats in both, in the order of their places."""
    sign = 1 if smaller_is_better else -1
    ordered = sorted(places, key=lambda n: (sign * places[n], values[n]))
    front: list[str] = []
    for name in ordered:
        if not front or values[name] < values[front[-1]]:
            front.append(name)
    return front


def _perplexities(comparison: Comparison) -> Plot:
    shown = [n for n, v in comparison.variants.items() if v.perplexity.value is not None]

    def paint(axes: "Axes") -> None:
        for row, name in enumerate(reversed(shown)):
            figures = comparison.variants[name].perplexity
            seen = look(name, comparison.variants)
            value = figures.value or 0.0
            axes.errorbar(
                [value],
                [row],
                xerr=error_bars(figures),
                color=seen.colour,
                marker=seen.mark,
                capsize=3,
            )
        axes.set_yticks(range(len(shown)), [plain(name) for name in reversed(shown)])
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set_xlabel(f"perplexity, with its {formats.level(comparison.confidence)} interval")

    return draw(
        "perplexity",
        "Perplexity with its interval",
        "A point a variant. The windows are the same, so that a change is known far better than "
        "these intervals say: see the table.",
        0.8 + 0.3 * max(1, len(shown)),
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
                    yerr=error_bars(kl, logarithmic=True),
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
