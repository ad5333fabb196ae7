"""What a model is used for, as data: which measures say what a quantization risks there."""

import json
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from orchestrator.comparison_schema import (
    GenerationFigures,
    Risk,
    RiskLevel,
    RiskReason,
    VariantFigures,
)
from orchestrator.contract.frozen import Frozen
from orchestrator.errors import BadInputError
from orchestrator.gates.gate_measures import GATE_MEASURES, NOT_MEASURED, Reading
from orchestrator.text_files import SETTINGS_BYTES, parse_yaml, problem_of, read_text

_SETTING = "--uses"
# The first of these that any measure has is the use's.
_WORST_FIRST: tuple[RiskLevel, ...] = ("high", "undecided", "medium", "low")


class RiskMeasure(Frozen):
    """A measure with the ends of low and the beginning of high risk.

    Attributes:
        low, high: where `high` is below `low`, less is worse.
    """

    measure: str
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.measure not in GATE_MEASURES:
            raise ValueError(
                f"unknown measure '{self.measure}'; known are {', '.join(GATE_MEASURES)}"
            )
        return self

    @property
    def is_better_low(self) -> bool:
        """Whether less of it is better; where both thresholds are one, too."""
        return self.low <= self.high


class Use(Frozen):
    """What a model is used for.

    Attributes:
        categories: of the prompts that speak for it.
        stand_ins: of those that must do where a run has none of these.
        why: the thresholds are as they are, in a clause.
    """

    use: str = Field(min_length=1, max_length=80)
    categories: tuple[str, ...]
    stand_ins: tuple[str, ...] = ()
    why: str = Field(max_length=400)
    measures: tuple[RiskMeasure, ...] = Field(min_length=1)


_USES = TypeAdapter(tuple[Use, ...])


def uses_text(path: Path) -> str:
    """A file of uses as one line of JSON, which says the same wherever the file is.

    Raises:
        BadInputError: it cannot be read, or names an unknown measure.
    """
    try:
        content = parse_yaml(read_text(path, SETTINGS_BYTES))
    except (OSError, ValueError) as error:
        raise BadInputError(_SETTING, f"{path} cannot be read ({error})") from None
    return _USES.dump_json(_checked(content, str(path))).decode()


def uses_of(text: str | None) -> tuple[Use, ...]:
    """The uses of such a line, or those that the package carries.

    Raises:
        BadInputError: it is none.
    """
    if text is None:
        file = resources.files("orchestrator") / "data" / "uses" / "applications.yaml"
        return _checked(parse_yaml(file.read_text(encoding="utf-8")), "applications")
    try:
        return _checked(json.loads(text), "the run's uses")
    except (ValueError, TypeError, RecursionError):
        raise BadInputError("RUN", "its uses are no JSON; name a file by --uses again") from None


def _checked(content: Any, name: str) -> tuple[Use, ...]:
    try:
        uses = _USES.validate_python(content)
        names = [use.use for use in uses]
        if not uses or len(set(names)) < len(names):
            raise BadInputError(_SETTING, f"{name}: name at least one use, and each once")
        return uses
    except ValidationError as error:
        raise BadInputError(_SETTING, f"{name}: {problem_of(error)}") from None


def check_uses(text: str, categories: Iterable[str]) -> None:
    """Refuses uses of categories that no prompt of a run has.

    Raises:
        BadInputError: names the first one.
    """
    known = list(dict.fromkeys(categories))
    for use in uses_of(text):
        for category in (*use.categories, *use.stand_ins):
            if category not in known:
                raise BadInputError(
                    _SETTING,
                    f"{use.use}: no prompt has the category '{category}'; there are: "
                    f"{', '.join(known) or 'none'}",
                )


def risks_of(figures: VariantFigures, uses: Iterable[Use]) -> dict[str, Risk]:
    """What a variant risks, by use."""
    return {use.use: _risk(figures, use) for use in uses}


def _risk(figures: VariantFigures, use: Use) -> Risk:
    answered = figures.generation.by_category
    own = [category for category in use.categories if category in answered]
    chosen = own or [category for category in use.stand_ins if category in answered]
    found = [
        (_level(reading, measure), _reason(reading, measure, category))
        for measure in use.measures
        for category, reading in _readings(figures, measure, {c: answered[c] for c in chosen})
    ]
    # A use without categories is told by measures of all prompts or windows.
    has_categories = bool(use.categories or use.stand_ins)
    is_measured = any(reason.value is not None for _, reason in found)
    level: RiskLevel = "not measured"
    if is_measured and (chosen or not has_categories):
        level = next(worst for worst in _WORST_FIRST if any(worst == each for each, _ in found))
    reasons = [reason for each, reason in found if each == level]
    stands_in = has_categories and not own
    if level == "low" and stands_in:
        level = "no sign of risk"
    return Risk(level=level, categories=chosen, stands_in=stands_in, why=use.why, reasons=reasons)


def _readings(
    figures: VariantFigures, measure: RiskMeasure, answers: Mapping[str, GenerationFigures]
) -> Iterable[tuple[str | None, Reading]]:
    """A measure in each category; of what has none, overall."""
    known = GATE_MEASURES[measure.measure]
    if known.of_answers is None:
        yield None, known.of_variant(figures) if known.is_own(figures) else NOT_MEASURED
        return
    for category, found in answers.items():
        yield category, known.of_answers(found)


def _reason(reading: Reading, measure: RiskMeasure, category: str | None) -> RiskReason:
    return RiskReason(
        measure=measure.measure,
        category=category,
        value=reading.value,
        interval=reading.interval,
        low=measure.low,
        high=measure.high,
    )


def _level(reading: Reading, measure: RiskMeasure) -> RiskLevel:
    """By the whole interval; what it leaves open, or was not measured, is undecided."""
    if reading.value is None:
        return "undecided"
    if GATE_MEASURES[measure.measure].is_counted:
        ends = (reading.value, reading.value)
    elif reading.interval is None:
        return "undecided"
    else:
        ends = reading.interval
    sign = 1 if measure.is_better_low else -1
    best, worst = sorted(sign * end for end in ends)
    low, high = sign * measure.low, sign * measure.high
    if worst <= low:
        return "low"
    if best > high:
        return "high"
    if best > low and worst <= high:
        return "medium"
    return "undecided"
