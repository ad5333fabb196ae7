"""Cells of the comparison → the table of noise in weights, and the series that it is drawn as."""

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.comparison_schema import Comparison, VariantFigures
from orchestrator.contract.noise import ABSOLUTE
from orchestrator.report.tables import cells
from orchestrator.report.tables.cells import (
    NOT_COMPARED,
    NOT_LOADED,
    VARIANT,
    Cell,
    Column,
    ReportTable,
)


@dataclass(frozen=True)
class Series:
    """Variants that differ in how much noise is in their weights.

    Attributes:
        base: what they are without it.
        unit: the variant whose cells it is measured by.
        points: how much, and the figures, in rising order; without noise first, where the run has
            it.
    """

    base: str
    unit: str
    points: list[tuple[float, VariantFigures]]

    @property
    def label(self) -> str:
        """What it is called."""
        return self.base if self.base == self.unit else f"{self.base}, by {self.unit}'s cells"


def noise_tables(comparison: Comparison) -> Iterator[ReportTable]:
    """The table of noise in weights, where there is some."""
    noisy = {name: v for name, v in comparison.variants.items() if v.weight_noise is not None}
    if not noisy:
        return
    columns = [
        VARIANT,
        Column("sigma", "sigma"),
        Column("half-widths of", "unit", look="text"),
        Column("seed", "seed"),
        Column("standard deviation", "standard_deviation", NOT_LOADED),
        Column("codes changed", "codes_changed_share", "nothing rounds them"),
        Column("change", "perplexity_change_pct", NOT_COMPARED),
        Column("KL", "kl_nats", NOT_COMPARED),
        Column("same top", "same_top_token_share", NOT_COMPARED),
    ]
    rows = []
    for name, figures in noisy.items():
        noise = figures.weight_noise
        assert noise is not None
        share = noise.codes_changed_share
        rows.append(
            [
                cells.text(name),
                Cell(f"{noise.sigma:g}", noise.sigma),
                cells.absent() if noise.unit == ABSOLUTE else cells.text(noise.unit),
                cells.count(noise.seed),
                cells.significant(noise.standard_deviation),
                cells.absent() if share is None else cells.share_of_all(share),
                cells.change(figures.perplexity),
                cells.kl(figures.kl),
                cells.percent(figures.same_top_token, 1),
            ]
        )
    note = (
        "Noise is drawn once for a variant, by its seed: intervals are over text, and know nothing "
        "of other noise. Rows that differ in nothing but the seed show how much that is. Codes "
        "changed are of the weights with noise, those rounded to another level than without it."
    )
    caption = "Noise in the weights before they are quantized"
    yield ReportTable("weight_noise", caption, columns, rows, [note])


def noise_series(comparison: Comparison) -> list[Series]:
    """The variants with noise by what they are without it, where several make a curve."""
    found: dict[tuple[str, str], list[tuple[float, VariantFigures]]] = {}
    for figures in comparison.variants.values():
        noise = figures.weight_noise
        if noise is not None and noise.unit != ABSOLUTE:
            found.setdefault((noise.base, noise.unit), []).append((noise.sigma, figures))
    series = []
    for (base, unit), points in found.items():
        without = comparison.variants.get(base)
        start = [] if without is None else [(0.0, without)]
        series.append(Series(base, unit, [*start, *sorted(points, key=lambda each: each[0])]))
    return series
