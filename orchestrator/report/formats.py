"""A cell → its text. Every renderer writes figures through these."""

import math

from orchestrator.comparison_json import Compared, KLDivergence, Measure
from orchestrator.units import binary_size

ABSENT = "–"
# Behind the point: below a millionth of a nat float32 itself is not exact.
_MOST_DIGITS = 7


def measure(figure: Measure, digits: int = 2) -> str:
    """A figure with the half-width of its 95% interval: `12.34 ± 0.05`."""
    if figure.value is None:
        return ABSENT
    if figure.interval95 is None:
        return f"{figure.value:.{digits}f}"
    return f"{figure.value:.{digits}f} ± {_half_width(figure):.{digits}f}"


def change(figure: Compared, digits: int = 2) -> str:
    """The change against the reference with its 95% interval: `+1.20% [+1.00, +1.40]`."""
    if figure.delta_pct is None:
        return ABSENT
    text = f"{_signed(figure.delta_pct, digits)}%"
    if figure.delta_pct_interval95 is None:
        return text
    low, high = figure.delta_pct_interval95
    return f"{text} [{_signed(low, digits)}, {_signed(high, digits)}]"


def kl(figure: KLDivergence | None) -> str:
    """The mean KL in nats, to the digits that its interval warrants: `0.031 ± 0.002`."""
    return ABSENT if figure is None else small(figure.mean)


def small(figure: Measure | None) -> str:
    """A figure of any size with the half-width of its interval, to the first digit of that."""
    if figure is None or figure.value is None:
        return ABSENT
    scale = _half_width(figure) or abs(figure.value)
    digits = math.ceil(-math.log10(scale)) if scale else 2
    return measure(figure, max(0, min(digits, _MOST_DIGITS)))


def percent(figure: Measure | None, digits: int = 2) -> str:
    """A share with the half-width of its interval: `97.12 ± 0.20%`."""
    if figure is None or figure.value is None:
        return ABSENT
    half = _half_width(figure)
    spread = "" if half is None else f" ± {100 * half:.{digits}f}"
    return f"{100 * figure.value:.{digits}f}{spread}%"


def significant(value: float | None, digits: int = 3) -> str:
    """A plain number to so many digits that are not leading zeros."""
    return ABSENT if value is None else f"{value:#.{digits}g}"


def _half_width(figure: Measure) -> float | None:
    return None if figure.interval95 is None else (figure.interval95[1] - figure.interval95[0]) / 2


def _signed(value: float, digits: int) -> str:
    # Adding zero turns the "-0.0" that rounding leaves into "+0.0".
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def size(count: int | None) -> str:
    """Bytes, as the binary unit that a person would use."""
    return ABSENT if count is None else binary_size(count)


def times(factor: float | None) -> str:
    """A factor: `3.26` and a multiplication sign."""
    return ABSENT if factor is None else f"{factor:.2f}×"


def share(part: int, whole: int) -> str:
    """A count of a whole: `23/24`."""
    return f"{part}/{whole}"
