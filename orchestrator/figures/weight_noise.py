"""A variant's tables → what was added to its weights before they were quantized."""

import json

from orchestrator.comparison_schema import WeightNoise
from orchestrator.contract.variant_names import read_words
from orchestrator.figures.variant_tables import VariantTables


def weight_noise_of(variant: VariantTables) -> WeightNoise | None:
    """What was added; None where nothing was."""
    noise = json.loads(variant.row["options"]).get("noise")
    if noise is None:
        return None
    return WeightNoise(
        base=read_words(variant.name).base,
        unit=noise["unit"],
        sigma=noise["sigma"],
        seed=noise["seed"],
        standard_deviation=variant.loading.get("noise_sigma"),
        codes_changed_share=variant.loading.get("codes_changed_share"),
    )
