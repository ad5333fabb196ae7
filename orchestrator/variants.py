"""The variants that a model can be run as. A variant is data: a new one is one entry here."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

DtypeName = Literal["float32", "float16", "bfloat16"]

DTYPE_BYTES: dict[str, int] = {"float32": 4, "float16": 2, "bfloat16": 2}


class Variant(BaseModel):
    """One way to hold a model's weights.

    Attributes:
        name: what the user calls it.
        kind: which loader makes it: `plain` casts, `bitsandbytes` quantizes linear layers.
        weights_dtype: the dtype of every weight that is not quantized.
        options: the loader's own options, passed to `BitsAndBytesConfig` as they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["plain", "bitsandbytes"]
    weights_dtype: DtypeName
    options: dict[str, bool | str] = {}


def _four_bit(name: str, quantization_type: str, double_quantization: bool = False) -> Variant:
    return Variant(
        name=name,
        kind="bitsandbytes",
        weights_dtype="float16",
        options={
            "load_in_4bit": True,
            "bnb_4bit_quant_type": quantization_type,
            "bnb_4bit_use_double_quant": double_quantization,
        },
    )


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant(name="fp32", kind="plain", weights_dtype="float32"),
        Variant(name="fp16", kind="plain", weights_dtype="float16"),
        Variant(name="bf16", kind="plain", weights_dtype="bfloat16"),
        Variant(
            name="int8",
            kind="bitsandbytes",
            weights_dtype="float16",
            options={"load_in_8bit": True},
        ),
        _four_bit("nf4", "nf4"),
        _four_bit("nf4-dq", "nf4", double_quantization=True),
        _four_bit("fp4", "fp4"),
    )
}
