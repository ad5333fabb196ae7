"""The measures of `comparison.json`: figures with their uncertainty."""

from pydantic import BaseModel, ConfigDict, Field

# Of so few prompts, or so few of anything else, no interval can be told.
FEWEST_PROMPTS, FEWEST_UNITS = 5, 3


class Part(BaseModel):
    """A part of the file: nothing but what is declared, and never changed."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True
    )


class Measure(Part):
    """A figure with its uncertainty; null where there is none, or too little data for one."""

    value: float | None
    stderr: float | None
    interval: tuple[float, float] | None = Field(
        description="null of fewer than 5 prompts, or of fewer than 3 stretches or repeats"
    )
    n: int = Field(description="independent units behind it: stretches of the text, or prompts")


class TokenMeasure(Measure):
    """A measure over tokens: its uncertainty takes stretches for units, and besides tokens."""

    windows: int = Field(description="those that have such tokens, or answers that have")

    stderr_tokens: float | None = Field(
        description="the standard error if all tokens were independent, as llama.cpp prints it"
    )


class Compared(Measure):
    """A measure with its change against the reference, paired over the same items."""

    delta_pct: float | None = Field(
        description="null for the reference, and where the items are not the same"
    )
    delta_pct_interval: tuple[float, float] | None
