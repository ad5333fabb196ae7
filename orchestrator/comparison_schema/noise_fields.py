"""What was added to a variant's weights before they were quantized."""

from pydantic import Field

from orchestrator.comparison_schema.measure_fields import Part


class WeightNoise(Part):
    """Gaussian noise in the weights that a quantizer takes."""

    base: str = Field(description="the variant without it")
    unit: str = Field(
        description="abs, or the variant half the width of whose cells is the unit: of a tensor "
        "the median over its weights"
    )
    sigma: float = Field(description="standard deviation, in units")
    seed: int
    standard_deviation: float | None = Field(
        description="the same in the weights' own unit, root mean square over them; null where it "
        "is not loaded yet"
    )
    codes_changed_share: float | None = Field(
        description="of these weights, those that are rounded to another level than without it; "
        "null where nothing rounds them"
    )
