"""A cell → its text. Every renderer writes figures through these."""

import math
import re
from datetime import UTC, datetime

from orchestrator.comparison_schema import (
    Compared,
    KLDivergence,
    Measure,
    ProbabilityChange,
    Provenance,
    TokenMeasure,
)
from orchestrator.comparison_schema.measure_fields import FEWEST_PROMPTS
from orchestrator.gates.gate_measures import Unit
from orchestrator.gates.verdicts import GateResult
from orchestrator.printable import printable
from orchestrator.units import binary_size

ABSENT = "–"
# Of a change that nobody can tell from none.
TOO_FEW = "too few to tell"
# Behind the point: below a millionth of a nat float32 itself is not exact.
_MOST_DIGITS = 7
_SMALLEST_P_VALUE = 0.0001
_GATE_UNITS: dict[Unit, str] = {
    "nats": " nats",
    "share": "%",
    "percent": "%",
    "bytes": "",
    "seconds": " s",
    "number": "",
}
# What is written out in digits: double precision knows no more of them.
_LARGEST = 1e15
# What some program or other takes for the end of a line; tokens are of any characters.
_LINE_ENDS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
# Percent.
_LARGEST_BOUND = 999.0
# Of the half-width, so far a figure may be from its interval's middle, to be given with ±.
_LOPSIDED = 0.1


def level(confidence: float) -> str:
    """How sure intervals are: `95%`."""
    return f"{100 * confidence:g}%"


def measure(figure: Measure, digits: int = 2) -> str:
    """A figure with its interval: `12.34 ± 0.05`, or `1.3 [0.2, 7.9]` where it is lopsided."""
    if figure.value is None:
        return ABSENT
    return f"{_fixed(figure.value, digits)}{_spread(figure, digits)}"


def change(figure: Compared, digits: int = 2) -> str:
    """The change against the reference with its interval: `+1.20% [+1.00, +1.40]`."""
    if figure.delta_pct is None:
        return ABSENT
    text = f"{_signed(figure.delta_pct, digits)}%"
    if figure.delta_pct_interval is None:
        return TOO_FEW if figure.n < FEWEST_PROMPTS else text
    low, high = figure.delta_pct_interval
    # A few items may leave it open by any factor; the factor then says nothing.
    upper = _signed(high, digits) if high <= _LARGEST_BOUND else f">{_LARGEST_BOUND:+.0f}"
    return f"{text} [{_signed(low, digits)}, {upper}]"


def kl(figure: KLDivergence | None) -> str:
    """The mean KL in nats, to the digits that its interval warrants: `0.031 ± 0.002`."""
    return ABSENT if figure is None else small(figure.mean)


def small(figure: Measure | None) -> str:
    """A figure of any size with its interval, to the first digit of the half of its width.

    A figure that is smaller than the half-width has one digit more, where that is its first.
    """
    if figure is None or figure.value is None:
        return ABSENT
    scale = _half_width(figure) or abs(figure.value)
    if not scale:
        return "0"
    if not _has_digits(scale) or not _has_digits(figure.value):
        return measure(figure)
    least = 10.0**-_MOST_DIGITS
    if 0 < max(scale, abs(figure.value)) < least:
        return f"<{least:.{_MOST_DIGITS}f}"
    digits = _digits_of(scale)
    if digits < _digits_of(abs(figure.value) or scale):
        digits += 1
    return measure(figure, max(0, min(digits, _MOST_DIGITS)))


def _digits_of(value: float) -> int:
    """How many digits behind the point show the first digit of a positive number."""
    return math.ceil(-math.log10(value))


def positive(figure: TokenMeasure) -> TokenMeasure:
    """A difference the other way round, where it is negative."""
    if figure.value is None or figure.value >= 0:
        return figure
    interval = figure.interval and (-figure.interval[1], -figure.interval[0])
    return figure.model_copy(update={"value": -figure.value, "interval": interval})


def percentile(figure: KLDivergence | ProbabilityChange, name: str) -> str:
    """A percentile with its interval: `0.0402 [0.0337, 0.0466]`."""
    text = significant(figure.percentiles[name])
    if figure.percentiles_interval is None:
        return text
    low, high = figure.percentiles_interval[name]
    return f"{text} [{significant(low)}, {significant(high)}]"


def p_value(value: float | None) -> str:
    """A p-value to two digits; a smaller one than anybody needs as a bound."""
    if value is None:
        return ABSENT
    return f"{value:.2g}" if value >= _SMALLEST_P_VALUE else f"<{_SMALLEST_P_VALUE:g}"


def share_of_all(value: float) -> str:
    """A share, or a probability, in percent: `12.3%`, `0.0041%`."""
    percents = 100 * value
    return f"{percents:.1f}%" if percents >= 1 or percents == 0 else f"{percents:.2g}%"


def visible(text: str) -> str:
    """Text in one line, with its line ends and tabs as marks, and what would act as others."""
    return printable(_LINE_ENDS.sub("↵", text).replace("\t", "⇥"))


def code(text: str) -> str:
    """Text as it stands, its line ends made visible, as a code span in a table's cell."""
    shown = visible(text).replace("|", "\\|")
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    # A code span drops a space on both sides, if there is one on both: so there is one more.
    return f"{ticks} {shown} {ticks}"


def percent(figure: Measure | None, digits: int = 2) -> str:
    """A share with its interval: `97.12 ± 0.20%`, or `99.10% [97.20, 99.90]`."""
    if figure is None or figure.value is None:
        return ABSENT
    value, spread = _fixed(100 * figure.value, digits), _spread(figure, digits, 100)
    return f"{value}%{spread}" if spread.endswith("]") else f"{value}{spread}%"


