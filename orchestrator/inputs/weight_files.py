"""The safetensors files of a folder → the tensors that loading takes from them, each in one place.

Where a tensor stands in two files, which of them is loaded is a matter of chance: transformers
reads the files that an index names, whatever tensors it gives to them.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.contract.variant_errors import first_line
from orchestrator.errors import BadInputError
from orchestrator.json_files import parse_json, read_json

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_NAMED = 3
_PIECE_BYTES = 2**24
_LONGEST_NAME = 255
# The library takes no longer one.
_HEADER_BYTES = 100_000_000


# The dtypes of plain numbers, as files call them, with the bytes of one.
PLAIN_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True)
class TensorShape:
    """A tensor of the checkpoint, as the header of its file describes it.

    Attributes:
        bytes: what it takes in the file.
    """

    name: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def elements(self) -> int:
        """How many numbers the tensor holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class StoredTensor(TensorShape):
    """A tensor in its file.

    Attributes:
        dtype: as the file calls it.
        begin: the place of its first byte in the file.
    """

    dtype: str
    path: Path
    begin: int


def has_weights(folder: Path) -> bool:
    """Whether a folder holds the weights of a whole model, in this format."""
    return (folder / _WEIGHTS).is_file() or (folder / _INDEX).is_file()


def read_weights(name: str, folder: Path, setting: str) -> list[StoredTensor]:
    """The tensors that transformers loads from a folder: of one file, or of those of an index.

    Args:
        name: what the user calls the folder.
        setting: the flag that named it, for messages.

    Raises:
        BadInputError: no such file, one that is cut off, a tensor that is not where the index has
            it, or with other contents in two files.
    """
    if not has_weights(folder):
        raise BadInputError(
            setting, f"{name} has no .safetensors weights; convert it with save_pretrained"
        )
    indexed = _of_index(name, folder, setting) if (folder / _INDEX).is_file() else None
    if not (folder / _WEIGHTS).is_file():
        return indexed or []
    single = read_header(folder / _WEIGHTS, setting)
    if indexed is not None:
        _check_alike(folder, single, indexed, setting)
    return single


def read_header(path: Path, setting: str) -> list[StoredTensor]:
    """The tensors of a safetensors file, from its header alone.

    Args:
        setting: the flag that named it, for messages.

    Raises:
        BadInputError: the file is cut off or not of this format.
    """
    try:
        _check_header(path)
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header: dict[str, Any] = parse_json(file.read(length), _HEADER_BYTES)
        header.pop("__metadata__", None)
        begin = 8 + length
        end = begin + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if path.stat().st_size != end:
            raise ValueError(f"{path.stat().st_size} bytes, {end} expected")
        return [_stored(name, entry, path, begin) for name, entry in header.items()]
    except (
        struct.error,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        MemoryError,
    ) as error:
        raise BadInputError(
            setting, f"{path} is not a whole safetensors file ({error}); fetch it again"
        ) from None


def _check_header(path: Path) -> None:
    """Has the library look at a header that may lie: of lengths, overlaps, shapes and sizes.

    Raises:
        ValueError: it does.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        raise ValueError(first_line(error)) from None


def same_bytes(one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two tensors are the same, to the last bit."""
    if (one.shape, one.dtype, one.bytes) != (other.shape, other.dtype, other.bytes):
        return False
    with one.path.open("rb") as first, other.path.open("rb") as second:
        first.seek(one.begin)
        second.seek(other.begin)
        left = one.bytes
        while left:
            count = min(left, _PIECE_BYTES)
            if first.read(count) != second.read(count):
                return False
            left -= count
    return True


def _stored(name: str, entry: Mapping[str, Any], path: Path, data: int) -> StoredTensor:
    begin, end = entry["data_offsets"]
    return StoredTensor(
        name=name,
        shape=tuple(entry["shape"]),
        bytes=end - begin,
        dtype=str(entry["dtype"]),
        path=path,
        begin=data + begin,
    )


def _of_index(name: str, folder: Path, setting: str) -> list[StoredTensor]:
    """The tensors of the files that an index names, each in the file that it has there."""
    places = _places(name, folder, setting)
    files = sorted(set(places.values()))
    for file in files:
        if Path(file).name != file or len(file) > _LONGEST_NAME:
            raise BadInputError(
                setting, f"{name}: {_INDEX} names '{file[:40]}', no file beside it; fetch it again"
            )
    missing = [file for file in files if not (folder / file).is_file()]
    if missing or not files:
        named = ", ".join(missing) or "any file"
        raise BadInputError(setting, f"{name}: {_INDEX} names {named}, not there; fetch it again")
    found = [tensor for file in files for tensor in read_header(folder / file, setting)]
    astray = [t for t in found if places.get(t.name) != t.path.name]
    if astray:
        what = ", ".join(f"{t.name} in {t.path.name}" for t in astray[:_NAMED])
        raise BadInputError(
            setting,
            f"{folder / _INDEX} does not have {what}: which copy is meant cannot be told; save the "
            "model again (save_pretrained)",
        )
    lacking = sorted(set(places) - {tensor.name for tensor in found})
    if lacking:
        what = ", ".join(f"{each} in {places[each]}" for each in lacking[:_NAMED])
        raise BadInputError(
            setting, f"{folder / _INDEX} has {what}, which is not there; fetch it again"
        )
    return found


def _places(name: str, folder: Path, setting: str) -> dict[str, str]:
    try:
        index = read_json(folder / _INDEX)
        return {str(tensor): str(file) for tensor, file in index["weight_map"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise BadInputError(setting, f"{name}: {_INDEX} cannot be read; fetch it again") from None


def _check_alike(
    folder: Path, single: Sequence[StoredTensor], indexed: Sequence[StoredTensor], setting: str
) -> None:
    """Refuses a folder whose one file holds other weights than those of its index."""
    ones, others = ({tensor.name: tensor for tensor in found} for found in (single, indexed))
    differing = sorted(ones.keys() ^ others.keys()) or [
        name for name in ones if not same_bytes(ones[name], others[name])
    ]
    if differing:
        raise BadInputError(
            setting,
            f"{folder}: {_WEIGHTS} and the files of {_INDEX} hold other weights "
            f"({', '.join(differing[:_NAMED])}); remove those that are not meant",
        )
