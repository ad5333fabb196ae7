"""Answers to prompts → how fast, long and true to the reference's they are. Pure.

Overall and by category. What a variant thinks of the reference's own answers, token by token, is
held against the reference there (teacher forcing): two answers that part at the first token can be
worlds apart in their words and a hair in their probabilities.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.comparison_schema import (
    DifferentAnswer,
    Generation,
    GenerationFigures,
    Measure,
    TokenMeasure,
)
from orchestrator.comparison_schema.notes import Note, note
from orchestrator.contract.tables import answers_in
from orchestrator.figures import estimates
from orchestrator.figures.degenerate import DegenerateKind, degenerate_kind
from orchestrator.figures.divergence import finite_windows
from orchestrator.figures.estimates import Array
from orchestrator.figures.latency import NO_READS, Reads, latency_of
from orchestrator.figures.measures import column, compared, measured
from orchestrator.figures.sample import NO_TOKENS, Sample, Units

# Nats. A category whose mean KL along the reference's answers is above it is named.
KL_THRESHOLD = 0.1
# Of the answers that differ most, a variant.
_SHOWN_ANSWERS = 3


@dataclass(frozen=True)
class Answers:
    """A variant's answers.

    Attributes:
        rows: its rows of the table `generations`.
        timings: its rows of the table `timings`.
        teacher_forced: what it makes of the reference's answers, a window a prompt.
        reads: what its tokens must read, and how fast.
        is_timed: whether it is of interest how long they took.
    """

    rows: pa.Table
    timings: pa.Table
    teacher_forced: Sample
    reads: Reads = NO_READS
    is_timed: bool = True

    @property
    def decoding(self) -> str | None:
        """The way by which they were given; None where there is none."""
        return self.timings["decoding"][0].as_py() if len(self.timings) else None

    @property
    def graph_refusal(self) -> str | None:
        """Why there is none by a CUDA graph, where one was asked for."""
        return next(iter(self.rows["graph_refusal"].drop_null().to_pylist()), None)

    @cached_property
    def token_ids(self) -> list[list[int]]:
        """Of each answer."""
        return answers_in(self.rows)

    @cached_property
    def degenerate_kinds(self) -> list[DegenerateKind | None]:
        """How each answer is broken, if it is."""
        texts = self.rows["text"].to_pylist()
        return [degenerate_kind(*pair) for pair in zip(self.token_ids, texts, strict=True)]

    @cached_property
    def teacher_forced_ids(self) -> Array:
        """The tokens of the answers that it scores."""
        return self.teacher_forced.tokens.column("token")

    @property
    def units(self) -> Units:
        """What intervals are over: prompts."""
        return self.teacher_forced.units

    @cached_property
    def teacher_forced_is_finite(self) -> bool:
        """Whether nothing but finite numbers was measured of them."""
        return bool(finite_windows(self.teacher_forced.tokens).all())

    @cached_property
    def kl(self) -> Array:
        """Of each of these tokens, from the reference."""
        return self.teacher_forced.tokens.column("kl")

    @cached_property
    def same_top_token(self) -> Array:
        """Of each of these tokens, 1 where both put the same one first."""
        return self.teacher_forced.tokens.column("same_top_token")


def generation_of(
    own: Answers,
    reference: Answers | None,
    prompt_texts: Sequence[str] = (),
    effect: float | None = None,
) -> Generation:
    """The figures of a variant's answers.

    Args:
        reference: what they are held against; None for the reference itself.
        prompt_texts: what was asked, by the prompt's number; none where no answers are to be shown.
        effect: the design effect of a same top token that all or none have.
    """
    paired = reference is not None and own.rows["prompt"].equals(reference.rows["prompt"])
    base = reference if paired else None
    along = base is not None and teacher_forced_problem(own, base) is None
    categories = own.rows["category"].to_pylist()

    def figures(chosen: NDArray[np.bool_]) -> GenerationFigures:
        return _figures(own, base, along, chosen, effect)

    by_category = {
        name: figures(np.asarray([category == name for category in categories]))
        for name in dict.fromkeys(categories)
    }
    return Generation(
        **dict(figures(np.ones(len(own.rows), dtype=np.bool_))),
        by_category=by_category,
        graph_refusal=own.graph_refusal,
        device_copy_bytes_per_second=own.reads.copy_bytes_per_second,
        kl_threshold=KL_THRESHOLD,
        most_different=[]
        if base is None or not along
        else _most_different(own, base, prompt_texts),
        categories_beyond=[
            name for name, found in by_category.items() if _is_beyond(found.kl_along_reference)
        ],
    )


def _is_beyond(figure: TokenMeasure) -> bool:
    """Whether it is sure that a category's KL is above the threshold."""
    return figure.interval is not None and figure.interval[0] > KL_THRESHOLD


