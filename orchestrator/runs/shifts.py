"""Two runs of like inputs → which of their figures have changed beyond what chance and rounding do.

Windows and prompts that both have are paired, so that what they are like drops out. A difference
counts where its p-value (Student's t over the stretches of the text, or over prompts), corrected
for all that was compared (Holm), is below 0.05, and where it is larger than two runs of one thing
may differ by: the noise floor of either run, and of speeds a tenth.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.comparison_schema.measure_fields import FEWEST_PROMPTS, FEWEST_UNITS
from orchestrator.contract.manifest import Manifest
from orchestrator.errors import BadInputError
from orchestrator.figures import estimates
from orchestrator.figures.estimates import Array, Estimate
from orchestrator.figures.pairs import holm, p_value
from orchestrator.figures.sample import Units
from orchestrator.runs.finished import FinishedRun
from orchestrator.storage.reduce import Tables, join_shards
from orchestrator.storage.tokens import TokenTable

_ALPHA = 0.05
# Nats of a mean: less than another order of the same sums makes of few windows.
_LEAST_NATS = 1e-5
# Of what rounding does to some windows, so many times may be what it does to others.
_NOISE_FACTOR = 3.0
# Of a speed: what one machine's own runs differ by from day to day.
_SPEED_SHARE = 0.1


@dataclass(frozen=True)
class Shift:
    """A figure in two runs.

    Attributes:
        measure: what it is, with its unit.
        before, after: over what both have.
        units: stretches of the text, or prompts.
        p_holm: corrected for all that was compared.
        is_change: whether it is one beyond chance and rounding.
    """

    variant: str
    measure: str
    before: float
    after: float
    units: int
    p_holm: float
    is_change: bool

    def __str__(self) -> str:
        """In a line."""
        return (
            f"{self.variant}: {self.measure} {self.before:.4g} → {self.after:.4g} "
            f"(p {self.p_holm:.2g} over {self.units} units, Holm)"
        )


@dataclass(frozen=True)
class Shifts:
    """What became of one run's figures in a later one.

    Attributes:
        compared: each figure that both runs have.
        left_out: what could not be compared, and why.
    """

    before: str
    after: str
    compared: tuple[Shift, ...]
    left_out: tuple[str, ...]

    @property
    def changes(self) -> list[Shift]:
        """Those beyond chance and rounding."""
        return [shift for shift in self.compared if shift.is_change]


@dataclass(frozen=True)
class _Pair:
    """A figure in two runs, before it is corrected for there being many."""

    variant: str
    measure: str
    before: float
    after: float
    p: float
    units: int
    is_large: bool


def shifts_between(before: FinishedRun, after: FinishedRun) -> Shifts:
    """Holds the figures of two runs of like inputs against each other.

    Raises:
        BadInputError: the shards of a run are not there, or of other versions.
    """
    one, two = _Run.read(before), _Run.read(after)
    pairs: list[_Pair] = []
    left_out: list[str] = []
    for variant in before.comparison.variants:
        if variant not in after.comparison.variants:
            continue
        for found in (
            *_of_windows(variant, one, two),
            *_of_speed(variant, before, after, one, two),
        ):
            if isinstance(found, _Pair):
                pairs.append(found)
            else:
                left_out.append(found)
    corrected = holm([pair.p for pair in pairs])
    return Shifts(
        before.name,
        after.name,
        tuple(
            Shift(
                variant=pair.variant,
                measure=pair.measure,
                before=pair.before,
                after=pair.after,
                units=pair.units,
                p_holm=p,
                is_change=pair.is_large and p < _ALPHA,
            )
            for pair, p in zip(pairs, corrected, strict=True)
        ),
        tuple(left_out),
    )


@dataclass(frozen=True)
class _Run:
    """A run's tables.

    Attributes:
        floor: nats of a mean that rounding alone may make.
    """

    manifest: Manifest
    tables: Tables
    floor: float

    @classmethod
    def read(cls, run: FinishedRun) -> "_Run":
        manifest = run.folder.read_manifest()
        if not run.folder.finished(manifest):
            raise BadInputError("RUN", f"{run.folder} has no shards to hold against another's")
        tables = join_shards(run.folder, manifest)
        return cls(manifest, tables, _floor(tables, manifest.reference))


def _floor(tables: Tables, reference: str) -> float:
    """What another order of the same arithmetic makes of a window's mean likelihood, and of KL."""
    noise = tables.tokens["noise"][reference]
    if not len(noise.counts):
        return _LEAST_NATS
    own, base = (
        noise.column(name)
        for name in ("negative_log_likelihood", "reference_negative_log_likelihood")
    )
    of_windows = np.abs(noise.sums(own - base)) / noise.counts
    of_kl = noise.sums(noise.column("kl")) / noise.counts
    found = float(max(of_windows.max(), of_kl.max()))
    return max(_LEAST_NATS, _NOISE_FACTOR * found) if np.isfinite(found) else _LEAST_NATS


