"""What is sent to an actor: the model to hold, and shards of windows or prompts to work on."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelLocation(_Frozen):
    """Where an actor finds the weights: a folder, or a hub id with the commit to take."""

    id_or_path: str
    revision: str | None = None


class Window(_Frozen):
    """A stretch of tokens that the model sees at once, and what is scored of it.

    The logits at `input_ids` positions `start`, `start + 1`, ... predict `target_ids` in order.
    """

    input_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    start: int

    @classmethod
    def scored_from(cls, ids: Sequence[int], first: int) -> "Window":
        """A window that scores its own tokens from position `first` (at least 1) on."""
        return cls(input_ids=tuple(ids), target_ids=tuple(ids[first:]), start=first - 1)


class Prompt(_Frozen):
    """A prompt as the model gets it: the chat template applied, in tokens."""

    id: str
    category: str
    input_ids: tuple[int, ...]


class LoadShard(_Frozen):
    """Loading itself: what the weights take."""

    stage: Literal["memory"] = "memory"


class WindowShard(_Frozen):
    """Contiguous windows, the first of which has the number `first` in the corpus."""

    stage: Literal["windows"] = "windows"
    first: int
    windows: tuple[Window, ...]


class PromptShard(_Frozen):
    """Contiguous prompts, the first of which has the number `first` in the suite."""

    stage: Literal["generations"] = "generations"
    first: int
    prompts: tuple[Prompt, ...]
    max_new_tokens: int


ShardWork = Annotated[LoadShard | WindowShard | PromptShard, Field(discriminator="stage")]
Stage = Literal["memory", "windows", "generations"]
STAGES: tuple[Stage, ...] = ("memory", "windows", "generations")
