"""Do intervals hold the truth on real text, and do gates pass wrongly? With the product's own code.

Usage: python -m benchmarks.coverage [--draws 1000] [--gate-draws 2000]

Texts are made of WikiText-2's test articles, drawn at random with replacement, so that what is true
of all such texts is known. `smollm2_wikitext2.npz` holds what SmolLM2-135M-Instruct (float16, an
H100, windows of 512) makes of them, averaged over blocks of 64 tokens: the reference's negative
log-likelihood, the KL of NF4 and of LLM.int8, and the change of the likelihood under each. A
window's value is the mean of its blocks; a share is that of blocks whose KL is above a level.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orchestrator.contract.sampling import looks_at, spread, stretches_of
from orchestrator.figures import estimates
from orchestrator.figures.estimates import Array, Integers, Interval
from orchestrator.figures.sample import Units

BLOCK_TOKENS = 64
# Of a block's KL under NF4, in nats: a fifth of the blocks lie above the first, few above the
# other, and in a few windows often none.
LEVEL, HIGH_LEVEL = 0.34, 0.55
PERCENTS = (25.0, 50.0, 75.0)

Choice = Callable[[int], Sequence[int]]


@dataclass(frozen=True)
class Series:
    """What was measured, by block of the text, and where its articles are."""

    columns: dict[str, Array]
    articles: list[Integers]

    @classmethod
    def read(cls) -> "Series":
        """The series beside this file."""
        found = np.load(Path(__file__).with_name("smollm2_wikitext2.npz"))
        columns = {k: found[k].astype(np.float64) for k in found.files if k != "article"}
        columns["pair"] = columns["kl_nf4"] - columns["kl_int8"]
        columns["share"] = (columns["kl_nf4"] > LEVEL).astype(np.float64)
        columns["low_share"] = (columns["kl_nf4"] <= HIGH_LEVEL).astype(np.float64)
        article = found["article"]
        return cls(columns, [np.flatnonzero(article == each) for each in np.unique(article)])

    def truth(self, name: str) -> float:
        """The mean over all articles: that of a text of articles drawn at random."""
        return float(self.columns[name].mean())

    def text(self, generator: np.random.Generator, articles: int) -> Integers:
        """The blocks of a text of so many articles."""
        drawn = generator.integers(len(self.articles), size=articles)
        return np.concatenate([self.articles[number] for number in drawn])


@dataclass(frozen=True)
class Drawn:
    """Some windows of a text.

    Attributes:
        blocks: of the series, by window: `[windows, blocks]`.
        numbers: of the windows in the text.
        units: the stretches that they are cut into.
    """

    series: Series
    blocks: NDArray[np.int64]
    numbers: Integers
    units: Units

    def sums(self, *names: str) -> list[Array]:
        """The number of blocks, then sums of columns, by stretch."""
        columns = [self.series.columns[name][self.blocks].sum(1) for name in names]
        counts = np.full(len(self.blocks), float(self.blocks.shape[1]))
        return self.units.sums(self.numbers, counts, *columns)

    def interval(self, name: str) -> Interval:
        """Of a mean, a paired change of a perplexity in percent, or a share."""
        confidence = self.units.confidence
        if name.startswith("change"):
            counts, base, change = self.sums("nll", name)
            found = estimates.change_pct_of_exponent(base + change, base, counts)
        elif name.endswith("share"):
            counts, hits = self.sums(name)
            found = estimates.share(hits, counts, len(self.numbers))
        else:
            counts, values = self.sums(name)
            found = estimates.ratio(values, counts)
        interval = None if found is None else found.interval(confidence)
        assert interval is not None
        return interval

    def holds(self, name: str) -> bool:
        """Whether an interval holds the truth."""
        low, high = self.interval(name)
        return low <= self.truth(name) <= high

    def truth(self, name: str) -> float:
        """What an interval should hold."""
        mean = self.series.truth(name)
        return float(100 * np.expm1(mean)) if name.startswith("change") else mean

    def percentiles_held(self, name: str) -> list[bool] | None:
        """Whether each percentile's interval holds that of all articles; None without intervals."""
        truth = np.percentile(self.series.columns[name], PERCENTS)
        owners = np.repeat(self.units.of(self.numbers), self.blocks.shape[1])
        values = self.series.columns[name][self.blocks].ravel()
        found = estimates.percentile_intervals(values, owners, PERCENTS, self.units.confidence)
        if found is None:
            return None
        pairs = zip(found, truth, strict=True)
        return [bool(low <= value <= high) for (low, high), value in pairs]


def windows_of(
    series: Series,
    text: Integers,
    length: int,
    choice: Choice,
    confidence: float = 0.95,
    apart: bool = False,
) -> Drawn:
    """The chosen windows of a text.

    Args:
        apart: whether each window is a unit, which it is not.
    """
    of_window = length // BLOCK_TOKENS
    n = len(text) // of_window
    numbers = np.sort(np.asarray(choice(n), dtype=np.int64))
    blocks = text[: n * of_window].reshape(n, of_window)[numbers]
    stretches = stretches_of(numbers.tolist(), [length] * n)
    if apart:
        stretches = tuple(numbers.tolist())
    return Drawn(series, blocks, numbers, Units(confidence, stretches))


def every(n: int) -> Sequence[int]:
    """All windows."""
    return range(n)


def some(count: int) -> Choice:
    """So many, spread over the text."""
    return lambda n: spread(n, min(count, n))


