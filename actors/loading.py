"""A variant → a model on a device."""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    TorchAoConfig,
)

from actors.adapters import merge_adapter
from actors.checks import check_finite, check_weights
from actors.emulation import emulate
from actors.gguf_loading import finish_gguf, gguf_options, gguf_tokenizer
from actors.soft_cap import apply_soft_cap
from actors.spreading import check_devices, spread, where_to
from orchestrator.contract.formats import FORMATS
from orchestrator.contract.packages import needed_modules, package_problem
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variant_errors import CannotLoadError, first_line, loading_problem
from orchestrator.contract.variants import (
    FormatVariant,
    FourBitVariant,
    Int8Variant,
    TileInt4Variant,
    TorchaoVariant,
    Variant,
    VariantKind,
)


def load_model(
    location: ModelLocation,
    variant: Variant,
    device: torch.device,
    devices: int = 1,
    *,
    emulated: bool = False,
) -> Any:
    """Loads the weights in the variant's own dtypes, through transformers.

    Args:
        device: where they are to be.
        devices: of that kind, the layers over so many.
        emulated: whether what the variant quantizes is rounded alike instead, and stays plain.

    Returns:
        A `PreTrainedModel` in evaluation mode, on its devices.

    Raises:
        CannotLoadError: no memory, a library that is missing or broken, damaged files, tensors
            that are not the model's.
    """
    options: dict[str, Any] = {
        "dtype": getattr(torch, variant.weights_dtype),
        # Not left open: transformers would ask on the terminal.
        "trust_remote_code": False,
        **where_to(device, devices),
    }
    _require_packages(location, variant)
    if location.gguf_file is not None:
        options |= gguf_options(location)
    elif not emulated and (quantization := QUANTIZATION[variant.kind](variant)) is not None:
        options["quantization_config"] = quantization
    origin = origin_of(location, variant)
    if location.adapter is not None:
        # Merged in the processor's memory, which holds float32 where a GPU's may not.
        options |= {"dtype": torch.float32, "device_map": None}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            location.id_or_path, revision=location.revision, output_loading_info=True, **options
        )
    except torch.cuda.OutOfMemoryError:
        raise
    except (OSError, ValueError, ImportError, RuntimeError, KeyError, SafetensorError) as error:
        raise CannotLoadError(f"{origin} cannot be loaded: {loading_problem(error)}") from error
    model, loading = loaded
    check_weights(origin, loading)
    if location.gguf_file is not None:
        finish_gguf(origin, model, location)
    if location.adapter is not None:
        merged = merge_adapter(origin, model, location.adapter)
        model = spread(merged.to(getattr(torch, variant.weights_dtype)), device, devices)
    check_devices(origin, model)
    apply_soft_cap(model)
    if emulated:
        emulate(model, variant)
    if variant.weights_dtype == "float16":
        check_finite(origin, model, _BEYOND_FLOAT16_OF.get(variant.kind, _BEYOND_FLOAT16))
    return model.eval().requires_grad_(False)


def origin_of(location: ModelLocation, variant: Variant) -> str:
    """What a variant of a model is called in messages."""
    return f"variant {variant.name} of {location.name}"


def prepare_arithmetic(model: Any, dtype: torch.dtype) -> None:
    """Makes a loaded model compute in a dtype, its weights keeping their values.

    Whatever is not quantized is converted in place; quantized weights stay as they are and are
    expanded to the dtype of the activations when they are used. What a quantized model keeps in
    float32 (scales, routers) is so on purpose.
    """
    plain = getattr(model.config, "quantization_config", None) is None
    for tensor in [*model.parameters(), *model.buffers()]:
        # Buffers in float32 (rotary frequencies) were made so on purpose.
        if tensor.dtype in (torch.float16, torch.bfloat16) or (
            plain and isinstance(tensor, torch.nn.Parameter) and tensor.dtype == torch.float32
        ):
            tensor.data = tensor.data.to(dtype)
    for module in model.modules():
        if hasattr(module, "quant_state"):  # bitsandbytes' Linear4bit
            module.compute_dtype = dtype
            module.compute_type_is_set = True
            # Else its first forward pass packs the weights for good, to be multiplied in bfloat16
            # on processors that can: figures would depend on the processor.
            module.support_avx512bf16_for_cpu = False
    model.config.dtype = dtype


def load_tokenizer(location: ModelLocation) -> Any:
    """The tokenizer that turns new tokens into text."""
    if (built := gguf_tokenizer(location)) is not None:
        return built
    return AutoTokenizer.from_pretrained(
        location.id_or_path,
        revision=location.revision,
        gguf_file=location.gguf_file,
        trust_remote_code=False,
    )


def _no_quantization(_: Variant) -> None:
    return None


def _int8(_: Int8Variant) -> BitsAndBytesConfig:
    # Imported here: bitsandbytes takes seconds where there is a GPU.
    from actors.int8_in_place import InPlaceInt8Config

    return InPlaceInt8Config()


def _torchao(variant: TorchaoVariant) -> TorchAoConfig:
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup

    if variant.bits == 8:
        return TorchAoConfig(Int8WeightOnlyConfig())
    group = PerGroup(variant.group_size)
    return TorchAoConfig(IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=group))  # type: ignore[attr-defined]


def _tile_int4(variant: TileInt4Variant) -> TorchAoConfig:
    from torchao.quantization import Int4WeightOnlyConfig

    return TorchAoConfig(
        Int4WeightOnlyConfig(
            group_size=variant.group_size,
            int4_packing_format="tile_packed_to_4d",
            # How others compile is theirs to say.
            set_inductor_config=False,
        )
    )


def _format(variant: FormatVariant) -> TorchAoConfig:
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Int8DynamicActivationInt8WeightConfig,
        PerRow,
    )

    if FORMATS[variant.format].weights.grid == "INT8 symmetric":
        return TorchAoConfig(Int8DynamicActivationInt8WeightConfig(set_inductor_config=False))
    return TorchAoConfig(
        Float8DynamicActivationFloat8WeightConfig(granularity=PerRow(), set_inductor_config=False)
    )


def _four_bit(variant: FourBitVariant) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=variant.quantization_type,
        bnb_4bit_use_double_quant=variant.double_quantization,
    )


def _require_packages(location: ModelLocation, variant: Variant) -> None:
    """Refuses a variant whose quantizer cannot be imported.

    Raises:
        CannotLoadError: one is missing or broken; says what to install.
    """
    for module in needed_modules(variant, location):
        try:
            importlib.import_module(module)
        except (ImportError, OSError, RuntimeError) as error:
            reason = first_line(error)
            raise CannotLoadError(package_problem(variant, module, reason)) from None


# What to do about weights beyond the range of float16, and of kinds that cannot do that.
_BEYOND_FLOAT16 = "take bf16 or fp32"
_BEYOND_FLOAT16_OF: dict[VariantKind, str] = {
    "checkpoint": "say a dtype of bfloat16 in its config.json",
    "gguf": "beside another model such a file is expanded to float16: name it as --model, with "
    "--variants bf16 or fp32",
}
# By kind of variant that is no GGUF file: what transformers is told to quantize with, if at all.
QUANTIZATION: dict[VariantKind, Callable[[Any], Any]] = {
    "plain": _no_quantization,
    "llm-int8": _int8,
    "4-bit": _four_bit,
    "torchao": _torchao,
    "torchao-tile": _tile_int4,
    "format": _format,
    "adapter": _no_quantization,
    # Its own configuration says how, and it was done already.
    "checkpoint": _no_quantization,
}
