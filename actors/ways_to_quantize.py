"""Ways to quantize weights and expand them again: by the library that defines the format where it
runs on a CPU, else written out from the format's definition.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from actors import library_quantizers as library
from actors import plain_quantizers as plain
from actors.plain_quantizers import Matrix
from orchestrator.contract.requantization import NESTED_BLOCK, Facts

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Way:
    """A way to quantize.

    Attributes:
        of_lines: float32 weights `[lines, weights of a line]` of a tensor → the same, quantized and
            expanded.
        family, block, name: what an audit says of them; a name is one of several at most.
        blocks_of: the number of weights that a line must be a multiple of.
        needs: the module that quantizes, where that is neither numpy nor torch.
    """

    of_lines: Callable[[Matrix, Facts], Matrix]
    family: str
    block: int | str | None
    name: str | None = None
    blocks_of: int = 1
    needs: str | None = None

    def make(self, weights: Matrix) -> Matrix:
        """The same of a whole tensor `[out, in]`."""
        return self.of_lines(weights, Facts.of([weights]))


def kept_as(weights: Matrix, dtype: str) -> Matrix:
    """The same, rounded to a dtype."""
    found = torch.from_numpy(np.ascontiguousarray(weights)).to(DTYPES[dtype]).float().numpy()
    return np.asarray(found, np.float32)


def _alone(make: Callable[..., Matrix], **options: Any) -> Callable[[Matrix, Facts], Matrix]:
    """One that needs to know nothing of the rest of the tensor."""
    return lambda weights, _: make(weights, **options)


def _with_largest(make: Callable[..., Matrix], **options: Any) -> Callable[[Matrix, Facts], Matrix]:
    """One whose scale is of the whole tensor."""
    return lambda weights, facts: make(weights, facts.largest, **options)


def _nested(weights: Matrix, facts: Facts) -> Matrix:
    return library.nested_4bit(weights, facts.mean_largest, kind="nf4", block=NESTED_BLOCK)


_ROW = "row"

WAYS: dict[str, Way] = {
    **{
        f"INT{bits} by {group or 'row'}": Way(
            _alone(plain.symmetric, bits=bits, group=group),
            f"INT{bits} symmetric",
            group or _ROW,
            "W8A8" if (bits, group) == (8, None) else None,
            group or 1,
        )
        for bits in (2, 3, 4, 5, 6, 8)
        for group in (32, 64, 128, None)
    },
    **{
        f"INT{bits} with zero-points by {group or 'row'}": Way(
            _alone(plain.with_zero_points, bits=bits, group=group),
            f"INT{bits} affine",
            group or _ROW,
            None,
            group or 1,
        )
        for bits in (3, 4, 8)
        for group in (32, 64, 128, None)
    },
    "INT4 from a minimum by 64": Way(
        _alone(plain.from_minimum, bits=4, group=64), "INT4 affine", 64, None, 64
    ),
    "INT8 by tensor": Way(_with_largest(plain.by_tensor), "INT8 symmetric", "tensor"),
    "LLM.int8": Way(
        _alone(library.llm_int8), "INT8 symmetric", _ROW, "LLM.int8", needs="bitsandbytes"
    ),
    "torchao int8": Way(
        _alone(library.torchao, bits=8), "INT8 symmetric", _ROW, "torchao int8", needs="torchao"
    ),
    "torchao int4": Way(
        _alone(library.torchao, bits=4), "INT4 symmetric", 32, None, 32, needs="torchao"
    ),
    **{
        f"{kind.upper()} by {block}": Way(
            _alone(library.bitsandbytes_4bit, kind=kind, block=block),
            kind.upper(),
            block,
            f"bitsandbytes {kind.upper()}",
            needs="bitsandbytes",
        )
        for kind, block in (("nf4", 64), ("nf4", 128), ("fp4", 64))
    },
    "NF4 by 64, nested": Way(
        _nested,
        "NF4",
        64,
        "bitsandbytes NF4",
        needs="bitsandbytes",
    ),
    **{
        kind: Way(_alone(library.ggml, kind=kind), family, 32, kind, 32, needs="gguf")
        for kind, family in (
            ("Q4_0", "INT4 symmetric"),
            ("Q4_1", "INT4 affine"),
            ("Q5_0", "INT5 symmetric"),
            ("Q5_1", "INT5 affine"),
            ("Q8_0", "INT8 symmetric"),
        )
    },
    **{
        f"Q{bits}_K": Way(
            _alone(plain.k_quant, bits=bits, block=block, scale_bits=scale_bits),
            f"INT{bits} affine",
            block,
            f"Q{bits}_K",
            256,
        )
        for bits, block, scale_bits in ((2, 16, 4), (4, 32, 6), (5, 32, 6))
    },
    **{
        f"Q{bits}_K": Way(
            _alone(plain.signed_k_quant, bits=bits, scale_bits=scale_bits),
            f"INT{bits} symmetric",
            16,
            f"Q{bits}_K",
            256,
        )
        for bits, scale_bits in ((3, 6), (6, 8))
    },
    "IQ4_NL": Way(_alone(plain.iq4_nl), "IQ4_NL", 32, "IQ4_NL", 32),
    "IQ4_XS": Way(_alone(plain.iq4_xs), "IQ4_NL", 32, "IQ4_XS", 256),
    "MXFP4": Way(_alone(plain.mxfp4), "FP4 E2M1", 32, "MXFP4", 32),
    "NVFP4": Way(_with_largest(plain.nvfp4), "FP4 E2M1", 16, "NVFP4", 16),
    **{
        f"FP8 {kind} by {by}": Way(
            _with_largest(plain.fp8, dtype=dtype, by=by), f"FP8 {kind}", block, name, blocks_of
        )
        for kind, dtype in (("E4M3", torch.float8_e4m3fn), ("E5M2", torch.float8_e5m2))
        for by, block, name, blocks_of in (
            ("tensor", "tensor", None, 1),
            ("row", _ROW, None, 1),
            ("tile", "128x128", None, 128),
            ("mx", None, f"MXFP8 {kind}", 32),
        )
    },
}
