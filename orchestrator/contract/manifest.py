"""`run.json`: what a run is, and all that its report needs beside the shard files."""

import json
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from orchestrator.contract.frozen import Frozen
from orchestrator.contract.names import Name, VariantName
from orchestrator.contract.sampling import CONFIDENCE, stretches_of
from orchestrator.contract.shards import DecodingName, ShardRecord
from orchestrator.contract.stages import ON_A_DEVICE
from orchestrator.contract.variants import DtypeName, Variant, VariantKind

# Of the layout of `run.json`.
RUN_VERSION = 10
# Until then all stages had the version of the layout.
_ONE_VERSION = 8
# Until then some windows were the first ones, and each was a unit of its own.
_FIRST_WINDOWS = 9
READABLE_VERSIONS = (_ONE_VERSION, _FIRST_WINDOWS, RUN_VERSION)


# What is counted fits a column of a table.
Number = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[int, Field(ge=1, lt=2**63)]


class VariantIdentity(Frozen):
    """What changes a number of one variant."""

    variant: Variant
    checkpoint_content_hash: str
    compute_dtype: DtypeName


class UntilDecided(Frozen):
    """What ends a run before all of its windows are scored.

    Attributes:
        gates: over windows, as they were said: once all are decided, no further look is taken.
        windows: that each look has, those of earlier looks included.
        confidence: of the intervals that decide.
    """

    gates: tuple[str, ...]
    windows: tuple[int, ...]
    confidence: float


class RunIdentity(Frozen):
    """What changes a number of a run: two runs with the same identity give the same tables."""

    model_content_hash: str
    dataset_content_hash: str
    protocol: str
    window_length: int
    stride: int | None
    max_windows: int | None
    window_choice: str | None
    until_decided: UntilDecided | None
    windows_at_once: int
    prompts_content_hash: str
    max_prompts: int | None
    max_new_tokens: int
    decodings: tuple[DecodingName, ...]
    repeats: int
    batch_sizes: tuple[int, ...]
    reference: str
    variants: tuple[VariantIdentity, ...]

    def differing(self, other: "RunIdentity") -> list[str]:
        """The names of the fields in which two identities differ, in order."""
        return [name for name, value in self if getattr(other, name) != value]


class Look(Frozen):
    """A look at the text, which holds what was seen before it; most runs take one.

    Attributes:
        windows: that it looks at, those of earlier looks included.
        stretches: the number of the first window of each stretch that they are cut into, as
            `orchestrator.contract.sampling.stretches_of` does.
    """

    windows: Number
    stretches: tuple[Number, ...]


class VariantRecord(Frozen):
    """A row of the table `variants`."""

    variant: VariantName
    kind: VariantKind
    options: str
    weights_dtype: DtypeName
    compute_dtype: DtypeName
    expected_weights_bytes: Number | None
    checkpoint: str
    disk_bytes: Number
    # Runs of before were not told.
    foreseen_device_bytes: Number | None = None
    placement: str = ON_A_DEVICE

    @field_validator("options")
    @classmethod
    def _an_object(cls, options: str) -> str:
        if not isinstance(json.loads(options), dict):
            raise ValueError("no JSON object")
        return options


class PromptRecord(Frozen):
    """A row of the table `prompts`, less its number."""

    prompt_id: str
    category: str
    text: str


class Versions(Frozen):
    """What the shards of a run are of; each is in the fingerprints that it changes.

    Attributes:
        scoring: of loading and arithmetic, for all stages.
        stages: by stage that the run has shards of.
    """

    scoring: int
    stages: dict[str, int]


