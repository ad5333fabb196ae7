"""Shard files → the Parquet tables of a run. Reads files only, in the plan's order."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from orchestrator.contract.environment import environment_of
from orchestrator.contract.manifest import Manifest
from orchestrator.contract.tables import (
    GENERATIONS_SCHEMA,
    NOISE_SCHEMA,
    PROMPTS_SCHEMA,
    SHARDS_SCHEMA,
    STAGE_SCHEMAS,
    TIMINGS_SCHEMA,
    TOKEN_LISTS,
    TOKENS_SCHEMA,
    VARIANTS_SCHEMA,
    WINDOWS_SCHEMA,
    WORST_TOKENS_SCHEMA,
)
from orchestrator.files import atomic_file
from orchestrator.storage.store import read_shards, shard_path
from orchestrator.storage.tokens import TokenTable

# The tables of a run's stages, by stage: those of the shards, the windows less their tokens.
STAGE_TABLES = {
    **STAGE_SCHEMAS,
    "windows": WINDOWS_SCHEMA,
    "noise": NOISE_SCHEMA,
    "generations": GENERATIONS_SCHEMA,
    "teacher_forced": WINDOWS_SCHEMA,
}


@dataclass(frozen=True)
class Tables:
    """The tables of a run, each by its schema in `orchestrator.contract.tables`.

    Attributes:
        variants: what was planned.
        prompts: what was asked.
        shards: what is finished, and where it was computed.
        stages: what was measured, by stage.
        tokens: what was measured of each scored token, by variant; left on the disk.
        forced_tokens: the same of the tokens of the reference's answers.
        noise_tokens: the same of the reference against itself.
        worst_tokens: the text around those that differ most from the reference.
        timings: each time that a prompt was answered.
    """

    variants: pa.Table
    prompts: pa.Table
    shards: pa.Table
    stages: dict[str, pa.Table]
    tokens: dict[str, TokenTable]
    forced_tokens: dict[str, TokenTable]
    noise_tokens: TokenTable
    worst_tokens: pa.Table
    timings: pa.Table


def join_shards(folder: Path, manifest: Manifest) -> Tables:
    """Joins the finished shards of a run."""
    parts = {stage: [schema.empty_table()] for stage, schema in STAGE_TABLES.items()}
    # The files with lists of tokens, by stage and variant.
    scored: dict[tuple[str, str], list[Path]] = defaultdict(list)
    worst = [WORST_TOKENS_SCHEMA.empty_table()]
    timings = [TIMINGS_SCHEMA.empty_table()]
    shards = []
    for record, table in read_shards(folder, manifest):
        environment = environment_of(table.schema)
        table = table.replace_schema_metadata(None)
        parts[record.stage].append(table.select(STAGE_TABLES[record.stage].names))
        if TOKEN_LISTS.name in table.column_names:
            scored[record.stage, record.variant].append(shard_path(folder, record))
        if record.stage == "windows":
            worst.append(_flattened(table, "window", "worst_tokens", WORST_TOKENS_SCHEMA))
        if record.stage == "generations":
            timings.append(_flattened(table, "prompt", "timings", TIMINGS_SCHEMA))
        shards.append(
            {
                **record.model_dump(exclude={"fingerprint", "needs", "reads"}),
                **environment.model_dump(),
            }
        )

    def tokens_of(stage: str, variant: str) -> TokenTable:
        return TokenTable(variant, tuple(scored[stage, variant]))

    names = [record.variant for record in manifest.variants]
    return Tables(
        variants=pa.Table.from_pylist(
            [record.model_dump() for record in manifest.variants], schema=VARIANTS_SCHEMA
        ),
        prompts=pa.Table.from_pylist(
            [
                {"prompt": number, **record.model_dump()}
                for number, record in enumerate(manifest.prompts)
            ],
            schema=PROMPTS_SCHEMA,
        ),
        shards=pa.Table.from_pylist(shards, schema=SHARDS_SCHEMA),
        stages={stage: pa.concat_tables(tables) for stage, tables in parts.items()},
        tokens={name: tokens_of("windows", name) for name in names},
        forced_tokens={name: tokens_of("teacher_forced", name) for name in names},
        noise_tokens=tokens_of("noise", manifest.reference),
        worst_tokens=pa.concat_tables(worst),
        timings=pa.concat_tables(timings),
    )


def _flattened(table: pa.Table, item: str, name: str, schema: pa.Schema) -> pa.Table:
    """A row a record of a shard's lists.

    Args:
        item: the column that tells the table's rows apart.
        name: the column of lists.
        schema: of the rows: the variant, the item, then the record's fields.
    """
    lists = table[name].combine_chunks()
    records, parents = lists.flatten(), pc.list_parent_indices(lists)
    columns = [
        *(table[key].take(parents).combine_chunks() for key in ("variant", item)),
        *(records.field(field) for field in schema.names[2:]),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def write_tables(folder: Path, tables: Tables) -> None:
    """Writes the tables of a run to its `tables/*.parquet`, the tokens a part at a time."""
    destination = folder / "tables"
    destination.mkdir(exist_ok=True)
    named = {
        "variants": tables.variants,
        "prompts": tables.prompts,
        "shards": tables.shards,
        "worst_tokens": tables.worst_tokens,
        "timings": tables.timings,
        **tables.stages,
    }
    for name, table in named.items():
        with atomic_file(destination / f"{name}.parquet") as file:
            parquet.write_table(table, file)
    _write_tokens(destination / "tokens.parquet", tables.tokens.values())
    _write_tokens(destination / "noise_tokens.parquet", [tables.noise_tokens])
    forced = tables.forced_tokens.values()
    _write_tokens(destination / "teacher_forced_tokens.parquet", forced)


def _write_tokens(path: Path, parts: Iterable[TokenTable]) -> None:
    with atomic_file(path) as file, parquet.ParquetWriter(file, TOKENS_SCHEMA) as writer:
        for tokens in parts:
            for rows in tokens.rows():
                writer.write_table(rows)
