"""Cells of the comparison → pictures of uses, speed and memory, each beside its table."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from orchestrator.comparison_schema import CARDS_GIB, Comparison, GenerationFigures, Measure, Memory
from orchestrator.report.pictures.canvas import (
    DASHES,
    GRID,
    HATCHES,
    INK,
    SERIES,
    Plot,
    draw,
    error_bars,
    look,
    plain,
    scale_logarithmically,
)
from orchestrator.report.tables import formats
from orchestrator.report.tables.answer_tables import categories_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KINDS = ("quantized", "scales", "embeddings", "other")
# Of a format that is expanded or emulated here, where its kinds are another dtype's.
_FORMAT = "in its own format"
_PHASE_KINDS = ("tensors", "reserved beside", "context")


def cost_plots(comparison: Comparison) -> Iterator[Plot]:
    """What there is something for."""
    if categories_of(comparison):
        yield from _categories(comparison)
    yield from _speeds(comparison)
    yield from _memory(comparison)


def _categories(comparison: Comparison) -> Iterator[Plot]:
    def values(
        names: Iterable[str], read: Callable[[GenerationFigures], Measure]
    ) -> dict[str, list[Measure | None]]:
        answers = {name: comparison.variants[name].generation.by_category for name in names}
        return {
            name: [
                read(found) if (found := by_category.get(category)) else None
                for category in categories_of(comparison)
            ]
            for name, by_category in answers.items()
        }

    others = [name for name in comparison.variants if name != comparison.reference]
    along = values(others, lambda answers: answers.kl_along_reference)
    if any(found and found.value is not None for row in along.values() for found in row):
        label = f"mean KL along {comparison.reference}'s answers, nats"
        yield _category_bars(comparison, "category-kl", "KL by category", label, along)
    timed = [
        name
        for name, v in comparison.variants.items()
        if not v.memory.expanded and not v.is_streamed
    ]
    seconds = values(timed, lambda answers: answers.seconds)
    label = f"seconds of an answer, by {comparison.provenance.decodings[0]}"
    yield _category_bars(comparison, "category-seconds", "Seconds by category", label, seconds)


def _category_bars(
    comparison: Comparison,
    name: str,
    title: str,
    label: str,
    values: dict[str, list[Measure | None]],
) -> Plot:
    categories = categories_of(comparison)
    answers = comparison.variants[comparison.reference].generation.by_category
    labels = [f"{plain(name)} ({answers[name].prompts})" for name in categories]
    thickness = 0.8 / len(values)

    def paint(axes: "Axes") -> None:
        for number, (variant, row) in enumerate(values.items()):
            seen = look(variant, comparison.variants)
            places = [n + number * thickness for n in range(len(categories))]
            axes.barh(
                places,
                [(found and found.value) or 0.0 for found in row],
                height=thickness * 0.9,
                color=seen.colour,
                hatch=seen.hatch,
                edgecolor=GRID,
                linewidth=0,
                label=plain(variant),
            )
            for place, found in zip(places, row, strict=True):
                if found and (ends := error_bars(found.value, found.interval)) is not None:
                    value = found.value or 0.0
                    axes.errorbar([value], [place], xerr=ends, color=INK, linewidth=0.8)
        middle = (len(values) - 1) * thickness / 2
        axes.set_yticks([n + middle for n in range(len(categories))], labels)
        axes.margins(y=0.01)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(plain(label))
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=4)

    level = formats.level(comparison.confidence)
    description = (
        f"A bar a category (with how many prompts it has) and variant: {label}; with {level} "
        "intervals, where there are prompts enough."
    )
    return draw(name, title, description, 0.9 + 0.14 * len(categories) * (len(values) + 1), paint)


def _speeds(comparison: Comparison) -> Iterator[Plot]:
    shares = [
        (f"{name}, {way}", latency.memory_bandwidth_share, name)
        for name, v in comparison.variants.items()
        for way, latency in v.own_latency.items()
        if latency.memory_bandwidth_share.value is not None
    ]
    if shares:
        yield _bandwidth(comparison, shares)
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for name, v in comparison.variants.items():
        for found in v.throughput:
            if found.tokens_per_second.value is not None and not v.memory.expanded:
                point = found.batch_size, found.tokens_per_second.value
                lines.setdefault((name, found.decoding), []).append(point)
    if any(len(points) > 1 for points in lines.values()):
        yield _throughput(comparison, lines)


def _bandwidth(comparison: Comparison, shares: Sequence[tuple[str, Measure, str]]) -> Plot:
    def paint(axes: "Axes") -> None:
        for row, (_, figure, name) in enumerate(shares):
            seen = look(name, comparison.variants)
            axes.barh(
                [row],
                [100 * (figure.value or 0.0)],
                color=seen.colour,
                hatch=seen.hatch,
                edgecolor=GRID,
                linewidth=0,
            )
        axes.set_yticks(range(len(shares)), [plain(label) for label, _, _ in shares])
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("of what a copy within the device's memory moves, %")

    return draw(
        "bandwidth",
        "Share of the memory's speed",
        "A bar a variant and way of decoding: how near a token's reads come to the memory's speed.",
        0.8 + 0.28 * len(shares),
        paint,
    )


def _throughput(
    comparison: Comparison, lines: dict[tuple[str, str], list[tuple[int, float]]]
) -> Plot:
    def paint(axes: "Axes") -> None:
        ways = list(dict.fromkeys(way for _, way in lines))
        for (name, way), points in lines.items():
            seen = look(name, comparison.variants)
            axes.plot(
                *zip(*points, strict=True),
                color=seen.colour,
                marker=seen.mark,
                linestyle=DASHES[ways.index(way)],
                label=f"{plain(name)}, {way}",
            )
        sizes = sorted({size for points in lines.values() for size, _ in points})
        axes.set_xscale("log", base=2)
        scale_logarithmically(axes, "y")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_xlabel("prompts at once")
        axes.set_ylabel("tokens per second")
        axes.legend(frameon=False)

    title = "Throughput by prompts at once"
    return draw("throughput", title, "A line a variant and way of decoding.", 3.0, paint)


def _memory(comparison: Comparison) -> Iterator[Plot]:
    held = {name: _parts(v.memory) for name, v in comparison.variants.items()}
    shown = {name: parts for name, parts in held.items() if parts}
    if shown:
        there = [k for k in (*_KINDS, _FORMAT) if any(k in dict(parts) for parts in shown.values())]
        yield _stacked("memory", "Size by kind of weights", "size", shown, there)
    phases = {
        f"{name}, {phase}": [
            ("tensors", m.peak_bytes),
            ("reserved beside", m.reserved_bytes - m.peak_bytes),
            ("context", v.memory.device_context_bytes or 0),
        ]
        for name, v in comparison.variants.items()
        for phase, m in v.memory.phases.items()
    }
    if phases:
        title = "Memory of the device by phase"
        yield _stacked("memory-phases", title, "at most, in each phase", phases, _PHASE_KINDS)


def _parts(memory: Memory) -> list[tuple[str, int]]:
    """What a variant's size is made of; nothing where it is not loaded yet."""
    if memory.size_bytes is None:
        return []
    if memory.expanded:
        return [(_FORMAT, memory.size_bytes)]
    counts = ((kind, getattr(memory, f"{kind}_bytes")) for kind in _KINDS)
    return [(kind, count) for kind, count in counts if count is not None]


