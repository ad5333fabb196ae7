"""A shard's table as a file: an Arrow IPC stream, and behind it the SHA-256 of all before."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from orchestrator.contract.environment import environment_of
from orchestrator.contract.shards import ShardRecord
from orchestrator.contract.stages import STAGES
from orchestrator.contract.tables import check_no_nulls

_FINGERPRINT_KEY = b"orchestrator.fingerprint"
_DIGEST_BYTES = hashlib.sha256().digest_size


def shard_content(table: pa.Table, fingerprint: str) -> bytes:
    """The bytes of a file that holds a shard's table."""
    metadata = {
        **(table.schema.metadata or {}),
        _FINGERPRINT_KEY: fingerprint.encode(),
    }
    stamped = table.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, stamped.schema) as writer:
        writer.write_table(stamped)
    stream = bytes(sink.getvalue())
    return stream + hashlib.sha256(stream).digest()


def whole_table(path: Path, record: ShardRecord) -> pa.Table | None:
    """A shard's table, mapped from the disk; None unless the file is there, has every byte that was
    written, and holds the shard's own table.

    A digest can be made by anybody: what it is of must be a table of the shard's stage, too.
    """
    try:
        with pa.memory_map(str(path)) as source:
            content = source.read_buffer()
        stream, digest = memoryview(content)[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
        if hashlib.sha256(stream).digest() != digest:
            return None
        table = pa.ipc.open_stream(content[:-_DIGEST_BYTES]).read_all()
        if table.schema.metadata.get(_FINGERPRINT_KEY) != record.fingerprint.encode():
            return None
        check_shard(record, table)
    except (OSError, pa.ArrowException, AttributeError, ValueError):
        return None
    return table


def check_shard(record: ShardRecord, table: pa.Table) -> None:
    """Refuses a table that cannot be a shard's.

    Raises:
        ValueError: it is not of the stage's schema, has other rows, nulls where there are none, or
            does not say where it was computed.
    """
    try:
        environment_of(table.schema)
    except ValueError:
        raise ValueError("it does not say where it is from") from None
    stage = STAGES.get(record.stage)
    if stage is None or not table.schema.equals(stage.schema) or table.num_rows != record.items:
        raise ValueError("it is of another shape")
    table.validate(full=True)
    check_no_nulls(table)
    if table["variant"].unique().to_pylist() != [record.variant]:
        raise ValueError("it is of another variant")


def read_table(path: Path) -> pa.Table:
    """The table of a file that is known to be whole, mapped from the disk."""
    with _reader(path) as reader:
        return reader.read_all()


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The table of a file that is known to be whole, a batch at a time."""
    with _reader(path) as reader:
        yield from reader


@contextmanager
def _reader(path: Path) -> Iterator[pa.RecordBatchStreamReader]:
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
        yield reader
