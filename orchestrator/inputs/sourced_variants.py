"""What the user names a variant → how its weights are held, and which checkpoint they are of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.contract.variant_names import VariantWords
from orchestrator.contract.variants import (
    VARIANTS,
    AdapterVariant,
    CheckpointVariant,
    DtypeName,
    GgufVariant,
    Variant,
)
from orchestrator.errors import BadInputError
from orchestrator.inputs.adapters import is_adapter, read_adapter
from orchestrator.inputs.checkpoints import (
    Checkpoint,
    language_configuration,
    locate,
    read_located,
)
from orchestrator.inputs.gguf_files import names_gguf, read_gguf
from orchestrator.inputs.models import Model
from orchestrator.settings import Settings

_SETTING = "--variants"
# Of what is not quantized, where the checkpoint does not say.
_USUAL_DTYPE: DtypeName = "float16"


@dataclass(frozen=True)
class SourcedVariant:
    """A variant with the checkpoint that it is made of."""

    variant: Variant
    checkpoint: Checkpoint

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.variant.name

    @property
    def is_quantized(self) -> bool:
        """Whether its weights are not plain numbers."""
        match self.variant:
            case CheckpointVariant() | GgufVariant():
                return self.variant.method is not None
        return self.variant.kind not in ("plain", "adapter")


def resolve_variants(settings: Settings, model: Model) -> tuple[SourcedVariant, ...]:
    """The variants of a sweep, in order.

    Raises:
        BadInputError: a checkpoint that cannot be found, or a variant that cannot be made.
    """
    return tuple(_resolve(choice, model) for choice in settings.choices)


def known_variants(model: Model) -> list[SourcedVariant]:
    """Every variant that can be made of a model's own weights."""
    of_gguf = model.checkpoint.location.gguf_file is not None
    return [
        SourcedVariant(variant, model.checkpoint)
        for variant in VARIANTS.values()
        if variant.kind == "plain" or not of_gguf
    ]


def _resolve(choice: VariantWords, model: Model) -> SourcedVariant:
    if choice.source is None:
        for sourced in known_variants(model):
            if sourced.name == choice.base:
                return _with_noise(sourced, choice)
        raise BadInputError(
            _SETTING,
            f"{choice.base} cannot be made of a GGUF file; name the model that it was made of, "
            f"and this file as a variant of its own ({_SETTING} fp16,mine={model.id})",
        )
    source, revision = _split_revision(choice.source)
    if names_gguf(source):
        checkpoint = read_gguf(source, revision, _SETTING, _configuration_of(model))
        held: Variant = GgufVariant(
            name=choice.name, weights_dtype=_USUAL_DTYPE, method=checkpoint.method
        )
        return SourcedVariant(held, checkpoint)
    folder, location = locate(source, revision, _SETTING)
    if is_adapter(folder):
        checkpoint = read_adapter(source, folder, location, _SETTING, model)
        held = AdapterVariant(name=choice.name, weights_dtype=checkpoint.dtype or _USUAL_DTYPE)
    else:
        checkpoint = read_located(source, folder, location, _SETTING)
        held = CheckpointVariant(
            name=choice.name,
            weights_dtype=checkpoint.dtype or _USUAL_DTYPE,
            method=checkpoint.method,
        )
    return SourcedVariant(held, checkpoint)


def _with_noise(sourced: SourcedVariant, choice: VariantWords) -> SourcedVariant:
    if choice.noise is None:
        return sourced
    if sourced.checkpoint.location.gguf_file is not None:
        raise BadInputError(
            _SETTING,
            f"{choice.name}: noise is not added to the weights of a GGUF file; name the folder "
            "that it was made of as --model",
        )
    update = {"name": choice.name, "noise": choice.noise}
    return SourcedVariant(sourced.variant.model_copy(update=update), sourced.checkpoint)


def _configuration_of(model: Model) -> Mapping[str, Any] | None:
    """What a model's folder says of it; None for a file, which is none."""
    checkpoint = model.checkpoint
    if checkpoint.location.gguf_file is not None:
        return None
    return language_configuration(model.id, checkpoint.folder, _SETTING)


def _split_revision(source: str) -> tuple[str, str | None]:
    """`ORG/NAME@REVISION` in its parts; a path is one as it stands."""
    if Path(source).expanduser().exists() or "@" not in source:
        return source, None
    name, _, revision = source.rpartition("@")
    return name, revision
