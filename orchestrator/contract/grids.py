"""The grids that quantization rounds weights to, as plain data: read backwards by the audit.

A grid is its levels up to a scale, which a block of weights shares; an affine one has an offset,
too. What cannot be told apart by its levels is one grid here, whatever it is called elsewhere:
`PUBLISHED` says by what names a grid is known, by its block and by how its scales are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# What a scale's own value is kept as: any number, a number of few bits times one of a superblock,
# an FP8 number times one of the tensor, a power of two.
ScaleKind = Literal["free", "superblock", "fp8", "power of two"]
# Of weights that share a scale: so many neighbours along a row or column, all of it, or a tensor.
Block = int | Literal["row", "column", "tensor"]


@dataclass(frozen=True)
class Grid:
    """Levels that a block's weights are rounded to, times its scale.

    Attributes:
        bits: what a weight takes.
        levels: in rising order; of an affine grid 0, 1, ….
        tops: which magnitudes of levels the largest weight of a block may be (of an affine grid:
            how many steps a block may span); between whole ones where 16 bits leave a doubt.
        affine: whether a block has an offset beside its scale.
        signed_scale: up to which block a scale may be negative, as ggml's are; 0: never.
        source: where the levels are defined.
    """

    name: str
    bits: int
    levels: tuple[float, ...]
    tops: tuple[float, ...]
    source: str
    affine: bool = False
    signed_scale: int = 0

    @property
    def is_float(self) -> bool:
        """Whether its levels are those of a floating-point format, the same in every octave."""
        return self.name.startswith("FP8")

    @property
    def is_mirrored(self) -> bool:
        """Whether a weight's negative lies on it where the weight does, and is no evidence.

        Of 2 bits hardly anything but the sign is left to be seen.
        """
        levels = self.levels[1:]
        same = all(-level in levels for level in levels)
        return self.bits > 2 and (self.affine or same)


def _float_levels(exponent_bits: int, mantissa_bits: int, largest: float) -> tuple[float, ...]:
    """All values of a floating-point format with subnormals, infinities and NaN left out."""
    bias = 2 ** (exponent_bits - 1) - 1
    found = {0.0}
    for exponent in range(2**exponent_bits):
        for fraction in range(2**mantissa_bits):
            share = fraction / 2**mantissa_bits
            value = (
                share * 2.0 ** (1 - bias)
                if exponent == 0
                else (1 + share) * 2.0 ** (exponent - bias)
            )
            if value <= largest:
                found |= {value, -value}
    return tuple(sorted(found))


def _between(first: float, last: float, step: float = 1.0) -> tuple[float, ...]:
    return tuple(first + step * i for i in range(round((last - first) / step) + 1))


def _mirrored(levels: Sequence[float]) -> tuple[float, ...]:
    return tuple(sorted({sign * level for level in levels for sign in (-1.0, 1.0)}))


# The largest ggml block with a scale of either sign.
_GGML_BLOCK = 32
_INTEGERS = "rounding to whole steps; ggml's *_0 types divide by the largest weight, sign and all"
# How many steps the largest weight of a block may be, by bits. It is at the end of the range but
# where the scale is rounded or searched for after the codes (K-quants, importance matrices).
_TOPS: dict[int, tuple[float, ...]] = {
    2: _between(1, 2),
    3: _between(2, 4),
    4: _between(5, 8),
    5: _between(9, 16),
    6: _between(17, 32),
    7: _between(60, 64, 0.5),
    8: _between(125.75, 128.5, 0.25),
}
_SPANS: dict[int, tuple[float, ...]] = {
    2: _between(2, 3),
    3: _between(4, 7),
    4: _between(8, 15),
    5: _between(16, 31),
    6: _between(56, 63),
    7: _between(123, 127.5, 0.5),
    8: _between(252, 256, 0.25),
}


def _symmetric(bits: int) -> Grid:
    half = 2 ** (bits - 1)
    return Grid(
        name=f"INT{bits} symmetric",
        bits=bits,
        levels=_between(-half, half - 1),
        tops=_TOPS[bits],
        source=_INTEGERS,
        signed_scale=_GGML_BLOCK,
    )


def _affine(bits: int) -> Grid:
    return Grid(
        name=f"INT{bits} affine",
        bits=bits,
        levels=_between(0, 2**bits - 1),
        tops=_SPANS[bits],
        source="whole steps from a block's minimum or zero-point (GPTQ, AWQ, HQQ, ggml's *_1)",
        affine=True,
    )


# QLoRA (arXiv 2305.14314), appendix E: quantiles of a normal distribution.
_NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
_IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)

# Of two that hold the same weights the one of fewer bits is meant; of the same bits the first.
GRIDS: tuple[Grid, ...] = (
    *(_symmetric(bits) for bits in range(2, 9)),
    *(_affine(bits) for bits in range(2, 9)),
    Grid("NF4", 4, _NF4, (1.0,), "QLoRA (arXiv 2305.14314), appendix E"),
    Grid(
        "FP4",
        4,
        _mirrored([value / 12 for value in (0, 0.0625, 2, 3, 4, 6, 8, 12)]),
        (1.0,),
        "bitsandbytes' 4-bit float: two exponent bits, one of fraction, divided by 12",
    ),
    Grid(
        "IQ4_NL",
        4,
        tuple(map(float, _IQ4)),
        (127.0, 113.0, 104.0, 89.0),
        "ggml's kvalues_iq4nl",
        signed_scale=_GGML_BLOCK,
    ),
    Grid(
        "FP4 E2M1",
        4,
        _float_levels(2, 1, 6.0),
        (6.0, 4.0, 3.0),
        "OCP Microscaling Formats 1.0, section 5.3.3",
    ),
    Grid(
        "FP8 E5M2",
        8,
        _float_levels(5, 2, 57344.0),
        (32768.0, 40960.0, 49152.0, 57344.0),
        "arXiv 2209.05433",
    ),
    Grid(
        "FP8 E4M3",
        8,
        _float_levels(4, 3, 448.0),
        (240.0, *_between(256.0, 448.0, 32.0)),
        "arXiv 2209.05433",
    ),
)


@dataclass(frozen=True)
class Superblock:
    """Scales of small blocks, each a whole number times one scale of their superblock.

    Attributes:
        weights: in a superblock.
        levels, tops: as of a grid, of the scales.
    """

    grid: str
    block: int
    name: str
    weights: int
    levels: tuple[float, ...]
    tops: tuple[float, ...]


def _scales(grid: str, block: int, name: str, bits: int, *, signed: bool) -> Superblock:
    if not signed:
        last = 2.0**bits - 1
        return Superblock(grid, block, name, 256, _between(0, last), (last,))
    half = 2.0 ** (bits - 1)
    return Superblock(grid, block, name, 256, _between(-half, half), (half, half - 1))


# ggml's K-quants and IQ4_XS (ggml-quants.c): superblocks of 256 weights.
SUPERBLOCKS: tuple[Superblock, ...] = (
    _scales("INT2 affine", 16, "Q2_K", 4, signed=False),
    _scales("INT3 symmetric", 16, "Q3_K", 6, signed=True),
    _scales("INT4 affine", 32, "Q4_K", 6, signed=False),
    _scales("INT5 affine", 32, "Q5_K", 6, signed=False),
    _scales("INT6 symmetric", 16, "Q6_K", 8, signed=True),
    _scales("IQ4_NL", 32, "IQ4_XS", 6, signed=True),
)


@dataclass(frozen=True)
class Published:
    """What a grid is called where it is used; several names: they cannot be told apart.

    Attributes:
        block: None: of any.
    """

    grid: str
    scales: ScaleKind
    block: Block | None
    names: tuple[str, ...]


PUBLISHED: tuple[Published, ...] = (
    Published("INT8 symmetric", "free", "row", ("LLM.int8", "W8A8", "torchao int8")),
    Published("INT8 symmetric", "free", "column", ("LLM.int8", "W8A8", "torchao int8")),
    Published("INT4 symmetric", "free", 32, ("Q4_0", "INT4 by groups")),
    Published("INT5 symmetric", "free", 32, ("Q5_0", "INT5 by groups")),
    Published("INT8 symmetric", "free", 32, ("Q8_0", "INT8 by groups")),
    Published("INT4 affine", "free", 32, ("Q4_1", "INT4 by groups with zero-points")),
    Published("INT5 affine", "free", 32, ("Q5_1", "INT5 by groups with zero-points")),
    Published("IQ4_NL", "free", 32, ("IQ4_NL",)),
    Published("NF4", "free", None, ("bitsandbytes NF4",)),
    Published("FP4", "free", None, ("bitsandbytes FP4",)),
    Published("FP4 E2M1", "fp8", 16, ("NVFP4",)),
    Published("FP4 E2M1", "power of two", 32, ("MXFP4",)),
    Published(
        "FP8 E4M3", "power of two", None, ("MXFP8 E4M3", "FP8 E4M3 with scales of powers of two")
    ),
    Published(
        "FP8 E5M2", "power of two", None, ("MXFP8 E5M2", "FP8 E5M2 with scales of powers of two")
    ),
    *(Published(s.grid, "superblock", s.block, (s.name,)) for s in SUPERBLOCKS),
)


@dataclass(frozen=True)
class Native:
    """A family of models that is published quantized and has no finer original.

    Attributes:
        model_type: as configurations say it.
        source: who says so.
    """

    model_type: str
    grid: str
    block: Block | str
    source: str


NATIVE: tuple[Native, ...] = (
    Native("gpt_oss", "FP4 E2M1", 32, "OpenAI, gpt-oss model card (arXiv 2508.10925), section 2.1"),
    Native("deepseek_v3", "FP8 E4M3", "128x128", "DeepSeek-V3 (arXiv 2412.19437), section 3.3"),
)
