"""The variants that a model can be run as. A variant is data: a new one is one entry here.

A new kind is a class here, and what it takes and how it is loaded: an entry each in the tables
`orchestrator.planning.sizes.HELD_BYTES` and `actors.loading.QUANTIZATION`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from orchestrator.contract.formats import FORMATS
from orchestrator.contract.frozen import Frozen
from orchestrator.contract.noise import Noise

DtypeName = Literal["float32", "float16", "bfloat16"]

VariantKind = Literal[
    "plain",
    "llm-int8",
    "4-bit",
    "torchao",
    "torchao-tile",
    "format",
    "checkpoint",
    "adapter",
    "gguf",
]

# What files call them; and as what the plain numbers of a file are read.
FILE_DTYPES: dict[DtypeName, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
READ_AS: dict[str, DtypeName] = {
    **{called: dtype for dtype, called in FILE_DTYPES.items()},
    "F64": "float32",
}

DTYPE_BYTES: dict[DtypeName, int] = {"float32": 4, "float16": 2, "bfloat16": 2}


# Of checkpoints: methods that quantize nothing but weights.
_WEIGHT_ONLY = frozenset({None, "awq", "gptq"})


class _Variant(Frozen):
    """One way to hold a model's weights.

    Attributes:
        name: what the user calls it.
        weights_dtype: the dtype of every weight that is not quantized.
        noise: what is added to the weights before they are quantized; None for nothing, of which
            no identity then says a word.
    """

    name: str
    weights_dtype: DtypeName
    noise: Noise | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_not(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        if fields.get("noise") is None:
            fields.pop("noise", None)
        return fields

    @property
    def tokens_are_independent(self) -> bool:
        """Whether what a token gives is, rounding apart, the same whatever else is in a batch."""
        return True

    @property
    def is_held_plain(self) -> bool:
        """Whether all its weights are plain numbers once it is loaded."""
        return False

    @property
    def block(self) -> int | None:
        """Of how many neighbours whole blocks must make a row of weights, or it is left as it is;
        None where any row will do.
        """
        return None


class _HeldPlain(_Variant):
    @property
    def is_held_plain(self) -> bool:
        """They are."""
        return True


class PlainVariant(_HeldPlain):
    """Every weight cast to one dtype."""

    kind: Literal["plain"] = "plain"


class Int8Variant(_Variant):
    """Linear layers in 8 bits by LLM.int8 (Dettmers et al., 2022), through bitsandbytes."""

    kind: Literal["llm-int8"] = "llm-int8"

    @property
    def tokens_are_independent(self) -> bool:
        """No: it chooses the columns that it keeps in half precision over the whole batch."""
        return False


class FourBitVariant(_Variant):
    """Linear layers in blocks of 4 bits (QLoRA, Dettmers et al., 2023), through bitsandbytes."""

    kind: Literal["4-bit"] = "4-bit"
    quantization_type: Literal["nf4", "fp4"]
    double_quantization: bool = False


class TorchaoVariant(_Variant):
    """Linear layers with weights in 8 or 4 bits, multiplied in 16, through torchao."""

    kind: Literal["torchao"] = "torchao"
    bits: Literal[8, 4]
    group_size: int | None = None


class TileInt4Variant(_Variant):
    """Linear layers in groups of 4-bit weights with a scale and an offset each, through torchao, in
    the tiles that its kernel multiplies in bfloat16.

    Where a device has no such kernel, weights are rounded alike and held in the dtype of the rest.
    """

    kind: Literal["torchao-tile"] = "torchao-tile"
    group_size: int

    @property
    def block(self) -> int:
        """A group."""
        return self.group_size

    @property
    def capability(self) -> tuple[int, int]:
        """What a GPU must have that multiplies it."""
        return 8, 0


class FormatVariant(_Variant):
    """Linear layers in a format that is served, of `orchestrator.contract.formats`.

    Multiplied by a kernel where a device has one; else rounded alike, and held in the dtype of the
    rest.
    """

    kind: Literal["format"] = "format"
    format: str

    @property
    def block(self) -> int | None:
        """The format's."""
        return FORMATS[self.format].weights.block


class CheckpointVariant(_Variant):
    """Weights as a checkpoint of their own holds them: quantized by whoever made it.

    Attributes:
        method: what its configuration calls the way that it is quantized; None for original
            weights.
    """

    kind: Literal["checkpoint"] = "checkpoint"
    method: str | None

    @property
    def tokens_are_independent(self) -> bool:
        """Where nothing but weights is quantized: activations may have one scale for a batch."""
        return self.method in _WEIGHT_ONLY

    @property
    def is_held_plain(self) -> bool:
        """Where they are the original ones."""
        return self.method is None


class AdapterVariant(_HeldPlain):
    """The model with an adapter merged into its weights, in float32."""

    kind: Literal["adapter"] = "adapter"


class GgufVariant(_HeldPlain):
    """Weights of a GGUF file, expanded when they are loaded.

    Attributes:
        method: the types of its quantized tensors, with how many; None for plain numbers.
    """

    kind: Literal["gguf"] = "gguf"
    method: str | None


Variant = Annotated[
    PlainVariant
    | Int8Variant
    | FourBitVariant
    | TorchaoVariant
    | TileInt4Variant
    | FormatVariant
    | CheckpointVariant
    | AdapterVariant
    | GgufVariant,
    Field(discriminator="kind"),
]

_MADE_HERE: tuple[Variant, ...] = (
    PlainVariant(name="fp32", weights_dtype="float32"),
    PlainVariant(name="fp16", weights_dtype="float16"),
    PlainVariant(name="bf16", weights_dtype="bfloat16"),
    Int8Variant(name="int8", weights_dtype="float16"),
    FourBitVariant(name="nf4", weights_dtype="float16", quantization_type="nf4"),
    FourBitVariant(
        name="nf4-dq",
        weights_dtype="float16",
        quantization_type="nf4",
        double_quantization=True,
    ),
    FourBitVariant(name="fp4", weights_dtype="float16", quantization_type="fp4"),
    TorchaoVariant(name="torchao-int8", weights_dtype="float16", bits=8),
    TorchaoVariant(name="torchao-int4", weights_dtype="float16", bits=4, group_size=32),
    TileInt4Variant(name="torchao-int4-tile", weights_dtype="bfloat16", group_size=128),
    *(
        FormatVariant(name=name, weights_dtype=form.weights_dtype, format=name)
        for name, form in FORMATS.items()
    ),
)
VARIANTS: dict[str, Variant] = {variant.name: variant for variant in _MADE_HERE}
# Those whose quantizer rounds weights to cells.
CELLED = tuple(
    name for name, variant in VARIANTS.items() if variant.kind not in ("plain", "format")
)
