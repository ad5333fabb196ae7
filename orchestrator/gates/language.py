"""Words → gates: `kl.mean <= 0.05 by category for nf4`, and named sets of such lines."""

import math
import re
from collections.abc import Collection, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, TypeAdapter, ValidationError

from orchestrator.contract.variant_names import read_words
from orchestrator.errors import BadInputError
from orchestrator.gates.gate_measures import GATE_MEASURES, GateMeasure, Items
from orchestrator.text_files import SETTINGS_BYTES, parse_yaml, read_text

Operator = Literal["<=", "<", ">=", ">", "=="]

_GATE = re.compile(
    r"\s*(?P<measure>[\w.]+)\s*(?P<operator><=|>=|==|<|>)\s*(?P<threshold>\S+?)"
    r"(?:\s+(?:(?P<each>by\s+category)|in\s+(?P<category>.+?)))?"
    r"(?:\s+for\s+(?P<variant>\S+))?\s*"
)
_FORM = "MEASURE <= VALUE [by category | in CATEGORY] [for VARIANT]"
_SETS = resources.files("orchestrator") / "data" / "gates"


class Gate(BaseModel):
    """A criterion.

    Attributes:
        text: as it was said.
        threshold: nats, shares of 1, percent, bytes or seconds, as the measure has it.
        by_category: whether each category must meet it.
        category: the one that must; None for all answers, or what has no category.
        variant: the one that must; None for every variant but the reference.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    measure: str
    operator: Operator
    threshold: float
    by_category: bool = False
    category: str | None = None
    variant: str | None = None

    @property
    def asks_for(self) -> GateMeasure:
        """The measure itself."""
        return GATE_MEASURES[self.measure]

    @property
    def over(self) -> Items | None:
        """More of what would decide it; None of what is counted."""
        if self.asks_for.is_counted:
            return None
        return "prompts" if self.by_category or self.category is not None else self.asks_for.over


class GateSet(BaseModel):
    """Gates with a name."""

    name: str
    title: str = Field(description="what a variant that passes them does")
    gates: tuple[Gate, ...]


def gate_set_names() -> list[str]:
    """The names of the sets that the package carries."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _SETS.iterdir())


def named_gates(name: str) -> GateSet:
    """A set that the package carries."""
    content = parse_yaml((_SETS / f"{name}.yaml").read_text(encoding="utf-8"))
    gates = tuple(parse_gate(text) for text in content["gates"])
    return GateSet(name=name, title=content["title"], gates=gates)


def gate_texts(source: str) -> list[str]:
    """The lines of a named set, or of a YAML file: a list, or a mapping with a list `gates`.

    Raises:
        BadInputError: there is neither.
    """
    if source in gate_set_names():
        return [gate.text for gate in named_gates(source).gates]
    try:
        content: Any = parse_yaml(read_text(Path(source).expanduser(), SETTINGS_BYTES))
    except (OSError, ValueError) as error:
        problem = str(error)
        raise BadInputError(
            "--gate-set",
            f"'{source}' is no set of {', '.join(gate_set_names())}, and no YAML file: {problem}",
        ) from None
    lines = content.get("gates") if isinstance(content, dict) else content
    if not isinstance(lines, list) or not lines or not all(isinstance(x, str) for x in lines):
        raise BadInputError("--gate-set", f"{source} must hold a list of lines such as {_FORM}")
    return lines


def parse_gate(text: str) -> Gate:
    """Reads a gate.

    Raises:
        BadInputError: it is not of the form, names an unknown measure, or asks for what no value
            can be.
    """
    words = _GATE.fullmatch(text)
    if words is None:
        raise BadInputError("--gate", f"'{text}' is not of the form {_FORM}")
    measure = GATE_MEASURES.get(words["measure"])
    if measure is None:
        raise BadInputError(
            "--gate",
            f"unknown measure '{words['measure']}' in '{text}'; known are "
            f"{', '.join(GATE_MEASURES)}",
        )
    if words["operator"] == "==" and not measure.is_counted:
        raise BadInputError(
            "--gate", f"'{text}': {measure.name} is an estimate, which equals nothing; use <= or >="
        )
    has_category = words["each"] is not None or words["category"] is not None
    if has_category and measure.of_answers is None:
        raise BadInputError("--gate", f"'{text}': {measure.name} is not measured by category")
    gate = Gate(
        text=" ".join(text.split()),
        measure=measure.name,
        operator=words["operator"],
        threshold=_threshold(text, measure, words["threshold"]),
        by_category=words["each"] is not None,
        category=words["category"],
        variant=_variant(text, words["variant"]),
    )
    _check_possible(gate)
    return gate


def _variant(text: str, said: str | None) -> str | None:
    """A variant's name in its one form."""
    try:
        return None if said is None else read_words(said).name
    except ValueError as error:
        raise BadInputError("--gate", f"'{text}': {error}") from None


def check_gates(
    gates: Sequence[Gate],
    variants: Collection[str],
    reference: str,
    categories: Collection[str] | None,
) -> None:
    """Refuses gates of what a run does not have.

    Args:
        categories: those of its prompts; None where they are not known.

    Raises:
        BadInputError: a variant or category that is not run, or a measure that the reference
            cannot have.
    """
    for gate in gates:
        if gate.variant is not None and gate.variant not in variants:
            raise BadInputError(
                "--gate",
                f"'{gate.text}': variant '{gate.variant}' is not run; there are: "
                f"{', '.join(variants)}",
            )
        if gate.variant == reference and gate.asks_for.against_reference:
            raise BadInputError(
                "--gate", f"'{gate.text}': {reference} is the reference, held against nothing"
            )
        if gate.variant is None and set(variants) == {reference}:
            raise BadInputError(
                "--gate",
                f"'{gate.text}': no variant but the reference is run; end it in "
                f"'for {reference}' if that is meant",
            )
        if categories is None:
            continue
        if gate.category is not None and gate.category not in categories:
            known = ", ".join(categories) or "none"
            raise BadInputError(
                "--gate", f"'{gate.text}': no prompt has that category; there are: {known}"
            )
        if gate.by_category and not categories:
            raise BadInputError("--gate", f"'{gate.text}': there are no prompts to have categories")


def _threshold(text: str, measure: GateMeasure, said: str) -> float:
    """The number of a threshold in the measure's unit."""
    number, percent, _ = said.partition("%")
    if measure.unit == "bytes":
        try:
            return float(TypeAdapter(ByteSize).validate_python(said))
        except ValidationError:
            raise BadInputError("--gate", f"'{text}': '{said}' is no size such as 8GiB") from None
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or said != number + percent:
        raise BadInputError("--gate", f"'{text}': '{said}' is no number")
    if percent and measure.unit not in ("share", "percent"):
        raise BadInputError("--gate", f"'{text}': {measure.name} is not in percent")
    return value / 100 if percent and measure.unit == "share" else value


def _check_possible(gate: Gate) -> None:
    measure = gate.asks_for
    most, least, t = measure.most, measure.least, gate.threshold
    if not least <= t <= most or (gate.operator, t) in {("<", least), (">", most)}:
        bounds = f"from {least:g} to {most:g}" if math.isfinite(most) else f"{least:g} or more"
        raise BadInputError(
            "--gate", f"'{gate.text}': an impossible threshold, {measure.name} is {bounds}"
        )
