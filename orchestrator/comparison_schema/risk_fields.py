"""What a variant risks, by what a model is used for."""

from typing import Literal

from pydantic import Field

from orchestrator.comparison_schema.measure_fields import Part

# Of a use where other prompts stand in for its own, `low` is `no sign of risk`.
RiskLevel = Literal["low", "medium", "high", "undecided", "no sign of risk", "not measured"]


class RiskReason(Part):
    """A measure that decided."""

    measure: str = Field(description="as gates call it")
    category: str | None = Field(description="of the prompts; null where it has none")
    value: float | None = Field(description="null where it was not measured")
    interval: tuple[float, float] | None = Field(description="null of what is counted, or too few")
    low: float = Field(description="the risk is low up to here")
    high: float = Field(description="and high beyond")


class Risk(Part):
    """How far a variant is from the reference for one use."""

    level: RiskLevel
    categories: list[str] = Field(description="of the prompts that it is told by")
    stands_in: bool = Field(
        description="whether these stand in for the use's own, which the run has none of"
    )
    why: str = Field(description="what makes the thresholds as they are")
    reasons: list[RiskReason] = Field(description="those of the level, which decided")
