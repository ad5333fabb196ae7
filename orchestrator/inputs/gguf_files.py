"""A GGUF file → the weights in it, described without loading them."""

from collections import Counter
from pathlib import Path
from typing import Any

from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variant_errors import first_line
from orchestrator.errors import BadInputError
from orchestrator.inputs.checkpoints import Checkpoint, TensorShape
from orchestrator.inputs.hub import download

_ENDING = ".gguf"
_MAGIC = b"GGUF"
# Types that are plain numbers.
_PLAIN_TYPES = frozenset({"F64", "F32", "F16", "BF16"})


def names_gguf(name: str) -> bool:
    """Whether a name means a GGUF file: a path, or `hub-id:file.gguf`."""
    return name.lower().endswith(_ENDING)


def read_gguf(name: str, revision: str | None, setting: str) -> Checkpoint:
    """Describes a GGUF file: a path, or `hub-id:file.gguf`.

    Args:
        setting: the flag that named it, for messages.

    Raises:
        BadInputError: no such file, none of this format, the package that reads it is missing.
    """
    path, location = _locate(name, revision, setting)
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise BadInputError(setting, f"{path} is no GGUF file; name one, or a folder")
    reader = _reader(path, setting)
    architecture = str(_value(reader, "general.architecture"))
    tensors = tuple(
        TensorShape(tensor.name, tuple(int(n) for n in reversed(tensor.shape)), int(tensor.n_bytes))
        for tensor in reader.tensors
    )
    types = Counter(tensor.tensor_type.name for tensor in reader.tensors)
    quantized = [f"{kind} ({count})" for kind, count in types.items() if kind not in _PLAIN_TYPES]
    return Checkpoint(
        location=location,
        folder=path.parent,
        content_files=(path,),
        tensors=tensors,
        dtype=None,
        method=", ".join(quantized) or None,
        maximum_length=_value(reader, f"{architecture}.context_length"),
    )


def _locate(name: str, revision: str | None, setting: str) -> tuple[Path, ModelLocation]:
    path = Path(name).expanduser()
    if path.is_file():
        if revision is not None:
            raise BadInputError("--revision", f"{name} is a file, which has none; leave it out")
        # Not resolved: a link in the hub's cache has another name than what it leads to.
        folder = path.absolute().parent
        return path, ModelLocation(id_or_path=str(folder), gguf_file=path.name)
    hub_id, colon, file = name.partition(":")
    if not colon:
        raise BadInputError(setting, f"no file {name}; name one, or a hub id as org/name:file.gguf")
    folder = download(hub_id, revision, [file], [], setting)
    if not (folder / file).is_file():
        raise BadInputError(setting, f"{hub_id} has no file {file}; look up its name on the hub")
    location = ModelLocation(id_or_path=hub_id, revision=folder.name, gguf_file=file)
    return folder / file, location


def _reader(path: Path, setting: str) -> Any:
    try:
        from gguf import GGUFReader
    except ImportError:
        raise BadInputError(
            setting, f"{path} needs the package gguf to be read; pip install gguf"
        ) from None
    try:
        return GGUFReader(path)
    except (ValueError, KeyError, IndexError, TypeError, OSError) as error:
        raise BadInputError(
            setting, f"{path} is not a whole GGUF file ({first_line(error)}); fetch it again"
        ) from None


def _value(reader: Any, key: str) -> Any:
    field = reader.fields.get(key)
    return None if field is None else field.contents()
