"""What a variant's weights show of quantization before the run."""

from pydantic import Field

from orchestrator.comparison_schema.measure_fields import Part


class Integrity(Part):
    """What an audit by sample says of the weights that a variant is made of, as their files have
    them: before they are quantized here.
    """

    verdict: str = Field(
        description="no trace of quantization, on a grid, natively quantized, mixed, quantized as "
        "declared, or cannot tell"
    )
    once_quantized: bool = Field(
        description="whether they are quantized, or were, and their files do not say so"
    )
    said: str = Field(description="the verdict in a sentence")
    grid: str | None = Field(description="of most of the weights, in words; null where none")
    family: str | None = Field(description="the grid's levels; null where none")
    block: int | str | None = Field(
        description="weights that share a scale: so many, row, column, tensor or a tile; null "
        "where it cannot be told"
    )
    bits: int | None = Field(description="of a weight on the grid; null where none")
    log10_p: float | None = Field(
        description="of a bound of the chance that weights in random order show as little; null "
        "where random order shows it as well"
    )
    linear_weights: int = Field(description="tensors that the verdict is of")
    quantized_share: float | None = Field(
        description="of them on a grid, or quantized as their files say; null where there are none"
    )
    findings: list[str] = Field(description="what else the weights show")
