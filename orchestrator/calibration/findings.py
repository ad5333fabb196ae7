"""What a calibration set is like → what speaks against it, by thresholds that are data."""

from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from orchestrator.calibration.outcome import CalibrationSet, Finding, Recipe
from orchestrator.contract.frozen import Frozen
from orchestrator.errors import BadInputError
from orchestrator.text_files import SETTINGS_BYTES, parse_yaml, problem_of, read_text

_SETTING = "--thresholds"
# What numbers of a set a threshold can be of, in words.
MEASURES = {
    "rows": "rows",
    "tokens": "tokens",
    "short_rows_share": "of the rows have less than 32 tokens",
    "duplicate_rows_share": "of the rows are there before",
    "near_duplicate_rows_share": "of the rows looked at are there before, nearly",
    "vocabulary_seen_share": "of the vocabulary occurs",
    "evaluation_tokens_covered_share": "of the evaluation's tokens occur",
    "divergence_bits": "bits of divergence from the evaluation's tokens",
    "languages_missing_share": "of the evaluation's rows are in languages that it lacks",
    "windows_held_share": "of the evaluation's windows are in it",
    "prompts_held_share": "of the prompts are in it",
}
_NAMED = 10


class Threshold(Frozen):
    """What a measure may be.

    Attributes:
        why: it matters, in a clause.
    """

    measure: str
    least: float | None = None
    most: float | None = None
    why: str

    @model_validator(mode="after")
    def _of_a_measure(self) -> "Threshold":
        if self.measure not in MEASURES:
            raise ValueError(f"unknown measure '{self.measure}'; known are {', '.join(MEASURES)}")
        if (self.least is None) == (self.most is None):
            raise ValueError(f"{self.measure}: say least or most")
        return self


def thresholds_of(path: Path | None) -> list[Threshold]:
    """The thresholds of a YAML file, or those that the package carries.

    Raises:
        BadInputError: it cannot be read, or names an unknown measure.
    """
    embedded = resources.files("orchestrator") / "data" / "calibration" / "thresholds.yaml"
    try:
        text = embedded.read_text("utf-8") if path is None else read_text(path, SETTINGS_BYTES)
        content: Any = parse_yaml(text)
        if not isinstance(content, list) or not content:
            raise ValueError("it is no list of thresholds")
        return [Threshold.model_validate(each) for each in content]
    except ValidationError as error:
        raise BadInputError(_SETTING, f"{path}: {problem_of(error)}") from None
    except (OSError, ValueError) as error:
        raise BadInputError(_SETTING, f"{path} cannot be read ({error})") from None


def findings_of(
    values: Mapping[str, float | None], thresholds: list[Threshold]
) -> Iterator[Finding]:
    """What lies beyond its threshold.

    Args:
        values: by measure; None for what was not measured.
    """
    for threshold in thresholds:
        value = values[threshold.measure]
        if value is None:
            continue
        limit = threshold.most if threshold.most is not None else threshold.least
        assert limit is not None
        beyond = value > limit if threshold.most is not None else value < limit
        if beyond:
            word = "most" if threshold.most is not None else "least"
            shown, allowed = (_shown(number, threshold.measure) for number in (value, limit))
            said = f"{shown} {MEASURES[threshold.measure]} (at {word} {allowed}): {threshold.why}"
            yield Finding(measure=threshold.measure, value=value, threshold=limit, said=said)


def findings_of_recipe(recipe: Recipe | None) -> Iterator[Finding]:
    """Where a checkpoint's files contradict each other, or its weights them."""
    for contradiction in () if recipe is None else recipe.contradictions:
        yield Finding(measure=None, value=None, threshold=None, said=contradiction)


def held_in_words(found: CalibrationSet) -> Iterator[str]:
    """Which windows and prompts a set holds."""
    for what, held in (("windows", found.windows_held), ("prompts", found.prompts_held)):
        if held:
            named = ", ".join(map(str, held[:_NAMED]))
            more = f" and {len(held) - _NAMED} more" if len(held) > _NAMED else ""
            yield f"{what} that it holds: {named}{more}"


def _shown(value: float, measure: str) -> str:
    if measure.endswith("_share"):
        return f"{100 * value:.3g}%"
    return f"{value:.3g}" if measure.endswith("_bits") else f"{value:g}"
