"""Ways to quantize that an audit must see, and weights that lie the other way round."""

from dataclasses import replace

import numpy as np

from actors.plain_quantizers import Matrix, with_zero_points
from actors.ways_to_quantize import WAYS as KNOWN
from actors.ways_to_quantize import Way


def _permuted_groups(weights: Matrix, bits: int, group: int) -> Matrix:
    """GPTQ's with `desc_act`: columns are grouped in the order of their activations."""
    order = np.random.default_rng(7).permutation(weights.shape[1])
    found = np.empty_like(weights)
    found[:, order] = with_zero_points(weights[:, order], bits, group)
    return found


WAYS = {
    **KNOWN,
    "INT4, groups of 64 permuted": Way(
        lambda weights, _: _permuted_groups(weights, bits=4, group=64),
        "INT4 affine",
        None,
        None,
        64,
    ),
}


def turned(way: Way) -> Way:
    """A way of weights that lie the other way round, `[in, out]`."""
    return replace(
        way,
        block="column" if way.block == "row" else way.block,
        of_lines=lambda weights, facts: np.ascontiguousarray(
            way.of_lines(np.ascontiguousarray(weights.T), facts).T
        ),
    )