def first(count: int) -> Choice:
    """The first ones."""
    return lambda n: range(min(count, n))


@dataclass(frozen=True)
class Design:
    """How windows are had of a text."""

    name: str
    length: int
    articles: int
    choice: Choice = every
    apart: bool = False

    def drawn(self, series: Series, generator: np.random.Generator) -> Drawn:
        """The windows of a text drawn at random."""
        text = series.text(generator, self.articles)
        return windows_of(series, text, self.length, self.choice, apart=self.apart)


DESIGNS = (
    Design("all of 2048, 62 articles", 2048, 62),
    Design("all of 512, 62 articles", 512, 62),
    Design("all of 512, 20 articles", 512, 20),
    Design("all of 512, 6 articles", 512, 6),
    Design("12 of 2048, spread, 62 articles", 2048, 62, some(12)),
    Design("96 of 512, spread, 62 articles", 512, 62, some(96)),
    Design("the first 12 of 2048, 62 articles", 2048, 62, first(12)),
    Design("*all of 2048, 62 articles, each a unit*", 2048, 62, apart=True),
    Design("*all of 512, 62 articles, each a unit*", 512, 62, apart=True),
)
MEANS = ("nll", "kl_nf4", "kl_int8", "change_nf4", "change_int8", "pair", "share")


def coverage(
    series: Series, design: Design, draws: int, names: Sequence[str] = MEANS, seed: int = 0
) -> dict[str, float]:
    """How often each interval holds the truth, over texts drawn at random."""
    generator = np.random.default_rng(seed)
    held = dict.fromkeys(names, 0)
    for _ in range(draws):
        drawn = design.drawn(series, generator)
        for name in names:
            held[name] += drawn.holds(name)
    return {name: count / draws for name, count in held.items()}


def percentile_coverage(
    series: Series, design: Design, draws: int, name: str = "kl_nf4", seed: int = 0
) -> list[float]:
    """The same of percentiles, over the texts that are long enough for intervals of them."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        held = design.drawn(series, generator).percentiles_held(name)
        found += [] if held is None else [held]
    return [float(share) for share in np.mean(found, axis=0)] if found else []


# What gates ask for: columns of which they want little, or much.
GATES = {"nll": "<", "kl_nf4": "<", "change_nf4": "<", "share": "<", "low_share": ">"}


def wrong_passes(
    series: Series, count: int, draws: int, names: Sequence[str] = tuple(GATES), seed: int = 0
) -> dict[str, float]:
    """How often a gate passes whose threshold is the truth, with so many windows, spread."""
    generator = np.random.default_rng(seed)
    passed = dict.fromkeys(names, 0)
    for _ in range(draws):
        text = series.text(generator, len(series.articles))
        drawn = windows_of(series, text, 2048, some(count))
        for name in names:
            passed[name] += _verdict(drawn, name) is True
    return {name: found / draws for name, found in passed.items()}


def wrong_passes_until_decided(
    series: Series, draws: int, names: Sequence[str] = tuple(GATES), seed: int = 0
) -> dict[str, float]:
    """The same of looks that end where the interval of 99% decides."""
    generator = np.random.default_rng(seed)
    passed = dict.fromkeys(names, 0)
    for _ in range(draws):
        text = series.text(generator, len(series.articles))
        looks = accumulate(looks_at(len(text) * BLOCK_TOKENS // 2048))
        undecided = list(names)
        for seen in looks:
            drawn = windows_of(series, text, 2048, lambda _, seen=seen: seen, confidence=0.99)
            verdicts = {name: _verdict(drawn, name) for name in undecided}
            for name, verdict in verdicts.items():
                passed[name] += verdict is True
            undecided = [name for name, verdict in verdicts.items() if verdict is None]
    return {name: found / draws for name, found in passed.items()}


def _verdict(drawn: Drawn, name: str) -> bool | None:
    """Whether a gate at the truth passes; None where the interval holds it."""
    threshold = drawn.truth(name)
    low, high = drawn.interval(name)
    if low <= threshold <= high:
        return None
    return high < threshold if GATES[name] == "<" else low > threshold


def _row(name: str, shares: Sequence[float | None], digits: int = 0) -> str:
    shown = ("–" if share is None else f"{100 * share:.{digits}f}%" for share in shares)
    return f"| {name} | {' | '.join(shown)} |"


def main() -> None:
    """Prints the tables of `docs/statistics.md`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--gate-draws", type=int, default=2000)
    options = parser.parse_args()
    series = Series.read()
    heads = (*MEANS, *(f"p{percent:g}" for percent in PERCENTS))
    print(f"| windows | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}")
    for design in DESIGNS:
        found = coverage(series, design, options.draws)
        ends = percentile_coverage(series, design, options.draws // 5)
        print(_row(design.name, [*found.values(), *(ends or [None] * len(PERCENTS))]))
    asked = " | ".join(f"{name} {sign}" for name, sign in GATES.items())
    print(f"\n| gate at the truth | {asked} |\n|---|{'---:|' * len(GATES)}")
    for count in (8, 24, 149):
        rates = wrong_passes(series, count, options.gate_draws)
        print(_row(f"{count} windows", list(rates.values()), 1))
    rates = wrong_passes_until_decided(series, options.gate_draws)
    print(_row("until decided", list(rates.values()), 1))


if __name__ == "__main__":
    main()
