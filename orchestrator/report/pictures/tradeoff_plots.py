"""Cells of the comparison → what a variant costs beside what it changes, as pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.comparison_schema import Comparison, Measure
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
from orchestrator.report.tables.kl_scale import KL_OF_FORMATS
from orchestrator.report.tables.quality_tables import with_kl

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class _Cost:
    """What variants are held against.

    Attributes:
        name, title, label: of its picture.
        places: by variant, in the unit of the axis; those that have one and a KL.
        reference: where the reference stands; None where it has none.
        measure: of gates on it, and the unit of the axis in the gate's.
    """

    name: str
    title: str
    label: str
    places: dict[str, float]
    reference: float | None
    measure: str
    unit: float
    smaller_is_better: bool


def tradeoff_plots(comparison: Comparison, judgement: Judgement) -> Iterator[Plot]:
    """KL against size, and against speed, where these are known."""
    for cost in (_size(comparison, judgement), _speed(comparison)):
        if cost.places:
            yield _tradeoff(comparison, judgement, cost)


def thresholds(judgement: Judgement, measure: str) -> list[float]:
    """What gates ask of a measure of every variant, whatever the category."""
    asked = (r for r in judgement.results if r.measure == measure and r.category is None)
    return list(dict.fromkeys(result.threshold for result in asked))


def _size(comparison: Comparison, judgement: Judgement) -> _Cost:
    sizes = judgement.recommendation.size_bytes
    unit, scale = ("GiB", 2**30) if max(sizes.values(), default=0) >= 2**30 else ("MiB", 2**20)
    return _Cost(
        "tradeoff-size",
        f"KL against size, {unit}",
        f"size of the weights, {unit} (smaller is better)",
        {name: sizes[name] / scale for name in with_kl(comparison) if name in sizes},
        sizes.get(comparison.reference, 0) / scale or None,
        "size_bytes",
        scale,
        smaller_is_better=True,
    )


def _speed(comparison: Comparison) -> _Cost:
    found = {name: v.own_speed for name, v in comparison.variants.items()}
    speeds = {name: speed and speed.value for name, speed in found.items()}
    return _Cost(
        "tradeoff-speed",
        "KL against speed",
        "tokens per second, by the fastest way measured (more is better)",
        {name: speed for name in with_kl(comparison) if (speed := speeds[name])},
        speeds[comparison.reference] or None,
        "tokens_per_second",
        1.0,
        smaller_is_better=False,
    )


def _tradeoff(comparison: Comparison, judgement: Judgement, cost: _Cost) -> Plot:
    """Points of a cost and a KL, with the Pareto front: what nothing beats in both."""
    figures = {variant: with_kl(comparison)[variant].mean for variant in cost.places}
    # On a logarithmic axis nothing has no place: it is marked at the axis.
    positive = {n: figure.value for n, figure in figures.items() if figure.value}
    front = _front(cost, {n: figure.value or 0.0 for n, figure in figures.items()})

    def paint(axes: "Axes") -> None:
        drawn = [n for n in front if n in positive]
        axes.plot(
            [cost.places[n] for n in drawn],
            [positive[n] for n in drawn],
            color=MUTED,
            linestyle=":",
            zorder=1,
        )
        for variant in positive:
            _point(axes, comparison, variant, cost.places[variant], figures[variant])
        for variant in cost.places:
            if variant not in positive:
                _point_of_nothing(axes, comparison, variant, cost.places[variant])
        _reference(axes, comparison, cost)
        floor = comparison.noise_floor
        if floor is not None and floor.kl.value:
            axes.axhline(floor.kl.value, color=MUTED, linestyle=":", linewidth=1)
        for threshold in thresholds(judgement, cost.measure):
            axes.axvline(threshold / cost.unit, color=INK, linewidth=0.8)
        axes.margins(x=0.18, y=0.2)
        axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
        axes.set_xlabel(cost.label)
        if positive:
            for threshold in thresholds(judgement, "kl.mean"):
                axes.axhline(threshold, color=INK, linewidth=0.8)
                axes.annotate(
                    f"asked: {threshold:g}",
                    (0.01, threshold),
                    xycoords=("axes fraction", "data"),
                    xytext=(0, 2),
                    textcoords="offset points",
                    fontsize=8,
                )
            scale_logarithmically(axes, "y")
            _scale(axes)
        axes.set_ylabel(f"mean KL from {plain(comparison.reference)}, nats")

    level = formats.level(comparison.confidence)
    description = (
        f"A point a variant, with its {level} interval. The dotted line joins those that no other "
        f"point beats in both; the dashed line is {comparison.reference}, the reference; a whole "
        "line is what the rule asks. At the right: what llama.cpp's formats have (Llama 3 8B)."
    )
    return draw(cost.name, cost.title, description, 3.3, paint)


def _point(axes: "Axes", comparison: Comparison, variant: str, place: float, kl: Measure) -> None:
    seen = look(variant, comparison.variants)
    axes.errorbar(
        [place],
        [kl.value or 0.0],
        yerr=error_bars(kl.value, kl.interval, logarithmic=True),
        color=seen.colour,
        marker=seen.mark,
        capsize=3,
        linestyle="none",
    )
    axes.annotate(
        plain(variant),
        (place, kl.value or 0.0),
        xytext=(7, 5),
        textcoords="offset points",
        color=INK,
    )


def _point_of_nothing(axes: "Axes", comparison: Comparison, variant: str, place: float) -> None:
    """A variant whose KL is 0, at the foot of the picture."""
    seen = look(variant, comparison.variants)
    axes.plot(
        [place],
        [0.03],
        transform=axes.get_xaxis_transform(),
        color=seen.colour,
        marker=seen.mark,
        fillstyle="none",
        linestyle="none",
    )
    axes.annotate(
        f"{plain(variant)} (KL 0)",
        (place, 0.03),
        xycoords=("data", "axes fraction"),
        xytext=(7, 2),
        textcoords="offset points",
        color=INK,
    )


def _reference(axes: "Axes", comparison: Comparison, cost: _Cost) -> None:
    if cost.reference is None:
        return
    axes.axvline(cost.reference, color=MUTED, linestyle="--", linewidth=1)
    axes.annotate(
        plain(comparison.reference),
        (cost.reference, 0.12),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if cost.smaller_is_better else 5, 0),
        textcoords="offset points",
        color=MUTED,
        ha="right" if cost.smaller_is_better else "left",
    )


def _scale(axes: "Axes") -> None:
    """Marks at the right edge: the KL of formats that everybody knows."""
    low, high = axes.get_ylim()
    for name, kl in KL_OF_FORMATS.items():
        if low < kl < high:
            axes.annotate(
                f"– {name}",
                (1.0, kl),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 0),
                textcoords="offset points",
                color=MUTED,
                fontsize=8,
                va="center",
            )


def _front(cost: _Cost, values: dict[str, float]) -> list[str]:
    """The variants that no other beats in both, in the order of their places."""
    sign = 1 if cost.smaller_is_better else -1
    ordered = sorted(cost.places, key=lambda n: (sign * cost.places[n], values[n]))
    front: list[str] = []
    for name in ordered:
        if not front or values[name] < values[front[-1]]:
            front.append(name)
    return front
