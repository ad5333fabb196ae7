"""Formats that are served, as plain data: what is rounded, to which grid, by which scale.

The grids are those of `orchestrator.contract.grids`, which an audit reads backwards.
"""

from dataclasses import dataclass
from typing import Literal

# How the scale of a block is made of its largest magnitude, and kept: divided by the largest level
# and kept in float32; as a power of two, of the magnitude rounded to the grid's own digits, or up
# from that division; as an E4M3 number times a float32 one of the tensor, or of the row.
ScaleRule = Literal[
    "float32",
    "power of two, to even",
    "power of two, up",
    "E4M3 times the tensor's",
    "E4M3 times the row's",
]
GridName = Literal["INT8 symmetric", "FP8 E4M3", "FP4 E2M1"]


@dataclass(frozen=True)
class Rounding:
    """How numbers are rounded along the last dimension of a tensor.

    Attributes:
        grid: the levels, times a scale.
        block: so many neighbours share a scale; None: all of a row.
        scale: how it is made and kept.
    """

    grid: GridName
    block: int | None
    scale: ScaleRule


@dataclass(frozen=True)
class Format:
    """A format of linear layers; the output head is left alone.

    Attributes:
        weights: rows are output channels.
        activations: of the inputs of a layer, whose rows are tokens; None: not rounded.
        bits: of a weight.
        scale_bits: of each scale.
        weights_dtype: of all that is not quantized.
        by_torchao: whether torchao multiplies it, where a device has the kernel.
        capability: what a GPU must have for that, in that dtype; None: any device has it.
        source: where it is defined.
    """

    name: str
    weights: Rounding
    activations: Rounding | None
    bits: int
    scale_bits: int
    source: str
    weights_dtype: Literal["float16", "bfloat16"] = "float16"
    by_torchao: bool = False
    capability: tuple[int, int] | None = None

    def bytes_of(self, rows: int, columns: int) -> int | None:
        """What weights `[rows, columns]` take, scales included; None where blocks do not divide a
        row, which is then left as it is.
        """
        block = self.weights.block or columns
        if columns % block:
            return None
        scales = rows * columns // block * self.scale_bits
        of_tensor = 32 if self.weights.scale == "E4M3 times the tensor's" else 0
        return -(-(rows * columns * self.bits + scales + of_tensor) // 8)


_OCP = "OCP Microscaling Formats 1.0"
_NVIDIA = "NVIDIA, Introducing NVFP4 (2025); torchao's nvfp4_quantize"
_FP8 = Rounding("FP8 E4M3", None, "float32")
_INT8 = Rounding("INT8 symmetric", None, "float32")
_MXFP4 = Rounding("FP4 E2M1", 32, "power of two, to even")
_MXFP8 = Rounding("FP8 E4M3", 32, "power of two, up")
_NVFP4 = Rounding("FP4 E2M1", 16, "E4M3 times the tensor's")
_NVFP4_OF_TOKENS = Rounding("FP4 E2M1", 16, "E4M3 times the row's")

FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        # torchao's kernel multiplies rows of bfloat16 alone.
        Format(
            "fp8",
            _FP8,
            _FP8,
            bits=8,
            scale_bits=32,
            source="arXiv 2209.05433; FP8 dynamic of vLLM and llm-compressor",
            weights_dtype="bfloat16",
            by_torchao=True,
            capability=(8, 9),
        ),
        # torchao keeps a byte for a zero beside each scale.
        Format(
            "w8a8",
            _INT8,
            _INT8,
            bits=8,
            scale_bits=32 + 8,
            source="INT8 dynamic of vLLM and llm-compressor",
            by_torchao=True,
        ),
        Format("mxfp4", _MXFP4, None, 4, 8, _OCP),
        Format("mxfp4-a8", _MXFP4, _MXFP8, 4, 8, _OCP),
        Format("mxfp4-a4", _MXFP4, _MXFP4, 4, 8, _OCP),
        Format("mxfp8", _MXFP8, None, 8, 8, _OCP),
        Format("mxfp8-a8", _MXFP8, _MXFP8, 8, 8, _OCP),
        Format("nvfp4", _NVFP4, None, 4, 8, _NVIDIA),
        Format("nvfp4-a4", _NVFP4, _NVFP4_OF_TOKENS, 4, 8, _NVIDIA),
    )
}
