"""Shard files → the Parquet tables of a run. Reads files only, in the plan's order."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from orchestrator.contract.environment import environment_of
from orchestrator.contract.manifest import Manifest
from orchestrator.contract.tables import (
    SHARDS_SCHEMA,
    STAGE_SCHEMAS,
    TOKENS_SCHEMA,
    VARIANTS_SCHEMA,
    WINDOWS_SCHEMA,
)
from orchestrator.files import atomic_file
from orchestrator.store import read_shards, shard_path
from orchestrator.tokens import TokenTable

# The tables of a run's stages, by stage: those of the shards, the windows less their tokens.
STAGE_TABLES = {**STAGE_SCHEMAS, "windows": WINDOWS_SCHEMA}


@dataclass(frozen=True)
class Tables:
    """The tables of a run, each by its schema in `orchestrator.contract.tables`.

    Attributes:
        variants: what was planned.
        shards: what is finished, and where it was computed.
        stages: what was measured, by stage.
        tokens: what was measured of each scored token, by variant; left on the disk.
    """

    variants: pa.Table
    shards: pa.Table
    stages: dict[str, pa.Table]
    tokens: dict[str, TokenTable]


def join_shards(folder: Path, manifest: Manifest) -> Tables:
    """Joins the finished shards of a run."""
    parts = {stage: [schema.empty_table()] for stage, schema in STAGE_TABLES.items()}
    scored: dict[str, list[Path]] = {record.variant: [] for record in manifest.variants}
    shards = []
    for record, table in read_shards(folder, manifest):
        environment = environment_of(table.schema)
        table = table.replace_schema_metadata(None)
        parts[record.stage].append(table.select(STAGE_TABLES[record.stage].names))
        if record.stage == "windows":
            scored[record.variant].append(shard_path(folder, record))
        shards.append(
            {**record.model_dump(exclude={"fingerprint", "needs"}), **environment.model_dump()}
        )
    return Tables(
        variants=pa.Table.from_pylist(
            [record.model_dump() for record in manifest.variants], schema=VARIANTS_SCHEMA
        ),
        shards=pa.Table.from_pylist(shards, schema=SHARDS_SCHEMA),
        stages={stage: pa.concat_tables(tables) for stage, tables in parts.items()},
        tokens={name: TokenTable(name, tuple(paths)) for name, paths in scored.items()},
    )


def write_tables(folder: Path, tables: Tables) -> None:
    """Writes the tables of a run to its `tables/*.parquet`, the tokens a part at a time."""
    destination = folder / "tables"
    destination.mkdir(exist_ok=True)
    named = {"variants": tables.variants, "shards": tables.shards, **tables.stages}
    for name, table in named.items():
        with atomic_file(destination / f"{name}.parquet") as file:
            parquet.write_table(table, file)
    with (
        atomic_file(destination / "tokens.parquet") as file,
        parquet.ParquetWriter(file, TOKENS_SCHEMA) as writer,
    ):
        for tokens in tables.tokens.values():
            for rows in tokens.rows():
                writer.write_table(rows)
