"""`run.json`: what a run is, and all that its report needs beside the shard files."""

from datetime import datetime
from typing import Any

from orchestrator.contract.frozen import Frozen
from orchestrator.contract.shards import DecodingName, ShardRecord
from orchestrator.contract.variants import DtypeName, Variant


class VariantIdentity(Frozen):
    """What changes a number of one variant."""

    variant: Variant
    checkpoint_content_hash: str
    compute_dtype: DtypeName


class RunIdentity(Frozen):
    """What changes a number of a run: two runs with the same identity give the same tables."""

    scoring_version: int
    schema_version: int
    model_content_hash: str
    dataset_content_hash: str
    protocol: str
    window_length: int
    stride: int | None
    max_windows: int | None
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


class VariantRecord(Frozen):
    """A row of the table `variants`."""

    variant: str
    kind: str
    options: str
    weights_dtype: DtypeName
    compute_dtype: DtypeName
    expected_weights_bytes: int | None
    checkpoint: str
    disk_bytes: int


class PromptRecord(Frozen):
    """A row of the table `prompts`, less its number."""

    prompt_id: str
    category: str
    text: str


class Manifest(Frozen):
    """The whole of `run.json`."""

    schema_version: int
    run_id: str
    reference: str
    started: datetime
    finished: datetime | None = None
    identity: RunIdentity
    settings: dict[str, Any]
    model_id: str
    model_revision: str | None
    dataset_name: str
    documents: int
    tokens: int
    words: int
    bytes: int
    notes: tuple[str, ...]
    variants: tuple[VariantRecord, ...]
    prompts: tuple[PromptRecord, ...]
    shards: tuple[ShardRecord, ...]