def _stacked(
    name: str,
    title: str,
    label: str,
    bars: dict[str, list[tuple[str, int]]],
    kinds: Sequence[str],
) -> Plot:
    """Bars of bytes by kind, with lines at the memories of cards that are near."""
    longest = max(sum(count for _, count in parts) for parts in bars.values())
    unit, scale = ("GiB", 2**30) if longest >= 2**30 else ("MiB", 2**20)
    names = list(bars)

    def paint(axes: "Axes") -> None:
        starts = [0.0] * len(names)
        for number, kind in enumerate(kinds):
            widths = [dict(bars[each]).get(kind, 0) / scale for each in names]
            axes.barh(
                range(len(names)),
                widths,
                left=starts,
                color=SERIES[number],
                hatch=HATCHES[number],
                edgecolor=GRID,
                linewidth=0,
                label=kind,
            )
            starts = [start + width for start, width in zip(starts, widths, strict=True)]
        if scale == 2**30:
            for card in (c for c in CARDS_GIB if c * scale <= 1.6 * longest):
                axes.axvline(card, color=INK, linestyle="--", linewidth=0.8)
        axes.set_yticks(range(len(names)), [plain(each) for each in names])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        cards = "; dashed: memories of cards" if scale == 2**30 else ""
        axes.set_xlabel(f"{label}, {unit}{cards}")
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=4)

    description = f"A bar each, by kind: {', '.join(kinds)}."
    return draw(name, title, description, 1.0 + 0.3 * len(names), paint)
