"""What a run's figures depend on: its identity, and where each shard was computed."""

from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.comparison_schema import DatasetProvenance, ModelProvenance, Provenance
from orchestrator.comparison_schema.notes import Note, note
from orchestrator.contract.manifest import Manifest
from orchestrator.contract.stages import STAGES
from orchestrator.contract.tables import SHARDS_SCHEMA
from orchestrator.figures.command import command_of
from orchestrator.storage.reduce import Tables

# The columns that hold versions, by the library whose they are.
_VERSION_COLUMNS = {
    name.removesuffix("_version"): name for name in SHARDS_SCHEMA.names if name.endswith("_version")
}


def _batch_tokens(manifest: Manifest) -> int:
    """What says on any device how many windows were run at once, whatever was said on this one."""
    return manifest.identity.windows_at_once * manifest.identity.window_length


def provenance_of(tables: Tables, manifest: Manifest) -> Provenance:
    """The provenance of a run: every value that occurs in a finished shard."""
    identity = manifest.identity
    compute_dtypes = {part.variant.name: part.compute_dtype for part in identity.variants}
    return Provenance(
        model=ModelProvenance(
            id=manifest.model_id,
            revision=manifest.model_revision,
            content_hash=identity.model_content_hash,
        ),
        dataset=DatasetProvenance(
            name=manifest.dataset_name,
            content_hash=identity.dataset_content_hash,
            documents=manifest.documents,
            tokens=manifest.tokens,
            words=manifest.words,
            bytes=manifest.bytes,
        ),
        maximum_length=manifest.maximum_length,
        protocol=identity.protocol,
        window_length=identity.window_length,
        stride=identity.stride,
        max_windows=identity.max_windows,
        window_choice=identity.window_choice,
        looks=[] if identity.until_decided is None else list(identity.until_decided.windows),
        decided_at_windows=None if manifest.decided is None else manifest.looks[-1].windows,
        prompts_content_hash=identity.prompts_content_hash,
        max_prompts=identity.max_prompts,
        max_new_tokens=identity.max_new_tokens,
        decodings=list(identity.decodings),
        repeats=identity.repeats,
        compute_dtype=compute_dtypes[manifest.reference],
        devices=_values(tables.shards, "device"),
        versions=_versions(tables.shards),
        command=command_of({**manifest.settings, "batch_tokens": _batch_tokens(manifest)}),
        started=manifest.started,
        finished=manifest.finished,
    )


def provenance_notes(shards: pa.Table) -> list[Note]:
    """What a reader must know of where shards were computed: unlike versions, unlike cards."""
    notes = [
        note("several_versions", library=library, versions=", ".join(versions))
        for library, versions in _versions(shards).items()
        if len(versions) > 1
    ]
    timed = [name for name, stage in STAGES.items() if "seconds" in stage.schema.names]
    for stage in timed:
        devices = _values(shards.filter(pc.field("stage") == stage), "device")
        if len(devices) > 1:
            notes.append(note("unlike_devices", stage=stage, devices=", ".join(devices)))
    return notes


def _versions(shards: pa.Table) -> dict[str, list[str]]:
    """The versions of each library that occur, those of what single variants need at the end."""
    found = {library: _values(shards, column) for library, column in _VERSION_COLUMNS.items()}
    packages = chain.from_iterable(each or () for each in shards["packages"].to_pylist())
    for package in dict.fromkeys(packages):
        name, _, version = package.rpartition(" ")
        found.setdefault(name, []).append(version)
    return found


def _values(shards: pa.Table, column: str) -> list[str]:
    """The values of a column in the order of the shards, each once."""
    return [value for value in shards[column].unique().to_pylist() if value is not None]
