"""Shard files → the Parquet tables of a run. Reads files only, in the plan's order."""

import io
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from orchestrator.store import Manifest, read_stage, write_atomically
from orchestrator.tables import STAGE_SCHEMAS, VARIANTS


@dataclass(frozen=True)
class Tables:
    """The tables of a run, each by its schema in `orchestrator.tables`."""

    variants: pa.Table
    memory: pa.Table
    windows: pa.Table
    generations: pa.Table


def reduce_run(folder: Path, manifest: Manifest) -> Tables:
    """Joins the finished shards of a run and writes `tables/*.parquet`."""
    stages = {stage: read_stage(folder, manifest, stage) for stage in STAGE_SCHEMAS}
    tables = Tables(
        variants=pa.Table.from_pylist(
            [record.model_dump() for record in manifest.variants], schema=VARIANTS
        ),
        memory=stages["memory"],
        windows=stages["windows"],
        generations=stages["generations"],
    )
    (folder / "tables").mkdir(exist_ok=True)
    for name, table in vars(tables).items():
        buffer = io.BytesIO()
        parquet.write_table(table, buffer)
        write_atomically(folder / "tables" / f"{name}.parquet", buffer.getvalue())
    return tables
