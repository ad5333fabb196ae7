"""What a model's files hold, by hash: every tensor for itself, and every file that holds none.

Two of them say exactly what differs between two models, or between a model and what was published.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from orchestrator.contract.frozen import Frozen
from orchestrator.inputs.content_hashes import file_hash
from orchestrator.inputs.weight_files import StoredTensor
from orchestrator.integrity.files import AuditedFiles

_PIECE_BYTES = 2**24
# What of a GGUF file is no tensor.
METADATA = "metadata"
# Says in which file a tensor lies: of no account.
_INDEX_ENDING = ".safetensors.index.json"
_SHA256 = "^[0-9a-f]{64}$"


class TensorEntry(Frozen):
    """A tensor: sha256 of its bytes as they lie in the file."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str = Field(pattern=_SHA256)


class Inventory(Frozen):
    """A model's content. Files are those without tensors, and of a GGUF file what is none."""

    version: Literal[1] = 1
    model: str
    tensors: dict[str, TensorEntry]
    files: dict[str, str]


class Difference(Frozen):
    """What a model has otherwise than it should."""

    of: Literal["tensor", "file"]
    name: str
    change: Literal["changed", "added", "missing"]
    detail: str | None = None

    def __str__(self) -> str:
        """In a line."""
        return f"{self.of} {self.name} is {self.change}{f': {self.detail}' if self.detail else ''}"


def take_inventory(
    files: AuditedFiles, *, leaving: tuple[Path, ...] = (), done: Callable[[], None] = lambda: None
) -> Inventory:
    """Hashes all that a model's files hold.

    Args:
        leaving: files that do not belong to the model, such as its own manifest.
        done: called after each tensor, from threads.

    Raises:
        OSError: a file cannot be read, or ends before its header says.
    """

    entries = files.each_tensor(_entry, done)
    return Inventory(
        model=files.name,
        tensors={tensor.name: entry for tensor, entry in zip(files.tensors, entries, strict=True)},
        files=dict(_other_files(files, {path.resolve() for path in leaving})),
    )


def _entry(tensor: StoredTensor) -> TensorEntry:
    digest = _hash_part(tensor.path, tensor.begin, tensor.bytes)
    return TensorEntry(dtype=tensor.dtype, shape=tensor.shape, sha256=digest)


def _hash_part(path: Path, begin: int, length: int) -> str:
    digest = hashlib.sha256()
    left = length
    with path.open("rb") as file:
        file.seek(begin)
        while left:
            part = file.read(min(left, _PIECE_BYTES))
            if not part:
                raise OSError(0, "it ends before its header says", str(path))
            digest.update(part)
            left -= len(part)
    return digest.hexdigest()


def _other_files(files: AuditedFiles, leaving: set[Path]) -> Iterator[tuple[str, str]]:
    if files.is_gguf:
        metadata = min((tensor.begin for tensor in files.tensors), default=0)
        yield METADATA, _hash_part(files.folder, 0, metadata)
        return
    holding = {tensor.path for tensor in files.tensors}
    for path in sorted(files.folder.rglob("*")):
        name = path.relative_to(files.folder)
        # What tools keep for themselves is in hidden folders.
        is_hidden = any(part.startswith(".") for part in name.parts)
        is_index = path.name.endswith(_INDEX_ENDING)
        is_left = is_hidden or is_index or path in holding or path.resolve() in leaving
        if path.is_file() and not is_left:
            yield name.as_posix(), file_hash(path).sha256


def differences(expected: Inventory, found: Inventory) -> list[Difference]:
    """What differs, tensors first, in the order of their names."""
    return [
        *_tensors_that_differ(expected.tensors, found.tensors),
        *_files_that_differ(expected.files, found.files),
    ]


def _tensors_that_differ(
    expected: Mapping[str, TensorEntry], found: Mapping[str, TensorEntry]
) -> Iterator[Difference]:
    for name in sorted(expected.keys() | found.keys()):
        before, after = expected.get(name), found.get(name)
        if after is None:
            yield Difference(of="tensor", name=name, change="missing")
        elif before is None:
            yield Difference(of="tensor", name=name, change="added")
        elif before != after:
            layouts = [f"{entry.dtype} {list(entry.shape)}" for entry in (before, after)]
            detail = f"{layouts[1]}, was {layouts[0]}" if layouts[0] != layouts[1] else None
            yield Difference(of="tensor", name=name, change="changed", detail=detail)


def _files_that_differ(
    expected: Mapping[str, str], found: Mapping[str, str]
) -> Iterator[Difference]:
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            yield Difference(of="file", name=name, change="missing")
        elif name not in expected:
            yield Difference(of="file", name=name, change="added")
        elif expected[name] != found[name]:
            yield Difference(of="file", name=name, change="changed")
