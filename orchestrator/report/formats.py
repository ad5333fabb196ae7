"""A cell → its text. Every renderer writes figures through these."""

from orchestrator.comparison_json import Compared, Measure
from orchestrator.units import binary_size

ABSENT = "–"


def measure(figure: Measure, digits: int = 2) -> str:
    """A figure with the half-width of its 95% interval: `12.34 ± 0.05`."""
    if figure.value is None:
        return ABSENT
    if figure.interval95 is None:
        return f"{figure.value:.{digits}f}"
    half = (figure.interval95[1] - figure.interval95[0]) / 2
    return f"{figure.value:.{digits}f} ± {half:.{digits}f}"


def change(figure: Compared, digits: int = 2) -> str:
    """The change against the reference with its 95% interval: `+1.20% [+1.00, +1.40]`."""
    if figure.delta_pct is None:
        return ABSENT
    text = f"{_signed(figure.delta_pct, digits)}%"
    if figure.delta_pct_interval95 is None:
        return text
    low, high = figure.delta_pct_interval95
    return f"{text} [{_signed(low, digits)}, {_signed(high, digits)}]"


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
