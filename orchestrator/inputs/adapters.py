"""An adapter (LoRA) of the model → the weights that they make together."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.contract.shards import AdapterLocation, ModelLocation
from orchestrator.errors import BadInputError
from orchestrator.inputs.checkpoints import ADAPTER_CONFIG, Checkpoint, content_files, names_in
from orchestrator.inputs.models import Model
from orchestrator.inputs.weight_files import has_weights, read_header
from orchestrator.json_files import read_json

_WEIGHTS = "adapter_model.safetensors"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, and no model of its own."""
    return (folder / ADAPTER_CONFIG).is_file() and not has_weights(folder)


def read_adapter(
    name: str, folder: Path, location: ModelLocation, setting: str, model: Model
) -> Checkpoint:
    """Describes a model with an adapter merged into it.

    Args:
        name: what the user calls it.
        folder, location: where it is, as `locate` has found it.
        setting: the flag that named it, for messages.
        model: what it is merged into.

    Raises:
        BadInputError: it is of another model, or no weights are in it.
    """
    base = model.checkpoint
    if base.location.gguf_file is not None:
        raise BadInputError(
            setting,
            f"{name} is an adapter, and none is merged into a GGUF file; name the folder that "
            f"{model.id} was made of as --model",
        )
    if not (folder / _WEIGHTS).is_file():
        raise BadInputError(setting, f"{name} has no {_WEIGHTS}; save it with peft once more")
    read_header(folder / _WEIGHTS, setting)
    of = _base(name, folder, setting)
    if of and not _means(of, model):
        raise BadInputError(
            setting,
            f"{name} is an adapter of {of}, and --model is {model.id}; name its own model, or mend "
            f"base_model_name_or_path in its {ADAPTER_CONFIG} if they are the same",
        )
    files = content_files(folder, {folder / _WEIGHTS})
    adapter = AdapterLocation(
        id_or_path=location.id_or_path, revision=location.revision, files=names_in(folder, files)
    )
    return replace(
        base,
        location=base.location.model_copy(update={"adapter": adapter}),
        content_files=(*base.content_files, *files),
    )


def _base(name: str, folder: Path, setting: str) -> str:
    """The model that an adapter says it is of; nothing where it does not say."""
    try:
        content: Any = read_json(folder / ADAPTER_CONFIG)
        return str(content.get("base_model_name_or_path") or "")
    except (OSError, ValueError, AttributeError):
        raise BadInputError(
            setting, f"{name}: {ADAPTER_CONFIG} cannot be read; fetch it again"
        ) from None


def _means(name: str, model: Model) -> bool:
    """Whether a name means the model: its id, its folder, or a folder called as it is."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve() == model.checkpoint.folder.resolve()
    return name == model.id or path.name == Path(model.id).name