def _of_windows(variant: str, one: _Run, two: _Run) -> Iterator[_Pair | str]:
    """Its likelihood, and its divergence from the reference where both have one."""
    first, second = (run.tables.tokens["windows"][variant] for run in (one, two))
    columns = {"perplexity, as nats a token,": "negative_log_likelihood"}
    if variant not in (one.manifest.reference, two.manifest.reference):
        columns["mean KL"] = "kl"
    floor = max(one.floor, two.floor)
    for measure, column in columns.items():
        common = _common(first, second, column)
        if isinstance(common, str):
            yield f"{variant}: {measure.partition(',')[0]} is not compared: {common}"
            continue
        windows, counts, before, after = common
        units = Units(two.manifest.confidence, two.manifest.looks[-1].stretches)
        tokens, earlier, later = units.sums(windows, counts, before, after)
        difference = estimates.ratio(later - earlier, tokens)
        if difference.n < FEWEST_UNITS:
            yield f"{variant}: {measure.partition(',')[0]} is not compared: too few windows"
            continue
        total = float(tokens.sum())
        yield _Pair(
            variant=variant,
            measure=measure,
            before=float(earlier.sum()) / total,
            after=float(later.sum()) / total,
            p=_p(difference),
            units=difference.n,
            is_large=abs(difference.value) > floor,
        )


def _common(
    first: TokenTable, second: TokenTable, column: str
) -> tuple[NDArray[np.int64], Array, Array, Array] | str:
    """The windows that both have, their tokens, a column's sums in each; or why there are none."""
    windows, own, other = np.intersect1d(first.windows, second.windows, return_indices=True)
    if not len(windows):
        return "no window is in both"
    if not np.array_equal(first.counts[own], second.counts[other]):
        return "its windows have other tokens"
    sums = [
        table.sums(table.column(column))[places]
        for table, places in ((first, own), (second, other))
    ]
    if not all(np.isfinite(each).all() for each in sums):
        return "not all of it is a finite number"
    return windows, first.counts[own].astype(np.float64), sums[0], sums[1]


def _of_speed(
    variant: str, before: FinishedRun, after: FinishedRun, one: _Run, two: _Run
) -> Iterator[_Pair | str]:
    """Tokens per second over the prompts that both answered, on like devices alone."""
    ways = [run.comparison.variants[variant].own_latency for run in (before, after)]
    if not all(ways):
        return
    if before.machine != after.machine:
        yield f"{variant}: speed is not compared: the runs were on unlike devices"
        return
    rows = [_answers(run.tables, variant) for run in (one, two)]
    prompts = sorted(rows[0].keys() & rows[1].keys())
    if len(prompts) < FEWEST_PROMPTS:
        yield f"{variant}: speed is not compared: too few prompts"
        return
    (new, seconds), (later_new, later_seconds) = (
        np.array([found[prompt] for prompt in prompts], np.float64).T for found in rows
    )
    if min(new.sum(), seconds.sum(), later_new.sum(), later_seconds.sum()) <= 0:
        return
    change = estimates.change_pct_of_ratio((later_new, later_seconds), (new, seconds))
    if change is None:
        return
    yield _Pair(
        variant=variant,
        measure="tokens per second",
        before=float(new.sum() / seconds.sum()),
        after=float(later_new.sum() / later_seconds.sum()),
        p=_p(change),
        units=change.n,
        is_large=abs(change.value) > 100 * _SPEED_SHARE,
    )


def _answers(tables: Tables, variant: str) -> dict[str, tuple[int, float]]:
    """New tokens and seconds of each answer without an error, by the prompt's id."""
    rows: Sequence[dict[str, object]] = (
        tables.stages["generations"]
        .filter(pa.compute.field("variant") == variant)
        .select(["prompt_id", "new_tokens", "seconds", "error"])
        .to_pylist()
    )
    return {
        str(row["prompt_id"]): (int(str(row["new_tokens"])), float(str(row["seconds"])))
        for row in rows
        if row["error"] is None
    }


def _p(estimate: Estimate) -> float:
    """How likely a difference as large is by chance; of one unit nothing is unlikely."""
    return 1.0 if estimate.stderr is None else p_value(estimate.value, estimate.stderr, estimate.n)
