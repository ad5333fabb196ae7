"""A folder, hub id or GGUF file → the weights in it, described without loading them."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from orchestrator.background import Background
from orchestrator.contract.file_states import FileState
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variants import DtypeName
from orchestrator.errors import BadInputError
from orchestrator.inputs.content_hashes import HashedFile, file_hashes
from orchestrator.inputs.hub import download
from orchestrator.inputs.tensor_roles import is_embedding, is_expert
from orchestrator.inputs.weight_files import (
    StoredTensor,
    TensorShape,
    has_weights,
    read_weights,
    same_bytes,
)
from orchestrator.json_files import read_json

# What says which model it is beside its weights; other files of a folder (cards, images) do not
# change a number.
_CONTENT_PATTERNS = ("*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken")
# The same weights once more in another layout, and folders of other formats.
_NEVER_READ = ("consolidated*", "*/*")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
# peft's.
ADAPTER_CONFIG = "adapter_config.json"
_LAYERS_BEYOND_NEXT = "num_nextn_predict_layers"


@dataclass(frozen=True)
class Checkpoint:
    """The weights that a variant is made of.

    Attributes:
        location: where actors load them from.
        folder: where its files are on this machine.
        content_files: those that change a number, in the order of the location's.
        tensors: every tensor in them.
        dtype: of what is not quantized, as its configuration says; None where it does not.
        method: how it is quantized (`awq`, `gptq`, ...; of a GGUF file its tensors' types); None
            for original weights.
        maximum_length: the most positions that the architecture takes, in tokens; None where its
            configuration does not say.
        contradictions: where the file says other than the model that it is a candidate beside.
    """

    location: ModelLocation
    folder: Path
    content_files: tuple[Path, ...]
    tensors: tuple[TensorShape, ...]
    dtype: DtypeName | None
    method: str | None
    maximum_length: int | None
    contradictions: tuple[str, ...] = ()

    def begin_hashing(self) -> None:
        """Begins to read the files for `content_hash`, which takes long, and returns at once."""
        _ = self._hashing

    @property
    def content_hash(self) -> str:
        """SHA-256 over these files and what was made of them; of one file alone its own.

        Waits for it where it is not known yet.

        Raises:
            BadInputError: a file changes while it is read, or is a damaged download.
        """
        hashed = self._hashing.result()
        configuration = self.location.configuration
        if len(hashed) == 1 and configuration is None:
            return hashed[0].sha256
        digest = hashlib.sha256((configuration or "").encode())
        for path, found in zip(self.content_files, hashed, strict=True):
            digest.update(f"{path.name}\0{found.sha256}\n".encode())
        return digest.hexdigest()

    @property
    def file_states(self) -> dict[str, FileState]:
        """The files as they were hashed, by their names in the location; waits and raises as
        `content_hash` does.
        """
        states = (hashed.state for hashed in self._hashing.result())
        return dict(zip(self.location.file_names, states, strict=True))

    @cached_property
    def _hashing(self) -> Background[list[HashedFile]]:
        return Background(lambda: file_hashes(self.content_files))

    @property
    def disk_bytes(self) -> int:
        """What the tensors take in their files."""
        return sum(tensor.bytes for tensor in self.tensors)


# With or without what of it is looked at.
_HUB_PAGE = re.compile(r"(https?://)?(www\.)?(huggingface\.co|hf\.co)/(?P<id>[^/?#]+/[^/?#]+)")


def read_folder(name: str, revision: str | None, setting: str) -> Checkpoint:
    """Describes a checkpoint of safetensors: `demo` (embedded), a folder, or a hub id.

    Args:
        setting: the flag that named it, for messages.

    Raises:
        BadInputError: no such folder or id, no weights or tokenizer in it, the hub out of reach.
    """
    return read_located(name, *locate(name, revision, setting), setting)


def read_located(name: str, folder: Path, location: ModelLocation, setting: str) -> Checkpoint:
    """The same of a folder that `locate` has found."""
    _check_no_adapter(name, folder, setting)
    if not (folder / "config.json").is_file():
        raise BadInputError(setting, f"{name} has no config.json; name a transformers folder")
    if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        raise BadInputError(
            setting, f"{name} has no tokenizer; save one beside the weights (save_pretrained)"
        )
    config = read_config(name, folder, setting)
    _check_causal(name, config, setting)
    tensors = read_weights(name, folder, setting)
    files = content_files(folder, {tensor.path for tensor in tensors})
    return Checkpoint(
        location=location.model_copy(update={"files": names_in(folder, files)}),
        folder=folder,
        content_files=files,
        tensors=_loaded(tensors, config),
        dtype=_dtype(config),
        method=declared_method(config),
        maximum_length=_maximum_length(config),
    )


def locate(name: str, revision: str | None, setting: str) -> tuple[Path, ModelLocation]:
    """Where a folder or hub id is on this machine, and where actors find it.

    Args:
        setting: the flag that named it, for messages.

    Raises:
        BadInputError: there is none, or the hub is out of reach.
    """
    if name == "demo":
        folder = Path(str(resources.files("orchestrator") / "data" / "demo-model"))
        return folder, ModelLocation(id_or_path=str(folder))
    path = Path(name).expanduser()
    if path.is_dir():
        if revision is not None:
            raise BadInputError("--revision", f"{name} is a folder, which has none; leave it out")
        return path, ModelLocation(id_or_path=str(path.resolve()))
    if path.is_file():
        raise BadInputError(setting, f"{name} is a file; name its folder, {path.parent}")
    if (page := _HUB_PAGE.match(name)) is not None:
        raise BadInputError(
            setting, f"{name} is the address of a page; name the model as {page['id']}"
        )
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise BadInputError(setting, f"no folder {name}; name one, or a hub id such as org/name")
    patterns = [*_CONTENT_PATTERNS, "*.safetensors"]
    folder = download(name, revision, patterns, list(_NEVER_READ), setting)
    # The folder of a snapshot is named by its commit.
    return folder, ModelLocation(id_or_path=name, revision=folder.name)


def _loaded(tensors: Sequence[StoredTensor], config: dict[str, Any]) -> tuple[TensorShape, ...]:
    """The tensors of which a model is made, without those that loading leaves in the files.

    Masks that were saved with the weights, layers that predict tokens beyond the next, and a head
    that is the embedding once more.
    """
    beyond = _layers_beyond_next(config)
    kept = [tensor for tensor in tensors if not _is_left(tensor, beyond)]
    tied = any(section.get("tie_word_embeddings") is True for section in _sections(config))
    heads = [tensor for tensor in kept if tensor.name.split(".")[-2:-1] == ["lm_head"]]
    embeddings = [tensor for tensor in kept if is_embedding(tensor)]
    if tied and embeddings:
        again = {head.name for head in heads if any(same_bytes(head, e) for e in embeddings)}
        kept = [tensor for tensor in kept if tensor.name not in again]
    return tuple(TensorShape(tensor.name, tensor.shape, tensor.bytes) for tensor in kept)


def _layers_beyond_next(config: dict[str, Any]) -> range:
    """The numbers of layers that predict tokens beyond the next, which follow the model's own."""
    section = next((s for s in _sections(config) if s.get(_LAYERS_BEYOND_NEXT)), {})
    said = (section.get(name) for name in ("num_hidden_layers", _LAYERS_BEYOND_NEXT))
    # What is no whole number is refused where the model is made.
    first, beyond = (count if isinstance(count, int) else 0 for count in said)
    return range(first, first + beyond)


def _is_left(tensor: TensorShape, beyond: range) -> bool:
    parts = tensor.name.split(".")
    # Of GPT-2 and GPT-NeoX; the bias of a layer has one dimension.
    is_mask = parts[-1] in ("bias", "masked_bias") and parts[-2:-1] in (["attn"], ["attention"])
    numbers = [after for before, after in pairwise(parts) if before == "layers"]
    return (
        parts[-1] == "inv_freq"
        or (is_mask and len(tensor.shape) != 1)
        or any(part.startswith("mtp") for part in parts)
        or any(number.isdigit() and int(number) in beyond for number in numbers)
    )


def content_files(folder: Path, weights: AbstractSet[Path]) -> tuple[Path, ...]:
    """The files of a folder that change a number, in order."""
    files = {path for pattern in _CONTENT_PATTERNS for path in folder.glob(pattern)}
    return tuple(sorted(files.union(weights)))


def names_in(folder: Path, files: Iterable[Path]) -> tuple[str, ...]:
    """What files are called from their folder on."""
    return tuple(path.relative_to(folder).as_posix() for path in files)


def read_config(name: str, folder: Path, setting: str) -> dict[str, Any]:
    """The configuration of a folder.

    Raises:
        BadInputError: it cannot be read.
    """
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError) as error:
        raise BadInputError(setting, f"{name}: config.json cannot be read ({error})") from None
    if not isinstance(config, dict):
        raise BadInputError(setting, f"{name}: config.json is no JSON object; fetch it again")
    return config


