"""SHA-256 of files; large ones are remembered from run to run, as long as they stay as they are.

Reading a model of 13.5 GB takes longer than to load it. What is remembered holds for a file of the
same place, size, inode and times; the time of its last change (`ctime`) cannot be set back.
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from orchestrator.background import Background
from orchestrator.files import write_atomically

# Of threads: as many as a disk is glad of.
_FILES_AT_ONCE = 8
# One at a time adds to what is remembered.
_remembering = Lock()
# Between two pieces a thread may wait for another to let go of the interpreter, some milliseconds:
# by pieces of 256 KiB, hashing took twice as long while the main thread imported.
_BUFFER_BYTES = 32 * 2**20
# Smaller files are read in no time.
_LEAST_BYTES = 64 * 2**20
# A file that was changed so recently may change again with the same time.
_SETTLED_SECONDS = 2.0


def file_hash(path: Path) -> str:
    """The SHA-256 of a file."""
    # The hub's cache names a large file's blob by its SHA-256: no need to read it again.
    blob = path.resolve().name
    if path.is_symlink() and len(blob) == 64:
        return blob
    before = _state(path)
    if before["size"] < _LEAST_BYTES:
        return _read_hash(path)
    name = str(path.resolve())
    known = _remembered().get(name)
    if isinstance(known, dict) and known == {**before, "sha256": known.get("sha256")}:
        return str(known["sha256"])
    digest = _read_hash(path)
    settled = time.time_ns() - before["changed_ns"] > _SETTLED_SECONDS * 1e9
    if settled and _state(path) == before:
        _remember(name, {**before, "sha256": digest})
    return digest


def file_hashes(paths: Sequence[Path]) -> list[str]:
    """The SHA-256 of each file; several are read at once, which one processor core could not."""
    at_once = min(len(paths), _FILES_AT_ONCE)
    readers = [Background(partial(_file_hashes, paths[first::at_once])) for first in range(at_once)]
    found = [""] * len(paths)
    for first, reader in enumerate(readers):
        found[first::at_once] = reader.result()
    return found


def _file_hashes(paths: Sequence[Path]) -> list[str]:
    return [file_hash(path) for path in paths]


def memory_path() -> Path:
    """The file that hashes are remembered in: in the user's folder of caches."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "quantization-orchestrator" / "content-hashes.json"


def _read_hash(path: Path) -> str:
    digest = hashlib.sha256()
    buffer = bytearray(min(_BUFFER_BYTES, max(1, path.stat().st_size)))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


def _state(path: Path) -> dict[str, Any]:
    """What tells a file from the same one changed."""
    found = path.stat()
    return {
        "size": found.st_size,
        "inode": found.st_ino,
        "modified_ns": found.st_mtime_ns,
        "changed_ns": found.st_ctime_ns,
    }


def _remembered() -> dict[str, Any]:
    """By path; nothing where there is no such file, or none that can be read."""
    with suppress(OSError, ValueError, RuntimeError):
        found = json.loads(memory_path().read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _remember(name: str, entry: dict[str, Any]) -> None:
    """Adds an entry and drops those of files that are gone; a folder that cannot be written costs
    nothing but the time to read the file again.
    """
    with _remembering, suppress(OSError, RuntimeError):
        kept = {other: value for other, value in _remembered().items() if Path(other).is_file()}
        path = memory_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({**kept, name: entry}, indent=2).encode())