class Manifest(Frozen):
    """The whole of `run.json`.

    Attributes:
        text_windows: that the whole text has; None in what was written before it was counted.
        looks: those that are planned; where one decided, those up to it.
        decided: the look that decided the gates of a run that goes on until then; None before.
        maximum_length: the most tokens that the model takes; None where it does not say, and in
            what was written before that was noted.
        orchestrator_version: of the program that wrote it last; None in what was written before
            that was noted.
    """

    version: int = RUN_VERSION
    orchestrator_version: str | None = None
    versions: Versions
    run_id: Name
    reference: VariantName
    started: datetime
    finished: datetime | None = None
    identity: RunIdentity
    settings: dict[str, Any]
    model_id: str
    model_revision: str | None
    dataset_name: str
    documents: Number
    tokens: Number
    words: Positive
    bytes: Positive
    text_windows: Number | None = None
    maximum_length: Positive | None = None
    looks: tuple[Look, ...]
    decided: int | None = None
    notes: tuple[str, ...]
    variants: tuple[VariantRecord, ...]
    prompts: tuple[PromptRecord, ...]
    shards: tuple[ShardRecord, ...]

    @property
    def confidence(self) -> float:
        """Of every interval."""
        until_decided = self.identity.until_decided
        return CONFIDENCE if until_decided is None else until_decided.confidence

    def up_to(self, look: int) -> "Manifest":
        """The same without what comes after a look, which decided."""
        return self.model_copy(
            update={
                "decided": look,
                "looks": self.looks[: look + 1],
                "shards": tuple(one for one in self.shards if not one.is_after(look)),
            }
        )

    def of_windows(self, look: int) -> "Manifest":
        """A look's windows, and nothing else of the run."""
        there = self.up_to(look)
        shards = tuple(one for one in there.shards if one.look is not None)
        return there.model_copy(update={"shards": shards})

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        """What figures take for granted, whoever wrote it."""
        names = [record.variant for record in self.variants]
        known = {*names}
        if len(known) < len(names) or self.reference not in known:
            raise ValueError("a variant is there twice, or the reference is not")
        if not {record.variant for record in self.shards} <= known:
            raise ValueError("a shard is of no variant of the run")
        if [one.variant.name for one in self.identity.variants] != names:
            raise ValueError("its variants are not those of its identity")
        if not isinstance(self.settings.get("model"), str):
            raise ValueError("its settings name no model")
        decided = self.decided is None or 0 <= self.decided < len(self.looks)
        if not self.looks or not decided:
            raise ValueError("no look at the text, or none that decided")
        return self

    @model_validator(mode="before")
    @classmethod
    def _in_todays_layout(cls, content: Any) -> Any:
        """What was written in an earlier layout, in today's."""
        if not isinstance(content, dict):
            return content
        if content.get("schema_version") == _ONE_VERSION:
            content = _with_versions(content)
        if content.get("version") == _FIRST_WINDOWS:
            content = _with_looks(content)
        return content


def _with_versions(content: dict[str, Any]) -> dict[str, Any]:
    """What was written when all stages had one version."""
    identity = dict(content["identity"])
    scoring, one = identity.pop("scoring_version"), identity.pop("schema_version")
    stages = dict.fromkeys((record["stage"] for record in content["shards"]), one)
    rest = {name: value for name, value in content.items() if name != "schema_version"}
    versions = {"scoring": scoring, "stages": stages}
    return {**rest, "version": _FIRST_WINDOWS, "identity": identity, "versions": versions}


def _with_looks(content: dict[str, Any]) -> dict[str, Any]:
    """What was written when `max_windows` took the first ones, and no stretches were cut."""
    identity, settings = content["identity"], content["settings"]
    choice = None if identity["max_windows"] is None else "first"
    items = {
        record["index"]: record["items"]
        for record in content["shards"]
        if record["stage"] == "windows"
    }
    windows = sum(items.values())
    # How long each one is was not kept; the text has no more than its tokens.
    length = identity["window_length"]
    if identity["stride"] is None and windows:
        length = min(length, content["tokens"] // windows)
    look = Look(windows=windows, stretches=stretches_of(range(windows), [length] * windows))
    return {
        **content,
        "version": RUN_VERSION,
        "identity": {**identity, "window_choice": choice, "until_decided": None},
        "settings": settings if choice is None else {**settings, "window_choice": choice},
        "looks": (look,),
    }
