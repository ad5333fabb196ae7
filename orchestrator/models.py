"""A model's id → its files' identity, configuration, tensors and tokenizer, without loading it."""

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from orchestrator.contract.errors import first_line
from orchestrator.contract.shards import ModelLocation
from orchestrator.errors import BadInputError

# What says which model it is beside its weights; other files of a folder (cards, images) do not
# change a number.
_CONTENT_PATTERNS = ("*.json", "*.model", "*.txt", "*.jinja")
# The same weights once more in another layout, and folders of other formats.
_NEVER_READ = ("consolidated*", "*/*")
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_EMBEDDINGS = frozenset({"embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings"})
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


@dataclass(frozen=True)
class TensorShape:
    """A tensor of the checkpoint, as the header of its safetensors file describes it."""

    name: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many numbers the tensor holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Checkpoint:
    """The weights that a variant is made of.

    Attributes:
        location: where actors load them from.
        content_hash: SHA-256 over the files that change a number.
        tensors: every tensor in them.
    """

    location: ModelLocation
    content_hash: str
    tensors: tuple[TensorShape, ...]


@dataclass(frozen=True)
class Model:
    """What a sweep must know of a model.

    Attributes:
        folder: where its files are on this machine.
        checkpoint: its own weights, which variants are made of unless they bring theirs.
        maximum_length: the most positions that the architecture takes, in tokens; None where its
            configuration does not say.
    """

    id: str
    folder: Path
    checkpoint: Checkpoint
    maximum_length: int | None


def resolve_model(model: str, revision: str | None) -> Model:
    """Finds a model: `demo` (embedded), a folder, or a hub id.

    Raises:
        BadInputError: no such folder or id, no weights or tokenizer in it, the hub out of reach.
    """
    folder, location = _locate(model, revision)
    if not (folder / "config.json").is_file():
        raise BadInputError("--model", f"{model} has no config.json; name a transformers folder")
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise BadInputError(
            "--model", f"{model} has no tokenizer; save one beside the weights (save_pretrained)"
        )
    config = _read_config(model, folder)
    _refuse_quantized(model, config)
    weights = _weights_files(model, folder)
    return Model(
        id=model,
        folder=folder,
        checkpoint=Checkpoint(
            location=location,
            content_hash=_content_hash(folder, weights),
            tensors=_without_tied_head(
                [tensor for path in weights for tensor in read_header(path)], config
            ),
        ),
        maximum_length=_maximum_length(config),
    )


def _locate(model: str, revision: str | None) -> tuple[Path, ModelLocation]:
    if model == "demo":
        folder = Path(str(resources.files("orchestrator") / "data" / "demo-model"))
        return folder, ModelLocation(id_or_path=str(folder))
    path = Path(model).expanduser()
    if path.is_dir():
        if revision is not None:
            raise BadInputError("--revision", f"{model} is a folder, which has none; leave it out")
        return path, ModelLocation(id_or_path=str(path.resolve()))
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise BadInputError("--model", f"no folder {model}; name one, or a hub id such as org/name")
    folder = _download(model, revision)
    # The folder of a snapshot is named by its commit.
    return folder, ModelLocation(id_or_path=model, revision=folder.name)


def _download(model: str, revision: str | None) -> Path:
    # Imported here: a local model needs neither.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(
            snapshot_download(
                model,
                revision=revision,
                allow_patterns=[*_CONTENT_PATTERNS, "*.safetensors"],
                ignore_patterns=list(_NEVER_READ),
            )
        )
    except GatedRepoError:
        problem = "is gated; accept its licence on the hub and log in with `hf auth login`"
    except RevisionNotFoundError:
        raise BadInputError("--revision", f"{model} has no revision '{revision}'") from None
    except (RepositoryNotFoundError, HFValidationError):
        problem = "is neither a folder nor a model on the hub; check the spelling, or log in"
    except (LocalEntryNotFoundError, OSError) as error:
        problem = (
            f"is no folder, and the hub cannot be reached ({first_line(error)}); "
            "check the network, or name a local folder"
        )
    raise BadInputError("--model", f"{model} {problem}")


