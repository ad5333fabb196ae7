"""What everything that is agreed on has in common."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value: it does not change, and has no fields but those that are declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")
