"""Times of answers → latency, speed and how near they are to what the memory allows. Pure.

Units are prompts. What repeating the same prompts leaves open is the machine's own uncertainty, and
is given apart: more repeats make it small, and the interval over prompts stays.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.comparison_schema import Latency, Throughput, Timed
from orchestrator.figures import estimates
from orchestrator.figures.estimates import Array, Estimate
from orchestrator.figures.measures import compared, measured
from orchestrator.figures.sample import Units

_PERCENTILES = ("50", "90", "95", "99")


@dataclass(frozen=True)
class Reads:
    """What a variant's new tokens must read of the device's memory; None for what is not known.

    Attributes:
        weights_bytes: of the weights, for each token.
        cache_bytes: of the cache, for each token before it.
        copy_bytes_per_second: bytes read and written, by a copy within the memory.
    """

    weights_bytes: int | None
    cache_bytes: int | None
    copy_bytes_per_second: float | None

    @classmethod
    def of_loading(cls, row: dict[str, Any]) -> "Reads":
        """As a row of the table `loading` says."""
        return cls(
            weights_bytes=row["read_weights_bytes"],
            cache_bytes=row["cache_bytes_per_token"],
            copy_bytes_per_second=row["device_copy_bytes_per_second"],
        )


NO_READS = Reads(None, None, None)


@dataclass(frozen=True)
class _Times:
    """The times of one way of decoding, a row a prompt that has a token.

    Attributes:
        prompts: their numbers.
        prompt_tokens, new_tokens: `[prompts]`.
        first, total: seconds to the first token and to the last: `[prompts, repeats]`.
        later: seconds of every token but each first one.
        same_tokens: in how many prompts the tokens are those of the first way, each time.
    """

    prompts: NDArray[np.int64]
    prompt_tokens: Array
    new_tokens: Array
    first: Array
    total: Array
    later: Array
    same_tokens: int

    @property
    def after_first(self) -> Array:
        """Seconds of all tokens but the first: `[prompts, repeats]`."""
        return self.total - self.first


def latency_of(
    rows: pa.Table,
    timings: pa.Table,
    reads: Reads,
    base: pa.Table | None,
    chosen: NDArray[np.bool_],
    units: Units,
) -> dict[str, Latency]:
    """The figures of each way of decoding that a variant's prompts were answered by.

    Args:
        rows, timings: the variant's rows of the tables `generations` and `timings`.
        base: the reference's timings of the same prompts; None where there is nothing to hold the
            variant against.
        chosen: which of the rows; bool `[prompts]`.
        units: that the intervals are over.
    """
    chosen_rows = rows.filter(pa.array(chosen))
    found = {}
    for decoding in timings["decoding"].unique().to_pylist():
        own = _times_of(timings, chosen_rows, decoding)
        other = None if base is None else _times_of(base, chosen_rows, decoding)
        if own is not None:
            found[decoding] = _Figures(units).latency(own, other, reads)
    return found


def throughput_of(rows: pa.Table, units: Units) -> list[Throughput]:
    """The figures of each batch size and way of decoding.

    Args:
        rows: a variant's rows of the table `throughput`.
        units: repeats.
    """
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        found.setdefault((row["batch_size"], row["decoding"]), []).append(row)
    return [_throughput(repeats, units) for repeats in found.values()]


def _throughput(repeats: list[dict[str, Any]], units: Units) -> Throughput:
    first = repeats[0]
    tokens = first["batch_size"] * first["new_tokens"]
    measured_rows = [row for row in repeats if row["seconds"] is not None]
    speed = step = None
    if measured_rows:
        seconds = np.asarray([row["seconds"] for row in measured_rows])
        speed = estimates.ratio(np.full(len(seconds), float(tokens)), seconds, least=0.0)
        later = [row["seconds"] - row["time_to_first_token_seconds"] for row in measured_rows]
        steps = first["new_tokens"] - 1
        step = float(np.mean(later)) / steps if steps else None
    peaks = [row["device_peak_bytes"] for row in measured_rows]
    return Throughput(
        batch_size=first["batch_size"],
        decoding=first["decoding"],
        prompt_tokens=first["prompt_tokens"],
        new_tokens=first["new_tokens"],
        tokens_per_second=measured(speed, units),
        step_seconds=step,
        cache_bytes=first["cache_bytes"],
        device_peak_bytes=max((peak for peak in peaks if peak is not None), default=None),
        problem=first["problem"],
    )


def _times_of(timings: pa.Table, rows: pa.Table, decoding: str) -> _Times | None:
    """The times of some prompts by one way; None where none of them has a token."""
    lengths = dict(zip(rows["prompt"].to_pylist(), rows["prompt_tokens"].to_pylist(), strict=True))
    answered = (pc.field("decoding") == decoding) & (pc.field("new_tokens") > 0)
    by_prompt: dict[int, list[dict[str, Any]]] = {}
    for row in timings.filter(answered & pc.field("prompt").isin(list(lengths))).to_pylist():
        by_prompt.setdefault(row["prompt"], []).append(row)
    if not by_prompt:
        return None
    several = list(by_prompt.values())
    return _Times(
        prompts=np.asarray(list(by_prompt)),
        prompt_tokens=np.asarray([float(lengths[prompt]) for prompt in by_prompt]),
        new_tokens=np.asarray([float(repeats[0]["new_tokens"]) for repeats in several]),
        first=np.asarray([[r["time_to_first_token_seconds"] for r in each] for each in several]),
        total=np.asarray([[r["seconds"] for r in each] for each in several]),
        later=np.concatenate([np.asarray(r["token_seconds"]) for each in several for r in each]),
        same_tokens=sum(all(r["same_tokens"] for r in repeats) for repeats in several),
    )


@dataclass(frozen=True)
class _Figures:
    """What is made of times."""

    units: Units

    def latency(self, own: _Times, base: _Times | None, reads: Reads) -> Latency:
        if base is not None and not np.array_equal(own.prompts, base.prompts):
            base = None
        total, tokens = own.total.mean(1), own.new_tokens
        percents = [float(name) for name in _PERCENTILES]
        change = None
        if base is not None:
            others = base.new_tokens, base.total.mean(1)
            change = estimates.change_pct_of_ratio((tokens, total), others)
        return Latency(
            answers=len(tokens),
            same_tokens=own.same_tokens,
            seconds=self._mean(own.total, None if base is None else base.total),
            time_to_first_token_seconds=self._mean(own.first, None if base is None else base.first),
            time_per_output_token_seconds=self._per_token(own, base),
            token_seconds_percentiles=dict(
                zip(_PERCENTILES, np.percentile(own.later, percents).tolist(), strict=True)
            )
            if len(own.later)
            else None,
            tokens_per_second=self._timed(
                estimates.ratio(tokens, total, least=0.0),
                change,
                _repeats_error(own.total),
                scale=float(tokens.sum() / total.sum() ** 2),
            ),
            **self._roofline(own, reads),
        )

    def _mean(self, own: Array, base: Array | None) -> Timed:
        """The mean over prompts of the means over repeats."""
        means = own.mean(1)
        change = None if base is None else estimates.change_pct_of_mean(means, base.mean(1))
        mean = estimates.mean(means, least=0.0)
        return self._timed(mean, change, _repeats_error(own), scale=1 / len(means))

    def _per_token(self, own: _Times, base: _Times | None) -> Timed:
        """Of all tokens but each first one, all of them alike."""
        counts = own.new_tokens - 1
        if not counts.any():
            return self._timed(None, None, None, scale=1.0)
        means = own.after_first.mean(1)
        change = None
        if base is not None and (base.new_tokens > 1).any():
            others = base.after_first.mean(1), base.new_tokens - 1
            change = estimates.change_pct_of_ratio((means, counts), others)
        error = _repeats_error(own.after_first)
        per_token = estimates.ratio(means, counts, least=0.0)
        return self._timed(per_token, change, error, scale=float(1 / counts.sum()))

    def _roofline(self, own: _Times, reads: Reads) -> dict[str, Any]:
        """What tokens must read, and the share of the memory's speed that this makes."""
        continued = own.new_tokens > 1
        nothing = measured(None, self.units)
        if reads.weights_bytes is None or reads.cache_bytes is None or not continued.any():
            return {"read_bytes_per_token": None, "memory_bandwidth_share": nothing}
        prompt, new = own.prompt_tokens[continued], own.new_tokens[continued]
        counts = new - 1
        # The second token has the prompt and one token before it, the last all but itself.
        before = counts * prompt + new * counts / 2
        read = counts * reads.weights_bytes + before * reads.cache_bytes
        share = nothing
        if reads.copy_bytes_per_second is not None:
            seconds = own.after_first.mean(1)[continued]
            copied = seconds * reads.copy_bytes_per_second
            share = measured(estimates.ratio(read, copied, least=0.0), self.units)
        return {
            "read_bytes_per_token": float(read.sum() / counts.sum()),
            "memory_bandwidth_share": share,
        }

    def _timed(
        self,
        estimate: Estimate | None,
        change: Estimate | None,
        repeats_error: float | None,
        scale: float,
    ) -> Timed:
        """A measure of times.

        Args:
            repeats_error: of the sum of seconds behind it.
            scale: by how much the measure changes with that sum, by linearization.
        """
        figure = compared(estimate, change, self.units)
        stderr = None if repeats_error is None or estimate is None else repeats_error * scale
        return Timed(**figure.model_dump(), stderr_repeats=stderr)


def _repeats_error(seconds: Array) -> float | None:
    """The standard error of a sum over prompts of means over repeats, by the repeats alone.

    Args:
        seconds: `[prompts, repeats]`.
    """
    repeats = seconds.shape[1]
    if repeats < 2:
        return None
    return float(np.sqrt((seconds.var(axis=1, ddof=1) / repeats).sum()))