def _weights_files(model: str, folder: Path) -> list[Path]:
    """The files that transformers loads: one, or those that an index names."""
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if not (folder / _INDEX).is_file():
        raise BadInputError(
            "--model", f"{model} has no .safetensors weights; convert it with save_pretrained"
        )
    try:
        names = set(
            json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInputError(
            "--model", f"{model}: {_INDEX} cannot be read; fetch it again"
        ) from None
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing or not names:
        named = ", ".join(missing) or "any file"
        raise BadInputError(
            "--model", f"{model}: {_INDEX} names {named}, not there; fetch it again"
        )
    return sorted(folder / name for name in names)


def _without_tied_head(
    tensors: Sequence[TensorShape], config: dict[str, Any]
) -> tuple[TensorShape, ...]:
    """The tensors less a head that is the embedding once more, where the model has them as one."""
    tied = any(section.get("tie_word_embeddings") is True for section in _sections(config))
    if not tied or not embedding_rows(tensors):
        return tuple(tensors)
    return tuple(tensor for tensor in tensors if tensor.name.split(".")[-2:-1] != ["lm_head"])


def _content_hash(folder: Path, weights: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    files = {path for pattern in _CONTENT_PATTERNS for path in folder.glob(pattern)}
    for path in sorted(files.union(weights)):
        digest.update(f"{path.name}\0{_file_hash(path)}\n".encode())
    return digest.hexdigest()


def _file_hash(path: Path) -> str:
    # The hub's cache names a large file's blob by its SHA-256: no need to read it again.
    blob = path.resolve().name
    if path.is_symlink() and len(blob) == 64:
        return blob
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_config(model: str, folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInputError("--model", f"{model}: config.json cannot be read ({error})") from None
    if not isinstance(config, dict):
        raise BadInputError("--model", f"{model}: config.json is no JSON object; fetch it again")
    return config


def _sections(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The configuration, and the language model's own where it is a part of a larger one."""
    yield config
    if isinstance(config.get("text_config"), dict):
        yield config["text_config"]


def _refuse_quantized(model: str, config: dict[str, Any]) -> None:
    """Variants are made of original weights: of quantized ones each would be the same."""
    for section in _sections(config):
        for key in ("quantization_config", "compression_config"):
            if section.get(key):
                kind = section[key].get("quant_method") if isinstance(section[key], dict) else None
                raise BadInputError(
                    "--model",
                    f"{model} is already quantized ({kind or key}); name the model that it was "
                    "made of",
                )


def _maximum_length(config: dict[str, Any]) -> int | None:
    for section in _sections(config):
        for key in ("max_position_embeddings", "n_positions", "max_seq_len"):
            if isinstance(section.get(key), int):
                return int(section[key])
    return None


def embedding_rows(tensors: Sequence[TensorShape]) -> int:
    """The tokens that a checkpoint's embedding has a row for; 0 where none is recognized."""
    return rows_named(tensors, _EMBEDDINGS)


def rows_named(tensors: Sequence[TensorShape], names: AbstractSet[str]) -> int:
    """The rows of the longest table that has one of these names as a part of its own; else 0."""
    return max(
        (
            tensor.shape[0]
            for tensor in tensors
            if len(tensor.shape) == 2 and not names.isdisjoint(tensor.name.split("."))
        ),
        default=0,
    )


def read_header(path: Path) -> list[TensorShape]:
    """The tensors of a safetensors file, from its header alone.

    Raises:
        BadInputError: the file is cut off or not of this format.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header: dict[str, Any] = json.loads(file.read(length))
        end = (
            8
            + length
            + max(
                (
                    entry["data_offsets"][1]
                    for name, entry in header.items()
                    if name != "__metadata__"
                ),
                default=0,
            )
        )
        if path.stat().st_size != end:
            raise ValueError(f"{path.stat().st_size} bytes, {end} expected")
    except (struct.error, ValueError, KeyError, TypeError, MemoryError) as error:
        raise BadInputError(
            "--model", f"{path} is not a whole safetensors file ({error}); fetch it again"
        ) from None
    return [
        TensorShape(name, tuple(entry["shape"]))
        for name, entry in header.items()
        if name != "__metadata__"
    ]
