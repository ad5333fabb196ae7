"""Shard files → the Parquet tables of a run. Reads files only, in the plan's order."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from orchestrator.contract.environment import environment_of
from orchestrator.contract.manifest import Manifest
from orchestrator.contract.shards import ShardRecord
from orchestrator.contract.stages import STAGES
from orchestrator.contract.tables import (
    PROMPTS_SCHEMA,
    SHARDS_SCHEMA,
    TOKEN_LISTS,
    TOKENS_SCHEMA,
    VARIANTS_SCHEMA,
    make_table,
)
from orchestrator.errors import BadInputError
from orchestrator.storage.audits import KeptAudits, integrity_table
from orchestrator.storage.run_folder import RunFolder
from orchestrator.storage.tokens import Batches, TokenTable


@dataclass(frozen=True)
class Tables:
    """The tables of a run.

    Attributes:
        variants: what was planned.
        prompts: what was asked.
        shards: what is finished, and where it was computed.
        stages: what was measured, by stage, a row an item.
        records: the lists of records in those, a row a record, by the table's name.
        tokens: by stage and variant: what was measured of each scored token; left on the disk.
        integrity: what each checkpoint's weights show of quantization before the run.
        audits: the same of each checkpoint as a whole.
    """

    variants: pa.Table
    prompts: pa.Table
    shards: pa.Table
    stages: dict[str, pa.Table]
    records: dict[str, pa.Table]
    tokens: dict[str, dict[str, TokenTable]]
    integrity: pa.Table
    audits: KeptAudits

    @property
    def by_name(self) -> dict[str, pa.Table]:
        """All but those of tokens, as their files are called."""
        return {
            "variants": self.variants,
            "prompts": self.prompts,
            "shards": self.shards,
            "integrity": self.integrity,
            **self.records,
            **self.stages,
        }


def join_shards(folder: RunFolder, manifest: Manifest) -> Tables:
    """Joins the finished shards of a run.

    Raises:
        BadInputError: they are of other versions of their stages than this program knows.
    """
    check_versions(folder, manifest)
    parts = {name: [stage.table_schema.empty_table()] for name, stage in STAGES.items()}
    records = {
        table: [stage.rows_schema(column).empty_table()]
        for stage in STAGES.values()
        for column, table in stage.lists.items()
        if column != TOKEN_LISTS.name
    }
    # What reads the files with lists of tokens, by stage and variant.
    scored: dict[tuple[str, str], list[Batches]] = defaultdict(list)
    shards = []
    for record, table in folder.read_shards(manifest):
        stage = STAGES[record.stage]
        environment = environment_of(table.schema)
        _check_prompts(folder, record, table, manifest)
        table = table.replace_schema_metadata(None)
        parts[stage.name].append(table.select(stage.table_schema.names))
        for column, name in stage.lists.items():
            if column == TOKEN_LISTS.name:
                batches = partial(folder.read_shard_batches, record)
                scored[stage.name, record.variant].append(batches)
            else:
                records[name].append(_flattened(table, column, stage.rows_schema(column)))
        shards.append(
            {
                **record.model_dump(exclude={"fingerprint", "needs", "reads", "look"}),
                **environment.model_dump(),
            }
        )
    asked = enumerate(manifest.prompts)
    audits = folder.read_audits()
    return Tables(
        variants=make_table([one.model_dump() for one in manifest.variants], VARIANTS_SCHEMA),
        prompts=make_table(
            [{"prompt": number, **prompt.model_dump()} for number, prompt in asked], PROMPTS_SCHEMA
        ),
        shards=make_table(shards, SHARDS_SCHEMA),
        stages={stage: pa.concat_tables(tables) for stage, tables in parts.items()},
        records={name: pa.concat_tables(tables) for name, tables in records.items()},
        tokens={
            name: {
                record.variant: TokenTable(record.variant, tuple(scored[name, record.variant]))
                for record in manifest.variants
            }
            for name, stage in STAGES.items()
            if TOKEN_LISTS.name in stage.lists
        },
        integrity=integrity_table(audits, manifest),
        audits=audits,
    )


def _check_prompts(
    folder: RunFolder, record: ShardRecord, table: pa.Table, manifest: Manifest
) -> None:
    if "prompt" not in table.schema.names or not len(table):
        return
    ends = pc.min_max(table["prompt"]).as_py()
    if ends["min"] < 0 or ends["max"] >= len(manifest.prompts):
        raise BadInputError(
            "RUN", f"{folder}: {record.name} is of a prompt that its run.json does not have"
        )


def check_versions(folder: RunFolder, manifest: Manifest) -> None:
    """Refuses shards whose columns mean something else than today's.

    Raises:
        BadInputError: names the first such stage.
    """
    for stage, version in manifest.versions.stages.items():
        known = STAGES[stage].version if stage in STAGES else None
        if version != known:
            raise BadInputError(
                "RUN",
                f"{folder} has the stage {stage} in version {version}, and this program knows "
                f"{'none' if known is None else f'version {known}'}; the command that started the "
                "run measures it again, and keeps the rest",
            )


def _flattened(table: pa.Table, column: str, schema: pa.Schema) -> pa.Table:
    """A row a record of a shard's lists.

    Args:
        column: that of the lists.
        schema: of the rows: the variant, the item, then the record's fields.
    """
    lists = table[column].combine_chunks()
    records, parents = lists.flatten(), pc.list_parent_indices(lists)
    columns = [
        *(table[key].take(parents).combine_chunks() for key in schema.names[:2]),
        *(records.field(field) for field in schema.names[2:]),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def write_tables(folder: RunFolder, tables: Tables) -> None:
    """Writes the tables of a run, the tokens a part at a time."""
    for name, table in tables.by_name.items():
        with folder.open_table(name) as file:
            parquet.write_table(table, file)
    for stage, by_variant in tables.tokens.items():
        name = STAGES[stage].lists[TOKEN_LISTS.name]
        with folder.open_table(name) as file:
            _write_tokens(file, by_variant.values())


def _write_tokens(file: BinaryIO, parts: Iterable[TokenTable]) -> None:
    with parquet.ParquetWriter(file, TOKENS_SCHEMA) as writer:
        for tokens in parts:
            for rows in tokens.rows():
                writer.write_table(rows)
