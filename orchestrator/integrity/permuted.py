"""Groups whose weights are no neighbours: GPTQ orders columns by their activations first.

Columns of one group share a scale in every row, so that their weights stand to each other as small
whole numbers, row by row; those of other groups do so by chance alone.
"""

import numpy as np

from orchestrator.contract.grids import GRIDS, Grid
from orchestrator.integrity.axes import ON_GRID_SHARE
from orchestrator.integrity.fitting import Fit, fit
from orchestrator.integrity.rounding import Rounding, Values

# Up to 4 bits; more leave too many ratios.
_MOST_STEPS = 15
_GRIDS = tuple(g for g in GRIDS if g.name.startswith("INT") and g.bits <= 4)
# Of rows, that a column of the same group agrees in.
_AGREEMENT = 0.97
_LEAST_ROWS, _LEAST_COLUMNS = 24, 15
_ANCHORS = 4
# Of the weights of a row in a group: columns that are one another's multiples tell less.
_ROW_LOG10_CHANCE = -2.0


def find_permuted(rows: Values, rounding: Rounding) -> tuple[Grid, Fit] | None:
    """Finds columns that share a scale in every row.

    Args:
        rows: of shape (rows, columns).

    Returns:
        The grid of some group, and how its weights lie on it: a block a row; None where there is
        none.
    """
    if len(rows) < _LEAST_ROWS:
        return None
    fullest = np.argsort((rows == 0).sum(0), kind="stable")
    for anchor in fullest[:: max(1, len(fullest) // 2 // _ANCHORS)][:_ANCHORS]:
        group = rows[:, _agreeing(rows, anchor, rounding)]
        if group.shape[1] < _LEAST_COLUMNS:
            continue
        for grid in _GRIDS:
            found = fit(group, grid, rounding)
            is_sure = found.total_log10_chance <= _ROW_LOG10_CHANCE * len(rows)
            if found.share >= ON_GRID_SHARE and is_sure:
                return grid, found
    return None


def _agreeing(rows: Values, anchor: int, rounding: Rounding) -> np.ndarray:
    """Which columns stand to one as whole numbers up to `_MOST_STEPS` in nearly every row."""
    used = rows[rows[:, anchor] != 0]
    of_anchor = used[:, anchor, None]
    ratios = np.abs(used / of_anchor)
    error = rounding.spacing(used) / np.maximum(np.abs(used), 1e-300)
    allowed = ratios * (error + error[:, anchor, None]) / 2 + 1e-12
    agrees = used == 0
    for steps in range(1, _MOST_STEPS + 1):
        whole = np.rint(ratios * steps)
        agrees |= (np.abs(ratios - whole / steps) <= allowed) & (whole <= _MOST_STEPS)
    return np.asarray(agrees.mean(0) >= _AGREEMENT)
