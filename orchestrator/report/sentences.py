"""Cells → sentences. A difference is claimed only where it is significant."""

from orchestrator.comparison_json import Comparison, NoiseFloor, Pair
from orchestrator.report import formats


def of_pair(pair: Pair, comparison: Comparison) -> str:
    """Which of two candidates is closer to the reference, if these windows can tell."""
    if pair.p_value_holm is None or pair.kl_difference.value is None:
        return f"{pair.a} and {pair.b}: one window cannot tell them apart."
    p_value = formats.p_value(pair.p_value_holm)
    p = f"p < {p_value[1:]}" if p_value.startswith("<") else f"p = {p_value}"
    if not pair.significant:
        return (
            f"{pair.a} and {pair.b}: over these windows, neither is shown to be closer to "
            f"{comparison.reference} ({p})."
        )
    a_is_closer = pair.kl_difference.value < 0
    closer, further = (pair.a, pair.b) if a_is_closer else (pair.b, pair.a)
    difference = formats.small(formats.positive(pair.kl_difference))
    return (
        f"{closer} is closer to {comparison.reference} than {further}: its mean KL is "
        f"{difference} nats lower ({p})."
    )


def of_noise_floor(floor: NoiseFloor, comparison: Comparison) -> str:
    """What the floor is, and which variants do not rise above it."""
    names = [
        name
        for name, figures in comparison.variants.items()
        if figures.kl is not None and figures.kl.indistinguishable
    ]
    verdict = (
        f"That holds for {', '.join(names)}." if names else "That holds for none of the variants."
    )
    return (
        f"The noise floor is {floor.how}. A mean KL of up to {floor.factor:g} times it, or of up "
        f"to {floor.resolution:f} nats, is indistinguishable from another order of the same "
        f"arithmetic. {verdict}"
    )
