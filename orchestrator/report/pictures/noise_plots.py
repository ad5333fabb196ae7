"""Cells of the comparison → pictures of noise in weights: what it costs, by how much there is."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from orchestrator.comparison_schema import Comparison, VariantFigures
from orchestrator.gates.gate_measures import GATE_MEASURES, Reading
from orchestrator.report.pictures.canvas import Plot, draw, error_bars, look, plain
from orchestrator.report.tables import formats
from orchestrator.report.tables.noise_tables import Series, noise_series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Read = Callable[[VariantFigures], Reading]


def noise_plots(comparison: Comparison) -> Iterator[Plot]:
    """Perplexity, KL and same top token against how much noise there is, where there is some."""
    series = noise_series(comparison)
    measures = {
        "perplexity": ("change of perplexity, %", "perplexity_delta_pct"),
        "kl": ("mean KL, nats", "kl.mean"),
        "same-top": ("same top token, share", "same_top_token"),
    }
    if series:
        for name, (label, measure) in measures.items():
            read = GATE_MEASURES[measure].of_variant
            yield _curve(comparison, series, f"noise-{name}", label, read)


def _curve(
    comparison: Comparison, series: list[Series], name: str, label: str, read: _Read
) -> Plot:
    labels = [one.label for one in series]

    def paint(axes: "Axes") -> None:
        for one in series:
            seen = look(one.label, labels)
            found = [(sigma, read(figures)) for sigma, figures in one.points]
            known = [(s, r.interval, r.value) for s, r in found if r.value is not None]
            for sigma, interval, value in known:
                axes.errorbar(
                    [sigma],
                    [value],
                    yerr=error_bars(value, interval),
                    color=seen.colour,
                    marker=seen.mark,
                    capsize=2,
                )
            # Of several seeds at one place, the line goes through their middle.
            places = sorted({sigma for sigma, _, _ in known})
            means = [_mean([value for s, _, value in known if s == place]) for place in places]
            axes.plot(places, means, color=seen.colour, linestyle=seen.dash, label=plain(one.label))
        axes.set_xlabel("standard deviation of the noise, half-widths of a cell")
        axes.set_ylabel(label)
        axes.legend(frameon=False)

    level = formats.level(comparison.confidence)
    description = (
        f"A line a variant, a point an amount of noise, with {level} intervals over text; several "
        "points above each other are of several seeds."
    )
    return draw(name, f"Noise in the weights: {label}", description, 2.9, paint)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
