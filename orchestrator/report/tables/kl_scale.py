"""A scale to read a mean KL by: what formats that everybody knows have, as others measured them."""

from collections.abc import Mapping

# Of Llama 3 8B beside its FP16 over WikiText-2's test split, without importance matrices, in nats.
KL_OF_FORMATS: Mapping[str, float] = {
    "Q8_0": 0.001355,
    "Q6_K": 0.005452,
    "Q5_K_M": 0.010762,
    "Q4_K_M": 0.031273,
    "Q3_K_M": 0.101913,
    "Q2_K": 0.445132,
}
SOURCE = "https://github.com/ggml-org/llama.cpp/blob/master/tools/perplexity/README.md"


def place_of(mean_kl: float) -> str:
    """Between which of these formats a mean KL lies: `between Q8_0 and Q6_K`."""
    below = [name for name, kl in KL_OF_FORMATS.items() if kl <= mean_kl]
    above = [name for name, kl in KL_OF_FORMATS.items() if kl > mean_kl]
    if not below:
        return f"less than {above[0]}"
    return f"between {below[-1]} and {above[0]}" if above else f"more than {below[-1]}"