def _check_no_adapter(name: str, folder: Path, setting: str) -> None:
    """Refuses what holds an adapter: whether transformers loads it depends on what is installed."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return
    if has_weights(folder):
        raise BadInputError(
            setting,
            f"{name} holds full weights and an adapter ({ADAPTER_CONFIG}); keep one of both: "
            f"remove adapter_* where it was merged, or model* where it was not",
        )
    raise BadInputError(
        setting,
        f"{name} is an adapter; name the model that it is of, and it as a variant of its own "
        f"(--variants fp16,mine={name})",
    )


def _check_causal(name: str, config: dict[str, Any], setting: str) -> None:
    """Refuses what says of itself that it fills in masked tokens."""
    masked = [
        architecture
        for section in _sections(config)
        for architecture in section.get("architectures") or []
        if "MaskedLM" in str(architecture)
    ]
    if masked:
        raise BadInputError(
            setting,
            f"{name} is a masked language model ({masked[0]}), which predicts no next token; name "
            "a causal one",
        )


def language_configuration(name: str, folder: Path, setting: str) -> Mapping[str, Any]:
    """The configuration of a folder's language model, which may be a part of a larger one's.

    Raises:
        BadInputError: it cannot be read.
    """
    *_, section = _sections(read_config(name, folder, setting))
    return section


def _sections(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The configuration, and the language model's own where it is a part of a larger one."""
    yield config
    if isinstance(config.get("text_config"), dict):
        yield config["text_config"]


