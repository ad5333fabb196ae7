"""What a variant is called: `NAME`, then what is done to it, in one form however it was said."""

from dataclasses import dataclass

from orchestrator.contract.noise import Noise, parse_noise, split_suffixes
from orchestrator.contract.variants import CELLED, VARIANTS


@dataclass(frozen=True)
class VariantWords:
    """The words that name a variant.

    Attributes:
        base: what it is called before anything is done to it.
        source: the checkpoint that it brings; None for one that is made here.
        noise: what is added to its weights; None for nothing.
    """

    base: str
    source: str | None
    noise: Noise | None

    @property
    def name(self) -> str:
        """What it is called, everywhere."""
        return self.base + ("" if self.noise is None else self.noise.suffix(self.base))

    @property
    def text(self) -> str:
        """The words themselves, in their one form."""
        return self.name if self.source is None else f"{self.base}={self.source}"


def read_words(text: str) -> VariantWords:
    """Reads `NAME[=CHECKPOINT](+noise=…|+kv=…)*`.

    Raises:
        ValueError: a suffix is said twice, is none, or of what is not made here.
    """
    rest, suffixes = split_suffixes(text.strip())
    name, equals, source = rest.partition("=")
    base, brought = name.strip(), source.strip() if equals else None
    if "kv" in suffixes:
        raise ValueError(
            f"'{text}': keys and values in another format are not made here yet; leave +kv= out"
        )
    if "noise" not in suffixes:
        return VariantWords(base, brought, None)
    if brought is not None:
        raise ValueError(
            f"'{text}': noise is added to what is made here of --model; {base} is measured as its "
            "files hold it, quantized already or not"
        )
    if base not in VARIANTS:
        # Whoever asked for it is told that there is none.
        return VariantWords(base, None, None)
    return VariantWords(base, None, parse_noise(suffixes["noise"], base, CELLED))
