"""A shard's table as a file: an Arrow IPC stream, and behind it the SHA-256 of all before."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

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


def holds_shard(path: Path, fingerprint: str) -> bool:
    """Whether a file is there, has every byte that was written, and is the shard's own."""
    try:
        content = memoryview(path.read_bytes())
    except OSError:
        return False
    stream, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(stream).digest() != digest:
        return False
    try:
        metadata = pa.ipc.open_stream(stream).schema.metadata or {}
    except pa.ArrowException:
        return False
    return bool(metadata.get(_FINGERPRINT_KEY) == fingerprint.encode())


def read_table(path: Path) -> pa.Table:
    """The table of a file that `holds_shard`, mapped from the disk."""
    with _reader(path) as reader:
        return reader.read_all()


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The table of a file that `holds_shard`, a batch at a time."""
    with _reader(path) as reader:
        yield from reader


@contextmanager
def _reader(path: Path) -> Iterator[pa.RecordBatchStreamReader]:
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
        yield reader
