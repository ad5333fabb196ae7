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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from orchestrator.background import Background
from orchestrator.contract.file_states import FileState
from orchestrator.errors import BadInputError
from orchestrator.files import write_atomically
from orchestrator.json_files import read_json

# Of threads: as many as a disk is glad of.
_FILES_AT_ONCE = 8
# One at a time adds to what is remembered.
_remembering = Lock()
# Between two pieces a thread may wait for another to let go of the interpreter, some milliseconds:
# by pieces of 256 KiB, hashing took twice as long while the main thread imported.
_BUFFER_BYTES = 32 * 2**20
# Of files worth remembering.
_LEAST_BYTES = 64 * 2**20
# A file that was changed so recently may change again with the same time.
_SETTLED_SECONDS = 2.0


@dataclass(frozen=True)
class HashedFile:
    """A file as it was read.

    Attributes:
        sha256: of its content, in hexadecimal digits.
    """

    sha256: str
    state: FileState


def file_hash(path: Path) -> HashedFile:
    """Reads a file, or remembers what it held.

    Raises:
        BadInputError: it changes meanwhile, or is a damaged download.
    """
    before = FileState.of(path)
    name = str(path.resolve())
    # What has a few bytes is read in no time.
    is_large = before.size_bytes >= _LEAST_BYTES
    known = _remembered().get(name) if is_large else None
    if isinstance(known, dict) and known == {**before.model_dump(), "sha256": known.get("sha256")}:
        found = HashedFile(str(known["sha256"]), before)
    else:
        found = HashedFile(_read_hash(path), before)
        if FileState.of(path) != before:
            raise BadInputError(str(path), "changed while it was read; wait until it is whole")
        settled = time.time_ns() - before.changed_ns > _SETTLED_SECONDS * 1e9
        if is_large and settled:
            _remember(name, {**before.model_dump(), "sha256": found.sha256})
    _check_blob(path, found)
    return found


def file_hashes(paths: Sequence[Path]) -> list[HashedFile]:
    """The hash of each file; several are read at once, which one processor core could not.

    Raises:
        BadInputError: as `file_hash` does.
    """
    at_once = min(len(paths), _FILES_AT_ONCE)
    readers = [Background(partial(_file_hashes, paths[first::at_once])) for first in range(at_once)]
    found: dict[Path, HashedFile] = {}
    for first, reader in enumerate(readers):
        found.update(zip(paths[first::at_once], reader.result(), strict=True))
    return [found[path] for path in paths]


def _file_hashes(paths: Sequence[Path]) -> list[HashedFile]:
    return [file_hash(path) for path in paths]


def memory_path() -> Path:
    """The file that hashes are remembered in."""
    return caches() / "content-hashes.json"


def caches() -> Path:
    """The folder of this program among the user's folders of caches."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "quantization-orchestrator"


def _read_hash(path: Path) -> str:
    digest = hashlib.sha256()
    buffer = bytearray(min(_BUFFER_BYTES, max(1, path.stat().st_size)))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


def _check_blob(path: Path, found: HashedFile) -> None:
    """Refuses a download that is not what the hub's cache calls it: large files are named by their
    SHA-256 there, in a folder `blobs` beside the snapshots that link to them.
    """
    blob = path.resolve()
    is_of_hub = blob.parent.name == "blobs" and (blob.parent.parent / "snapshots").is_dir()
    if is_of_hub and len(blob.name) == len(found.sha256) and blob.name != found.sha256:
        raise BadInputError(str(path), f"is a damaged download; remove {blob} and fetch it again")


def _remembered() -> dict[str, Any]:
    """By path; nothing where there is no such file, or none that can be read."""
    with suppress(OSError, ValueError, RuntimeError):
        found = read_json(memory_path())
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
