"""What may be done to a variant's weights before they are quantized: `nf4+noise=0.5`.

The words are the same wherever a variant is named. Suffixes are read from the right, since a
checkpoint's path may have a plus in it.
"""

import math
import re

from pydantic import Field

from orchestrator.contract.frozen import Frozen

# What stands for a unit of 1, not of some quantizer's half-widths.
ABSOLUTE = "abs"
_SUFFIX = re.compile(r"\+(?P<kind>noise|kv)=(?P<value>[^+/]*)$")
_NOISE = re.compile(r"(?:(?P<unit>[A-Za-z][\w.-]*):)?(?P<sigma>[^:@]*)(?:@(?P<seed>\d{1,9}))?")
_FORM = "such as 0.5 (half-widths of the variant's own cells), nf4:0.5 or abs:0.001, @SEED at most"


class Noise(Frozen):
    """Gaussian noise that is added to the weights that a quantizer takes, before it does.

    Attributes:
        sigma: its standard deviation, in units.
        unit: "abs" for 1; else a variant, half the width of whose cells is the unit: of a tensor
            the median over its weights, each in its cell.
        seed: with a tensor's name it says which noise.
    """

    sigma: float = Field(gt=0, allow_inf_nan=False)
    unit: str
    seed: int = 0

    def suffix(self, base: str) -> str:
        """Its words after a variant's, in their one form.

        Args:
            base: the variant's name before it.
        """
        unit = "" if self.unit == base else f"{self.unit}:"
        seed = f"@{self.seed}" if self.seed else ""
        short = f"{self.sigma:g}"
        # Two amounts have two names, and none has a plus in it, which begins a suffix.
        sigma = short if float(short) == self.sigma else repr(self.sigma)
        return f"+noise={unit}{sigma.replace('+', '')}{seed}"


def split_suffixes(text: str) -> tuple[str, dict[str, str]]:
    """What stands before the suffixes of a variant's words, and their values by what they are.

    Raises:
        ValueError: one is said twice.
    """
    found: dict[str, str] = {}
    rest = text
    while (suffix := _SUFFIX.search(rest)) is not None:
        kind = suffix["kind"]
        if kind in found:
            raise ValueError(f"'{text}' says +{kind}= twice; say it once")
        found[kind] = suffix["value"]
        rest = rest[: suffix.start()]
    return rest, found


def parse_noise(value: str, base: str, celled: tuple[str, ...]) -> Noise:
    """Reads the value of `+noise=`.

    Args:
        base: the variant's name before it.
        celled: the variants that have cells.

    Raises:
        ValueError: it is none; says what one looks like.
    """
    words = _NOISE.fullmatch(value)
    try:
        sigma = float(words["sigma"]) if words else math.nan
    except ValueError:
        sigma = math.nan
    if words is None or not (sigma > 0 and math.isfinite(sigma)):
        raise ValueError(f"'{base}+noise={value}': noise is a number above 0, {_FORM}")
    unit = words["unit"] or base
    if unit not in (*celled, ABSOLUTE):
        known = ", ".join(celled)
        problem = "has no cells" if words["unit"] is None else "is no variant with cells"
        raise ValueError(
            f"'{base}+noise={value}': {unit} {problem} to measure noise by; say whose "
            f"({base}+noise=nf4:{sigma:g}; there are {known}), or an absolute one (abs:0.001)"
        )
    return Noise(sigma=sigma, unit=unit, seed=int(words["seed"] or 0))
