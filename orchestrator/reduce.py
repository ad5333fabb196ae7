"""Shard files → the Parquet tables of a run. Reads files only, in the plan's order."""

import io
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from orchestrator.contract.environment import environment_of
from orchestrator.contract.manifest import Manifest
from orchestrator.contract.tables import SHARDS_SCHEMA, STAGE_SCHEMAS, VARIANTS_SCHEMA
from orchestrator.files import write_atomically
from orchestrator.store import read_shards


@dataclass(frozen=True)
class Tables:
    """The tables of a run, each by its schema in `orchestrator.contract.tables`.

    Attributes:
        variants: what was planned.
        shards: what is finished, and where it was computed.
        stages: what was measured, by stage.
    """

    variants: pa.Table
    shards: pa.Table
    stages: dict[str, pa.Table]


def join_shards(folder: Path, manifest: Manifest) -> Tables:
    """Joins the finished shards of a run."""
    parts: dict[str, list[pa.Table]] = {
        stage: [schema.empty_table()] for stage, schema in STAGE_SCHEMAS.items()
    }
    shards = []
    for record, table in read_shards(folder, manifest):
        parts[record.stage].append(table.replace_schema_metadata(None))
        shards.append(
            {
                **record.model_dump(exclude={"fingerprint"}),
                **environment_of(table.schema).model_dump(),
            }
        )
    return Tables(
        variants=pa.Table.from_pylist(
            [record.model_dump() for record in manifest.variants], schema=VARIANTS_SCHEMA
        ),
        shards=pa.Table.from_pylist(shards, schema=SHARDS_SCHEMA),
        stages={stage: pa.concat_tables(tables) for stage, tables in parts.items()},
    )


def write_tables(folder: Path, tables: Tables) -> None:
    """Writes the tables of a run to its `tables/*.parquet`."""
    (folder / "tables").mkdir(exist_ok=True)
    named = {"variants": tables.variants, "shards": tables.shards, **tables.stages}
    for name, table in named.items():
        buffer = io.BytesIO()
        parquet.write_table(table, buffer)
        write_atomically(folder / "tables" / f"{name}.parquet", buffer.getvalue())
