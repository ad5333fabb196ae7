"""A variant → a model on a device."""

import importlib.metadata
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from actors.errors import CannotLoadError
from orchestrator.shards import ModelLocation
from orchestrator.variants import Variant


def load_model(location: ModelLocation, variant: Variant, device: torch.device) -> Any:
    """Loads the weights in the variant's own dtypes, through transformers.

    Returns:
        A `PreTrainedModel` in evaluation mode, on the device.

    Raises:
        CannotLoadError: no memory, a library that is missing or broken, damaged files.
    """
    options: dict[str, Any] = {
        "dtype": getattr(torch, variant.weights_dtype),
        "device_map": {"": device.type if device.index is None else device.index},
    }
    if variant.kind == "bitsandbytes":
        _require_bitsandbytes(variant)
        options["quantization_config"] = BitsAndBytesConfig(**variant.options)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            location.id_or_path, revision=location.revision, **options
        )
    except torch.cuda.OutOfMemoryError as error:
        raise CannotLoadError(
            f"variant {variant.name} does not fit the device: {_first_line(error)}"
        ) from None
    except (OSError, ValueError, ImportError, RuntimeError, KeyError, SafetensorError) as error:
        raise CannotLoadError(
            f"variant {variant.name} of {location.id_or_path} cannot be loaded: "
            f"{type(error).__name__}: {_first_line(error)}"
        ) from error
    return model.eval().requires_grad_(False)


def prepare_arithmetic(model: Any, dtype: torch.dtype) -> None:
    """Makes a loaded model compute in a dtype, its weights keeping their values.

    Whatever is not quantized is converted in place; quantized weights stay as they are and are
    expanded to the dtype of the activations when they are used.
    """
    for tensor in [*model.parameters(), *model.buffers()]:
        # Buffers in float32 (rotary frequencies) were made so on purpose.
        if tensor.dtype in (torch.float16, torch.bfloat16) or (
            isinstance(tensor, torch.nn.Parameter) and tensor.dtype == torch.float32
        ):
            tensor.data = tensor.data.to(dtype)
    for module in model.modules():
        if hasattr(module, "quant_state"):  # bitsandbytes' Linear4bit
            module.compute_dtype = dtype
            module.compute_type_is_set = True
    model.config.dtype = dtype


def load_tokenizer(location: ModelLocation) -> Any:
    """The tokenizer that turns new tokens into text."""
    return AutoTokenizer.from_pretrained(location.id_or_path, revision=location.revision)


def _require_bitsandbytes(variant: Variant) -> None:
    try:
        importlib.metadata.version("bitsandbytes")
        import bitsandbytes  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        raise CannotLoadError(
            f"variant {variant.name} needs bitsandbytes, which is missing or broken "
            f"({_first_line(error)}); pip install bitsandbytes, or leave the variant out"
        ) from None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "no further word")