def proportion(figure: Measure) -> str:
    """A share of few things with its interval: `42% [24, 61]`."""
    if figure.value is None:
        return ABSENT
    text = f"{100 * figure.value:.0f}%"
    if figure.interval is None:
        return text
    low, high = figure.interval
    return f"{text} [{100 * low:.0f}, {100 * high:.0f}]"


def milliseconds(figure: Measure, digits: int = 2) -> str:
    """Seconds as milliseconds, with their interval: `8.75 ± 0.02`."""
    if figure.value is None:
        return ABSENT
    return f"{_fixed(1000 * figure.value, digits)}{_spread(figure, digits, 1000)}"


def thousandfold(value: float | None, digits: int = 2) -> str:
    """A plain number of seconds as milliseconds, to so many digits."""
    return significant(None if value is None else 1000 * value, digits)


def token_percentile(percentiles: dict[str, float] | None, name: str) -> str:
    """A percentile of the times of tokens, in milliseconds."""
    return ABSENT if percentiles is None else f"{1000 * percentiles[name]:.2f}"


def speed(bytes_per_second: float) -> str:
    """Bytes a second as the unit in which memories are sold: `3.02 TB/s`."""
    thousands = 4 if bytes_per_second >= 1e12 else 3
    return f"{bytes_per_second / 1000**thousands:.2f} {'GT'[thousands - 3]}B/s"


def significant(value: float | None, digits: int = 3) -> str:
    """A plain number to so many digits that are not leading zeros."""
    if value is None:
        return ABSENT
    text = f"{value:#.{digits}g}"
    return _fixed(value, 0) if "e+" in text else text.rstrip(".")


def tenths(value: float) -> str:
    """A plain number with one digit behind the point."""
    return f"{value:.1f}"


def _spread(figure: Measure, digits: int, factor: float = 1.0) -> str:
    """An interval behind its figure: the half-width, or both ends where one is much nearer.

    So it is where an interval ends at what the figure cannot be beyond.

    Args:
        factor: from the figure's unit to the one that is shown.
    """
    half = _half_width(figure)
    if figure.interval is None or figure.value is None or half is None:
        return ""
    low, high = (factor * end for end in figure.interval)
    middle, half = (low + high) / 2, factor * half
    if not half:
        return ""
    is_even = abs(middle - factor * figure.value) <= _LOPSIDED * half
    # One that is wider than its figure would be said to go below nothing.
    if is_even and half <= abs(factor * figure.value):
        return f" ± {_fixed(half, digits)}"
    if half and _has_digits(half):
        digits = max(0, min(digits, _digits_of(half) + 1))
    return f" [{_fixed(low, digits)}, {_fixed(high, digits)}]"


def _half_width(figure: Measure) -> float | None:
    if figure.interval is None:
        return None
    low, high = figure.interval
    return abs(high - low) / 2


def _has_digits(value: float) -> bool:
    """Whether a number can be written out: it is finite, and not of an absurd size."""
    return abs(value) < _LARGEST


def _fixed(value: float, digits: int) -> str:
    """A number with so many digits behind the point; one of an absurd size by its power of ten."""
    return f"{value:.{digits}f}" if _has_digits(value) else f"{value:.3g}"


def _signed(value: float, digits: int) -> str:
    if not _has_digits(value):
        return f"{value:+.3g}"
    # Adding zero turns the "-0.0" that rounding leaves into "+0.0".
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def size(count: int | None) -> str:
    """Bytes, as the binary unit that a person would use."""
    return ABSENT if count is None else binary_size(count)


def short_name(name: str) -> str:
    """A model or data set as a headline calls it: of a path its last part."""
    is_path = name.startswith(("/", "./", "../", "~"))
    return name.rstrip("/").rpartition("/")[2] if is_path else name


def moment(time: datetime | None) -> str:
    """A time to the second."""
    return ABSENT if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def times(factor: float | None) -> str:
    """A factor: `3.26` and a multiplication sign."""
    return ABSENT if factor is None else f"{factor:.2f}×"


def gated(result: GateResult) -> str:
    """What a gate found, in its measure's unit, with its interval: `+1.20% [+1.00, +1.40]`."""
    if result.value is None:
        return ABSENT
    unit = _GATE_UNITS[result.unit]
    if result.unit == "bytes":
        return binary_size(int(result.value))
    if result.interval is None:
        return f"{_in_unit(result.value, result.unit)}{unit}"
    value, low, high = (_in_unit(x, result.unit) for x in (result.value, *result.interval))
    return f"{value} [{low}, {high}]{unit}"


def _in_unit(value: float, unit: Unit) -> str:
    match unit:
        case "share":
            return f"{100 * value:.4g}"
        case "percent":
            return _signed(value, 2)
    return f"{value:.3g}"


def windows_taken(provenance: Provenance) -> str:
    """Which windows of the text were scored, behind a comma; nothing where all were."""
    if provenance.decided_at_windows is not None:
        return f", {provenance.decided_at_windows} spread over the text, which decided its gates"
    if provenance.max_windows is None:
        return ""
    if provenance.window_choice == "first":
        return f", the first {provenance.max_windows}"
    return f", {provenance.max_windows} spread over the text"


def share(part: int, whole: int) -> str:
    """A count of a whole: `23/24`."""
    return f"{part}/{whole}"
