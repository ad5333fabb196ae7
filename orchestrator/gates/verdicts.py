"""Gates and a comparison → `gates.json`: what passes, what fails, what nobody can tell. Pure."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field

from orchestrator.comparison_schema import Comparison, VariantFigures
from orchestrator.comparison_schema.measure_fields import Part
from orchestrator.gates.chosen import Undecided
from orchestrator.gates.gate_measures import NOT_MEASURED, Interval, Items, Reading, Unit
from orchestrator.gates.language import Gate, GateSet, Operator

GATES_VERSION: Literal[4] = 4

Verdict = Literal["pass", "fail", "not measured", "undecided"]
# Of several gates, the first that occurs is that of all.
_WORST_FIRST: tuple[Verdict, ...] = ("fail", "not measured", "undecided", "pass")

# To tell how sure a figure is.
_TOO_FEW = "too few"

_MEETS: dict[Operator, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
}


class GateResult(Part):
    """A gate held against one variant, or one category of it."""

    gate: str
    variant: str
    category: str | None
    measure: str
    unit: Unit
    operator: Operator
    threshold: float
    value: float | None
    interval: Interval | None = Field(description="null of what is counted, and of too little")
    verdict: Verdict
    reason: str | None = Field(description="why it neither passes nor fails, where that is known")
    over: Items | None = Field(description="more of what would decide it; null of what is counted")
    items: int | None = Field(description="how many of these were measured; null likewise")
    items_needed: int | None = Field(
        description="about how many would decide it: items · (half-width / distance)²; null where "
        "it is decided, or nobody can tell"
    )


class Recommendation(Part):
    """The smallest variant that passes all gates."""

    variant: str | None = Field(description="null where none does: then stay with the reference")
    closest: str | None = Field(
        description="of those that pass and are smaller, the one with the least mean KL"
    )
    fastest: str | None = Field(
        description="likewise, with the most tokens per second by any way of decoding"
    )
    size_bytes: dict[str, int] = Field(
        description="of each variant whose size is known: the comparison's"
    )
    size_ratio: dict[str, float] = Field(
        description="the reference's size divided by each other variant's"
    )
    verdicts: dict[str, Verdict] = Field(
        description="of each variant that a gate is for, but the reference"
    )


class Judgement(Part):
    """The whole of `gates.json`."""

    version: Literal[4] = GATES_VERSION
    run_id: str
    complete: bool = Field(description="whether the run is; of a partial one nothing passes")
    rule: str = Field(description="the name of the set of gates, or 'given'")
    title: str = Field(description="what a variant that passes them does")
    asked: bool = Field(description="whether they were asked for, and decide the exit status")
    undecided: Undecided = Field(description="what an undecided gate counts as")
    passed: bool = Field(description="whether every gate passes, so counted")
    results: list[GateResult]
    recommendation: Recommendation

    @property
    def failing(self) -> list[str]:
        """The gates that are not passed, as they were said, each with why where it did not fail."""
        accepted = _accepted(self.undecided)
        return [
            result.gate
            + ("" if result.verdict == "fail" else f" ({result.reason or result.verdict})")
            for result in self.results
            if result.verdict not in accepted
        ]


def _accepted(undecided: Undecided) -> set[Verdict]:
    return {"pass"} if undecided == "fail" else {"pass", "undecided"}


def judge(
    comparison: Comparison, gates: GateSet, *, asked: bool, undecided: Undecided = "fail"
) -> Judgement:
    """Holds a comparison against gates.

    An estimate passes where its whole interval does, fails where none of it does, and is
    undecided between, or where there is too little data for an interval. What was not measured, or
    is no finite number, does not pass whatever an undecided gate counts as, nor does a partial run.
    """
    results = [
        result
        for gate in gates.gates
        for variant in _variants_of(gate, comparison)
        for result in _results(gate, variant, comparison)
    ]
    accepted = _accepted(undecided)
    return Judgement(
        run_id=comparison.run_id,
        complete=comparison.complete,
        rule=gates.name,
        title=gates.title,
        asked=asked,
        undecided=undecided,
        passed=comparison.complete and all(result.verdict in accepted for result in results),
        results=results,
        recommendation=_recommendation(comparison, results, accepted),
    )


def _variants_of(gate: Gate, comparison: Comparison) -> list[str]:
    if gate.variant is not None:
        return [gate.variant]
    return [name for name in comparison.variants if name != comparison.reference]


def _results(gate: Gate, variant: str, comparison: Comparison) -> list[GateResult]:
    figures = comparison.variants.get(variant)
    if gate.by_category:
        # The reference has those of a partial run that this variant has not reached.
        known = comparison.variants[comparison.reference].generation.by_category
        categories: Sequence[str | None] = list(known) or [None]
    else:
        categories = [gate.category]
    return [_result(gate, variant, category, figures, comparison) for category in categories]


def _result(
    gate: Gate,
    variant: str,
    category: str | None,
    figures: VariantFigures | None,
    comparison: Comparison,
) -> GateResult:
    verdict: Verdict
    reason: str | None
    if figures is None:
        reading, items = NOT_MEASURED, None
        verdict, reason = "not measured", "the run has no such variant"
    elif not gate.asks_for.is_own(figures):
        reading, items = NOT_MEASURED, None
        verdict, reason = "not measured", "its weights are expanded here: no speed of its own"
    else:
        reading, items = _reading(gate, category, figures), _items(gate, category, figures)
        verdict, reason = _verdict(gate, reading)
    needed = None
    if reason == _TOO_FEW and items is not None:
        reason = f"{_TOO_FEW}: {items} {gate.over}"
    elif verdict == "undecided" and items:
        needed = _needed(reading, gate.threshold, items)
        reason = f"{reason}{_remedy(gate, needed, comparison.sample.text_windows)}"
    if verdict == "pass" and not comparison.complete:
        verdict, reason = "undecided", "the run is partial"
    return GateResult(
        gate=gate.text,
        variant=variant,
        category=category,
        measure=gate.measure,
        unit=gate.asks_for.unit,
        operator=gate.operator,
        threshold=gate.threshold,
        value=reading.value,
        interval=reading.interval,
        verdict=verdict,
        reason=reason,
        over=gate.over,
        items=items,
        items_needed=needed,
    )


def _reading(gate: Gate, category: str | None, figures: VariantFigures) -> Reading:
    measure = gate.asks_for
    if category is None:
        return NOT_MEASURED if gate.by_category else measure.of_variant(figures)
    assert measure.of_answers is not None
    answers = figures.generation.by_category.get(category)
    return NOT_MEASURED if answers is None else measure.of_answers(answers)


def _verdict(gate: Gate, reading: Reading) -> tuple[Verdict, str | None]:
    meets = _MEETS[gate.operator]
    if reading.value is None:
        return "not measured", None
    if not math.isfinite(reading.value):
        return "not measured", "no finite number"
    if gate.asks_for.is_counted:
        return ("pass" if meets(reading.value, gate.threshold) else "fail"), None
    if reading.interval is None or any(map(math.isnan, reading.interval)):
        return "undecided", _TOO_FEW
    ends = [meets(end, gate.threshold) for end in reading.interval]
    if all(ends):
        return "pass", None
    if any(ends):
        return "undecided", "its interval holds the threshold"
    return "fail", None


def _items(gate: Gate, category: str | None, figures: VariantFigures) -> int | None:
    """How many windows or prompts a measure is an estimate over."""
    if gate.over is None:
        return None
    if gate.over == "windows":
        return figures.perplexity.windows
    if category is None:
        return figures.generation.prompts
    answers = figures.generation.by_category.get(category)
    return 0 if answers is None else answers.prompts


def _needed(reading: Reading, threshold: float, items: int) -> int | None:
    """About how many items would decide an undecided gate; None where nobody can tell.

    An interval is half as wide of four times as many: items · (half-width / distance)².
    """
    if reading.value is None or reading.interval is None or reading.value == threshold:
        return None
    low, high = reading.interval
    half = high - reading.value if threshold > reading.value else reading.value - low
    halves = half / (threshold - reading.value)
    needed = items * halves * halves
    # Rounding apart: 24.000000001 are 24.
    return math.ceil(round(needed, 6)) if math.isfinite(needed) else None


def _remedy(gate: Gate, needed: int | None, text_windows: int | None) -> str:
    """What would decide an undecided gate, as far as that is known."""
    if needed is None:
        return ""
    if gate.over == "windows" and text_windows is not None and needed > text_windows:
        return f"; about {needed} windows would tell, and this text has {text_windows}: add text"
    return f"; about {needed} {gate.over} would tell"


def _recommendation(
    comparison: Comparison, results: Sequence[GateResult], accepted: set[Verdict]
) -> Recommendation:
    reference = comparison.reference
    verdicts: dict[str, Verdict] = {}
    for name in comparison.variants:
        found = {result.verdict for result in results if result.variant == name}
        if found and name != reference:
            verdicts[name] = next(verdict for verdict in _WORST_FIRST if verdict in found)
    sizes = {
        name: size
        for name, figures in comparison.variants.items()
        if (size := figures.memory.size_bytes) is not None
    }
    whole = sizes.get(reference)
    smaller = [
        name
        for name, verdict in verdicts.items()
        if verdict in accepted and name in sizes and (whole is None or sizes[name] < whole)
    ]
    kls = {n: kl for n in smaller if (kl := _mean_kl(comparison.variants[n])) is not None}
    speeds = {n: speed.value for n in smaller if (speed := comparison.variants[n].own_speed)}
    return Recommendation(
        variant=min(smaller, key=sizes.__getitem__, default=None),
        closest=min(kls, key=kls.__getitem__, default=None),
        fastest=max(speeds, key=lambda name: speeds[name] or 0.0, default=None),
        size_bytes=sizes,
        size_ratio={
            name: ratio
            for name, figures in comparison.variants.items()
            if (ratio := figures.memory.compression_ratio) is not None and name != reference
        },
        verdicts=verdicts,
    )


def _mean_kl(figures: VariantFigures) -> float | None:
    return None if figures.kl is None else figures.kl.mean.value