def _most_different(
    own: Answers, base: Answers, prompt_texts: Sequence[str]
) -> list[DifferentAnswer]:
    """The answers that are not the reference's whose KL along the reference's is the largest."""
    tokens = own.teacher_forced.tokens
    counts = tokens.counts
    means = tokens.sums(own.kl) / np.maximum(counts, 1)
    rows, base_rows = own.rows.to_pylist(), base.rows.to_pylist()
    different = [
        number
        for number in np.argsort(-means, kind="stable").tolist()
        if counts[number] and own.token_ids[number] != base.token_ids[number]
    ]
    return [
        DifferentAnswer(
            prompt_id=rows[number]["prompt_id"],
            category=rows[number]["category"],
            prompt=prompt_texts[rows[number]["prompt"]],
            reference_answer=base_rows[number]["text"],
            answer=rows[number]["text"],
            common_tokens=_common_tokens(own.token_ids[number], base.token_ids[number]),
            kl=float(means[number]),
        )
        for number in different[: _SHOWN_ANSWERS if prompt_texts else 0]
    ]


def teacher_forced_problem(own: Answers, reference: Answers) -> Note | None:
    """Why no divergence along the reference's answers is given; None where it is.

    Args:
        own, reference: answers to the same prompts.
    """
    variant, scored = own.teacher_forced.tokens.variant, own.teacher_forced.tokens.windows
    prompts = column(reference.rows, "prompt")
    if not np.array_equal(scored, prompts):
        return note("answers_scored_in_part", variant, scored=len(scored), answers=len(prompts))
    expected = np.concatenate([np.empty(0), *map(np.asarray, reference.token_ids)])
    if not np.array_equal(own.teacher_forced_ids, expected):
        return note("other_answers_scored", variant)
    if not own.teacher_forced_is_finite:
        return note("answers_not_finite", variant)
    return None


def _figures(
    own: Answers,
    base: Answers | None,
    along: bool,
    chosen: NDArray[np.bool_],
    effect: float | None,
) -> GenerationFigures:
    """The figures of some answers.

    Args:
        base: the reference's answers to the same prompts.
        along: whether the variant's divergence along them can be given.
        chosen: which of the rows; bool `[prompts]`.
        effect: as of `generation_of`.
    """
    rows = own.rows.filter(pa.array(chosen))
    seconds, tokens = column(rows, "seconds"), column(rows, "new_tokens")
    n, units = len(rows), own.units
    timed = n if own.is_timed else 0
    seconds_change = speed_change = tokens_change = None
    if base is not None and n:
        base_rows = base.rows.filter(pa.array(chosen))
        base_seconds, base_tokens = column(base_rows, "seconds"), column(base_rows, "new_tokens")
        # A variant that no graph holds is not to be slower for it.
        alike = own.decoding == base.decoding and own.is_timed and base.is_timed
        if alike:
            seconds_change = estimates.change_pct_of_mean(seconds, base_seconds)
        if tokens.sum() > 0 and base_tokens.sum() > 0:
            if alike:
                speeds = (tokens, seconds), (base_tokens, base_seconds)
                speed_change = estimates.change_pct_of_ratio(*speeds)
            tokens_change = estimates.change_pct_of_mean(tokens, base_tokens)
    scored = own.teacher_forced
    scored_tokens = np.repeat(chosen, scored.tokens.counts) if along else None
    kinds = Counter(kind for kind in compress(own.degenerate_kinds, chosen) if kind is not None)
    return GenerationFigures(
        prompts=n,
        succeeded=int(pc.sum(rows["success"]).as_py() or 0),
        seconds=compared(
            estimates.mean(seconds, least=0.0) if timed else None, seconds_change, units
        ),
        tokens_per_second=compared(
            estimates.ratio(tokens, seconds, least=0.0) if timed else None,
            speed_change,
            units,
        ),
        new_tokens=compared(estimates.mean(tokens, least=0.0) if n else None, tokens_change, units),
        kl_along_reference=scored.mean(own.kl, scored_tokens, least=0.0) if along else NO_TOKENS,
        same_top_token_along_reference=scored.share(own.same_top_token, scored_tokens, effect)
        if along
        else NO_TOKENS,
        latency=latency_of(own.rows, own.timings, own.reads, base and base.timings, chosen, units),
        **_agreement(own, base, chosen),
        degenerate=kinds.total(),
        degenerate_by_kind=dict(sorted(kinds.items())),
    )


def _agreement(own: Answers, base: Answers | None, chosen: NDArray[np.bool_]) -> dict[str, Measure]:
    """How far the answers are those of the reference, token for token."""
    pairs = [] if base is None else zip(own.token_ids, base.token_ids, strict=True)
    common = [
        None if one == other else _common_tokens(one, other)
        for (one, other), is_chosen in zip(pairs, chosen, strict=False)
        if is_chosen
    ]
    apart = np.asarray([count for count in common if count is not None], dtype=np.float64)
    alike = np.asarray([float(count is None) for count in common])
    return {
        "identical_answers": measured(
            estimates.share(alike, np.ones_like(alike), len(alike)) if len(alike) else None,
            own.units,
        ),
        "first_difference": measured(
            estimates.mean(apart, least=0.0) if len(apart) else None, own.units
        ),
    }


def _common_tokens(one: list[int], other: list[int]) -> int:
    """How many tokens two answers begin with alike."""
    differing = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differing, min(len(one), len(other)))