def declared_method(config: Mapping[str, Any]) -> str | None:
    """By which method a configuration says that the weights are quantized; None: it does not."""
    for section in _sections(config):
        for key in ("quantization_config", "compression_config"):
            found = section.get(key)
            if found:
                method = found.get("quant_method") if isinstance(found, dict) else None
                return str(method or key)
    return None


def _dtype(config: dict[str, Any]) -> DtypeName | None:
    known: dict[object, DtypeName] = {name: name for name in get_args(DtypeName)}
    for section in _sections(config):
        for key in ("dtype", "torch_dtype"):
            if section.get(key) in known:
                return known[section[key]]
    return None


def _maximum_length(config: dict[str, Any]) -> int | None:
    for section in _sections(config):
        for key in ("max_position_embeddings", "n_positions", "max_seq_len"):
            if isinstance(section.get(key), int):
                return int(section[key])
    return None


def embedding_rows(tensors: Sequence[TensorShape]) -> int:
    """The tokens that a checkpoint's embedding has a row for; 0 where none is recognized."""
    return max((shape[0] for shape in _embeddings(tensors)), default=0)


def embedding_width(tensors: Sequence[TensorShape]) -> int:
    """How many numbers a token's embedding has; 0 where no embedding is recognized."""
    return max((shape[1] for shape in _embeddings(tensors)), default=0)


def _embeddings(tensors: Sequence[TensorShape]) -> Iterator[tuple[int, ...]]:
    """The shapes of the tables that are named as an embedding."""
    return (tensor.shape for tensor in tensors if is_embedding(tensor))


def unquantized_experts(tensors: Sequence[TensorShape]) -> int:
    """How many weights are those of experts, which bitsandbytes leaves in 16 bits.

    transformers holds a layer's experts as one tensor of three dimensions: no linear layer.
    """
    return sum(tensor.elements for tensor in tensors if is_expert(tensor))
