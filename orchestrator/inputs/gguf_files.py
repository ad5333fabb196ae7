"""A GGUF file → the weights in it, described without loading them."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.contract.gguf_content import GgufContent, read_content
from orchestrator.contract.gguf_tokenizer import build_tokenizer
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variant_errors import first_line
from orchestrator.errors import BadInputError
from orchestrator.inputs.checkpoints import Checkpoint
from orchestrator.inputs.gguf_architectures import ARCHITECTURES, READ_BY_TRANSFORMERS
from orchestrator.inputs.gguf_configuration import UnreadError, read_configuration
from orchestrator.inputs.gguf_text import check_tokenizer
from orchestrator.inputs.hub import download
from orchestrator.inputs.weight_files import PLAIN_BYTES, TensorShape

_ENDING = ".gguf"
_MAGIC = b"GGUF"
# What a file may be that is no model: what to do with it.
_NO_MODELS = {
    "adapter": "an adapter (LoRA); merge it into its model and convert that",
    "imatrix": "an importance matrix; name the model that was quantized with it",
    "mmproj": "the part of a model that sees or hears; name the file of its language model",
    "vocab": "a vocabulary without a model; name one with weights",
}


def names_gguf(name: str) -> bool:
    """Whether a name means a GGUF file: a path, or `hub-id:file.gguf`."""
    return name.lower().endswith(_ENDING)


def read_gguf(
    name: str, revision: str | None, setting: str, model: Mapping[str, Any] | None = None
) -> Checkpoint:
    """Describes a GGUF file: a path, or `hub-id:file.gguf`.

    Args:
        setting: the flag that named it, for messages.
        model: the configuration of the model that it is a candidate beside, if it is one.

    Raises:
        BadInputError: no such file, none of this format, no model in it, something in it that is
            not read here, the package that reads it is missing.
    """
    path, location = locate_gguf(name, revision, setting)
    content = open_gguf(path, setting)
    _check_kind(path, content, setting)
    try:
        configuration = read_configuration(content, model)
    except UnreadError as unread:
        raise _unread(path, unread, setting) from None
    types = Counter(tensor.kind for tensor in content.tensors.values())
    quantized = [f"{kind} ({count})" for kind, count in types.items() if kind not in PLAIN_BYTES]
    values = configuration.values
    if values is not None:
        location = location.model_copy(update={"configuration": json.dumps(values, sort_keys=True)})
    return Checkpoint(
        location=location,
        folder=path.parent,
        content_files=(path,),
        tensors=tuple(
            TensorShape(name, tensor.shape, tensor.bytes)
            for name, tensor in content.tensors.items()
        ),
        dtype=None,
        method=", ".join(quantized) or None,
        maximum_length=content.values.get(f"{content.architecture}.context_length"),
        contradictions=configuration.contradictions,
    )


def read_gguf_model(name: str, revision: str | None, setting: str) -> Checkpoint:
    """Describes a GGUF file whose tokenizer is to be used as well; raises as `read_gguf` does."""
    checkpoint = read_gguf(name, revision, setting)
    path = checkpoint.content_files[0]
    try:
        check_tokenizer(open_gguf(path, setting).values)
    except UnreadError as unread:
        raise _unread(path, unread, setting) from None
    return checkpoint


def load_gguf_tokenizer(path: Path, setting: str) -> Any:
    """The `PreTrainedTokenizerFast` of a file that `read_gguf_model` took."""
    return build_tokenizer(open_gguf(path, setting).values)


def _unread(path: Path, unread: UnreadError, setting: str) -> BadInputError:
    return BadInputError(
        setting,
        f"{path}: not read here: {unread}; without it another model would be measured; name the "
        "folder that the file was made of",
    )


def locate_gguf(name: str, revision: str | None, setting: str) -> tuple[Path, ModelLocation]:
    """Where a file is on this machine, and where actors find it.

    Raises:
        BadInputError: there is none, or the hub is out of reach.
    """
    path = Path(name).expanduser()
    if path.is_file():
        if revision is not None:
            raise BadInputError("--revision", f"{name} is a file, which has none; leave it out")
        # Not resolved: a link in the hub's cache has another name than what it leads to.
        folder = path.absolute().parent
        return path, ModelLocation(id_or_path=str(folder), gguf_file=path.name, files=(path.name,))
    hub_id, colon, file = name.partition(":")
    if not colon:
        raise BadInputError(setting, f"no file {name}; name one, or a hub id as org/name:file.gguf")
    folder = download(hub_id, revision, [file], [], setting)
    if not (folder / file).is_file():
        raise BadInputError(setting, f"{hub_id} has no file {file}; look up its name on the hub")
    location = ModelLocation(id_or_path=hub_id, revision=folder.name, gguf_file=file, files=(file,))
    return folder / file, location


def open_gguf(path: Path, setting: str) -> GgufContent:
    """What a file says and holds.

    Raises:
        BadInputError: it is not a whole one of this format, or the package gguf is missing.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise BadInputError(setting, f"{path} is no GGUF file; name one, or a folder")
    try:
        return read_content(path)
    except ImportError:
        raise BadInputError(
            setting, f"{path} needs the package gguf to be read; pip install gguf"
        ) from None
    except (
        *(ValueError, KeyError, IndexError, TypeError, OSError),
        *(RecursionError, OverflowError, MemoryError),
    ) as error:
        raise BadInputError(
            setting, f"{path} is not a whole GGUF file ({first_line(error)}); fetch it again"
        ) from None


def _check_kind(path: Path, content: GgufContent, setting: str) -> None:
    """Refuses what holds no model, or a part of one."""
    kind = content.values.get("general.type", "model")
    if content.architecture == "clip":
        kind = "mmproj"
    if kind in _NO_MODELS:
        raise BadInputError(setting, f"{path} is {_NO_MODELS[kind]}")
    if content.architecture not in (*ARCHITECTURES, *READ_BY_TRANSFORMERS):
        raise BadInputError(
            setting,
            f"{path}: models of architecture '{content.architecture}' are not read from GGUF files "
            "here; name the folder that it was made of",
        )
    parts = content.values.get("split.count", 1)
    if parts > 1:
        raise BadInputError(
            setting,
            f"{path} is one of {parts} parts of a model; join them (llama-gguf-split --merge) and "
            "name the whole",
        )
