"""torchao's 4-bit weights in the tiles that its kernel reads, and the same rounding without one.

The format is that of `Int4WeightOnlyConfig(int4_packing_format="tile_packed_to_4d")`: of each group
of weights a scale and a middle in bfloat16, `weight = (code - 8) · scale + middle`.
"""

from typing import Any

import torch

# What the kernel is written for.
_CAPABILITY = (8, 0)
_CODES, _MIDDLE = 15, 8


def has_kernel(device: torch.device) -> bool:
    """Whether a device can multiply tiles."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _CAPABILITY


def emulate(model: Any, group_size: int) -> None:
    """Rounds what torchao would quantize: linear layers but the head, of whole groups."""
    head = model.get_output_embeddings()
    for module in model.modules():
        if type(module) is not torch.nn.Linear or module is head:
            continue
        if module.in_features % group_size == 0:
            module.weight.data = rounded(module.weight.data, group_size)


def rounded(weights: torch.Tensor, group_size: int) -> torch.Tensor:
    """Weights `[out, in]` as the kernel expands them, bfloat16.

    Each operation rounds to bfloat16 as torchao's do, but for the last: the kernel multiplies and
    adds at once.
    """
    groups = weights.to(torch.bfloat16).reshape(-1, group_size)
    least, most = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
    scale = ((most - least) / _CODES).clamp(min=torch.finfo(torch.bfloat16).smallest_normal)
    middle = least + scale * _MIDDLE
    codes = ((groups - (middle - scale * _MIDDLE)) / scale).round().clamp(0, _CODES)
    expanded = (codes.float() - _MIDDLE) * scale.float() + middle.float()
    return expanded.to(torch.bfloat16).reshape(weights.shape)
