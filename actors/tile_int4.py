"""torchao's 4-bit weights in the tiles that its kernel reads, and the same rounding without one.

The format is that of `Int4WeightOnlyConfig(int4_packing_format="tile_packed_to_4d")`: of each group
of weights a scale and a middle in bfloat16, `weight = (code - 8) · scale + middle`.
"""

import torch

_CODES, _MIDDLE = 15, 8


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
