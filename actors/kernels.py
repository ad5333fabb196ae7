"""What multiplies a model's weights on its device."""

from collections import Counter
from typing import Any

import torch

from orchestrator.contract.variants import Variant

# Names of layers that multiply: `Linear`, `Linear8bitLt`, GPT-2's `Conv1D`, others' `…QuantLinear`.
_LINEAR = ("Linear", "Linear4bit", "Linear8bitLt", "Conv1D")


def kernel_of(model: Any, variant: Variant, device: torch.device) -> str | None:
    """What multiplies a model's quantized weights, where that is not the quantizer's own kernel."""
    dtype = str(model.config.dtype).removeprefix("torch.")
    kept = getattr(model.config, "quantization_config", None)
    if variant.kind in ("torchao-tile", "format") and kept is None:
        return f"emulated: rounded as the format has it, multiplied by torch in {dtype}"
    if variant.kind == "checkpoint" and variant.method is not None and kept is None:
        # As transformers does with formats that this device has no kernel for.
        return f"weights expanded to {dtype} when loaded, activations not rounded"
    if device.type == "cpu" and any(hasattr(m, "quant_state") for m in model.modules()):
        return f"4-bit weights expanded to {dtype} and multiplied by torch"
    return None


def linear_of(model: Any) -> str | None:
    """What most of a model's linear layers are, the head apart: a package and a class.

    That of the weight where it is a tensor of its own kind, which then multiplies; else that of the
    layer. None where there is none that is called so.
    """
    head = model.get_output_embeddings()
    kinds = Counter(
        _kind_of(module)
        for module in model.modules()
        if module is not head and type(module).__name__.endswith(_LINEAR)
    )
    most = kinds.most_common(1)
    return most[0][0] if most else None


def _kind_of(module: Any) -> str:
    weight = getattr(module, "weight", None)
    kind = type(weight) if hasattr(weight, "__tensor_flatten__") else type(module)
    return f"{kind.__module__.partition('.')[0]} {kind.__name__}"
