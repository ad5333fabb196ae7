"""Which gates a user chooses: the same settings for a run, a report and the command `gate`."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from orchestrator.errors import BadInputError
from orchestrator.gates.language import (
    GateSet,
    check_gates,
    gate_set_names,
    gate_texts,
    named_gates,
    parse_gate,
)
from orchestrator.help import HOLDS, setting

Undecided = Literal["fail", "pass"]

# What a recommendation goes by where no gates are given.
_RULE = "close"
# What the set was called once.
OLD_NAME = "gates"


class GateSettings(BaseModel):
    """The gates that a comparison must pass."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gate: tuple[str, ...] = setting(
        (),
        HOLDS,
        "a criterion, such as 'kl.mean <= 0.05', 'kl.mean <= 1.0 by category' or "
        "'success == 1 for nf4'; may be said several times; exit status 3 where one fails",
        "GATE",
    )
    gate_set: str | None = setting(
        None, HOLDS, f"several of them: {', '.join(gate_set_names())}, or a YAML file", "NAME|FILE"
    )
    undecided: Undecided = setting(
        "fail", HOLDS, "what a gate counts as whose measure is too uncertain to tell"
    )

    @staticmethod
    def among(settings: Mapping[str, Any]) -> "GateSettings":
        """The gates among all settings of a run, by their names of today or of then.

        Raises:
            BadInputError: they are none, or in a file: a run's own have none, and no run has this
                program read a file.
        """
        names = {*GateSettings.model_fields, OLD_NAME}
        try:
            found = GateSettings.model_validate(
                {name: value for name, value in settings.items() if name in names}
            )
        except ValidationError:
            raise BadInputError("RUN", "its gates cannot be read; name them by --gate") from None
        if found.gate_set is not None and found.gate_set not in gate_set_names():
            raise BadInputError(
                "RUN",
                "its gates are in a file; `gate RUN --gate-set FILE --write` takes those of today",
            )
        return found

    @model_validator(mode="before")
    @classmethod
    def _by_its_old_name(cls, values: Any) -> Any:
        """`gates`, as the set was called once, in YAML files and in runs."""
        if not isinstance(values, dict) or OLD_NAME not in values:
            return values
        if "gate_set" in values:
            raise ValueError(f"{OLD_NAME} is the old name of gate_set; say it once")
        rest = {name: value for name, value in values.items() if name != OLD_NAME}
        return {**rest, "gate_set": values[OLD_NAME]}

    def self_contained(self) -> Self:
        """These settings with the lines of a file for its name: it may be another one later."""
        if self.gate_set is None or self.gate_set in gate_set_names():
            return self
        lines = (*self.gate, *gate_texts(self.gate_set))
        return self.model_copy(update={"gate": lines, "gate_set": None})

    @property
    def asked(self) -> bool:
        """Whether any are given."""
        return bool(self.gate or self.gate_set)

    def check(
        self, variants: Collection[str], reference: str, categories: Iterable[str] | None
    ) -> None:
        """Refuses those that are given of what a run does not have.

        Args:
            categories: of each of its prompts; None where they are not known.

        Raises:
            BadInputError: a gate is of a variant or category that is not run, or cannot be read.
        """
        if self.asked:
            known = None if categories is None else list(dict.fromkeys(categories))
            check_gates(self.chosen().gates, variants, reference, known)

    def chosen(self) -> GateSet:
        """The gates that are given, or those that a recommendation goes by otherwise.

        Raises:
            BadInputError: one of them cannot be read.
        """
        if not self.asked:
            return named_gates(_RULE)
        texts = [*self.gate, *(gate_texts(self.gate_set) if self.gate_set else ())]
        title, name = "passes every gate", "given"
        if not self.gate and self.gate_set in gate_set_names():
            title, name = named_gates(self.gate_set).title, self.gate_set
        return GateSet(name=name, title=title, gates=tuple(map(parse_gate, texts)))
