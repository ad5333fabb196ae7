"""What a gate can ask for: each measure's name, what it is and where a comparison has it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from orchestrator.comparison_schema import (
    PERCENTILES,
    Compared,
    GenerationFigures,
    KLDivergence,
    Measure,
    Memory,
    VariantFigures,
)

Unit = Literal["nats", "share", "percent", "bytes", "seconds", "number"]
# What more of makes an estimate surer.
Items = Literal["windows", "prompts"]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Reading:
    """A measure of one variant.

    Attributes:
        value: None where it was not measured.
        interval: of what is estimated; None where there is too little data for one, and of what
            is counted.
    """

    value: float | None
    interval: Interval | None


NOT_MEASURED = Reading(None, None)


_Of = Callable[[VariantFigures], Reading]
_OfAnswers = Callable[[GenerationFigures], Reading]


@dataclass(frozen=True)
class GateMeasure:
    """A measure by its name.

    Attributes:
        words: what a sentence calls it; of a change, what it is of.
        least, most: the values that it can have.
        against_reference: whether it is the variant held against the reference.
        is_counted: whether it is a fact of this run, and no estimate.
        is_speed: whether it is of how fast something is, which an expanded format says nothing of.
        over: of what it is an estimate; by category it is of prompts.
        of_variant: reads it of all that was measured of a variant.
        of_answers: reads it of some answers, such as a category's; None where it has no category.
    """

    name: str
    what: str
    unit: Unit
    words: str
    of_variant: _Of
    of_answers: _OfAnswers | None = None
    against_reference: bool = False
    is_counted: bool = False
    is_speed: bool = False
    over: Items = "windows"
    least: float = float("-inf")
    most: float = float("inf")

    def is_own(self, figures: VariantFigures) -> bool:
        """Whether it says something of a variant's own format: the speed of an expanded one does
        not.
        """
        return not (self.is_speed and figures.memory.expanded)


def _estimated(figure: Measure | None) -> Reading:
    return NOT_MEASURED if figure is None else Reading(figure.value, figure.interval)


def _change(figure: Compared) -> Reading:
    return Reading(figure.delta_pct, figure.delta_pct_interval)


def _counted(value: float | None) -> Reading:
    return Reading(value, None)


def _share_of_answers(count: int, prompts: int) -> Reading:
    return _counted(count / prompts if prompts else None)


def _of_kl(read: Callable[[KLDivergence], Reading]) -> _Of:
    """Reads it of the divergence, where there is one."""
    return lambda figures: NOT_MEASURED if figures.kl is None else read(figures.kl)


def _percentile(name: str) -> _Of:
    def read(kl: KLDivergence) -> Reading:
        intervals = kl.percentiles_interval
        return Reading(kl.percentiles[name], None if intervals is None else intervals[name])

    return _of_kl(read)


def _answers(
    name: str,
    what: str,
    unit: Unit,
    words: str,
    read: _OfAnswers,
    *,
    against_reference: bool = False,
    is_counted: bool = False,
    is_speed: bool = False,
) -> GateMeasure:
    """A measure of answers, overall and by category."""
    bounds: dict[Unit, Interval] = {"share": (0.0, 1.0), "percent": (-100.0, float("inf"))}
    least, most = bounds.get(unit, (0.0, float("inf")))
    return GateMeasure(
        name,
        what,
        unit,
        words,
        lambda figures: read(figures.generation),
        read,
        against_reference=against_reference,
        is_counted=is_counted,
        is_speed=is_speed,
        over="prompts",
        least=least,
        most=most,
    )


def _memory(
    name: str,
    what: str,
    words: str,
    read: Callable[[Memory], float | None],
    *,
    unit: Unit = "bytes",
    against_reference: bool = False,
) -> GateMeasure:
    """A measure of what a model takes, which is a fact of the run."""
    return GateMeasure(
        name,
        what,
        unit,
        words,
        lambda figures: _counted(read(figures.memory)),
        against_reference=against_reference,
        is_counted=True,
        least=0.0,
    )


_QUALITY = (
    GateMeasure(
        "perplexity",
        "token perplexity",
        "number",
        "perplexity",
        lambda v: _estimated(v.perplexity),
        least=1.0,
    ),
    GateMeasure(
        "perplexity_delta_pct",
        "change of perplexity in percent",
        "percent",
        "perplexity",
        lambda v: _change(v.perplexity),
        against_reference=True,
        least=-100.0,
    ),
    GateMeasure(
        "word_perplexity",
        "by word",
        "number",
        "perplexity by word",
        lambda v: _estimated(v.word_perplexity),
        least=1.0,
    ),
    GateMeasure(
        "bits_per_byte",
        "of the text",
        "number",
        "bits per byte",
        lambda v: _estimated(v.bits_per_byte),
        least=0.0,
    ),
    GateMeasure(
        "kl.mean",
        "mean KL of a token; by category, along the reference's answers",
        "nats",
        "mean KL",
        _of_kl(lambda kl: _estimated(kl.mean)),
        lambda g: _estimated(g.kl_along_reference),
        against_reference=True,
        least=0.0,
    ),
    GateMeasure(
        "kl.reverse_mean",
        "mean of the reverse KL",
        "nats",
        "mean reverse KL",
        _of_kl(lambda kl: _estimated(kl.reverse_mean)),
        against_reference=True,
        least=0.0,
    ),
    GateMeasure(
        "kl.maximum",
        "the largest of a token",
        "nats",
        "largest KL of a token",
        _of_kl(lambda kl: _counted(kl.maximum)),
        is_counted=True,
        against_reference=True,
        least=0.0,
    ),
    *(
        GateMeasure(
            f"kl.p{name}",
            f"what {name}% of tokens do not exceed",
            "nats",
            f"KL of {name}% of the tokens",
            _percentile(name),
            against_reference=True,
            least=0.0,
        )
        for name in PERCENTILES
    ),
    GateMeasure(
        "same_top_token",
        "share of tokens; by category, along the reference's answers",
        "share",
        "same top token",
        lambda v: _estimated(v.same_top_token),
        lambda g: _estimated(g.same_top_token_along_reference),
        against_reference=True,
        least=0.0,
        most=1.0,
    ),
)
_ANSWERS = (
    _answers(
        "success",
        "share of answers without an error that hold text",
        "share",
        "answers that succeed",
        lambda g: _share_of_answers(g.succeeded, g.prompts),
        is_counted=True,
    ),
    _answers(
        "degenerate",
        "share of answers that are empty, in a loop or broken",
        "share",
        "degenerate answers",
        lambda g: _share_of_answers(g.degenerate, g.prompts),
        is_counted=True,
    ),
    _answers(
        "identical_answers",
        "share of answers with the reference's tokens",
        "share",
        "identical answers",
        lambda g: _estimated(g.identical_answers),
        against_reference=True,
    ),
    _answers(
        "kl_along_reference",
        "mean KL of a token of the reference's answers",
        "nats",
        "mean KL along the reference's answers",
        lambda g: _estimated(g.kl_along_reference),
        against_reference=True,
    ),
    _answers(
        "seconds",
        "of an answer",
        "seconds",
        "seconds of an answer",
        lambda g: _estimated(g.seconds),
        is_speed=True,
    ),
    _answers(
        "seconds_delta_pct",
        "change of an answer's time in percent",
        "percent",
        "time of an answer",
        lambda g: _change(g.seconds),
        against_reference=True,
        is_speed=True,
    ),
    _answers(
        "tokens_per_second",
        "end to end",
        "number",
        "tokens per second",
        lambda g: _estimated(g.tokens_per_second),
        is_speed=True,
    ),
    _answers(
        "tokens_per_second_delta_pct",
        "change of speed in percent",
        "percent",
        "tokens per second",
        lambda g: _change(g.tokens_per_second),
        against_reference=True,
        is_speed=True,
    ),
    _answers(
        "new_tokens",
        "mean length of an answer",
        "number",
        "tokens of an answer",
        lambda g: _estimated(g.new_tokens),
    ),
    _answers(
        "new_tokens_delta_pct",
        "change of the length in percent",
        "percent",
        "length of an answer",
        lambda g: _change(g.new_tokens),
        against_reference=True,
    ),
)
_MEMORY = (
    _memory(
        "size_bytes", "what its weights take in their own format", "size", lambda m: m.size_bytes
    ),
    _memory(
        "weights_bytes",
        "what the weights take as they are held here",
        "weights as held",
        lambda m: m.weights_bytes,
    ),
    _memory("disk_bytes", "in its files", "size on disk", lambda m: m.disk_bytes),
    _memory(
        "device_peak_bytes",
        "the most that the device held",
        "memory of the device",
        lambda m: m.device_peak_bytes,
    ),
    _memory(
        "compression_ratio",
        "the reference's size over its own",
        "compression",
        lambda m: m.compression_ratio,
        unit="number",
        against_reference=True,
    ),
)

_INTEGRITY = (
    GateMeasure(
        "quantized_share",
        "share of the linear weights that were quantized before the run",
        "share",
        "weights quantized before",
        lambda v: _counted(None if v.integrity is None else v.integrity.quantized_share),
        is_counted=True,
        least=0.0,
        most=1.0,
    ),
)

GATE_MEASURES: dict[str, GateMeasure] = {
    measure.name: measure for measure in (*_QUALITY, *_ANSWERS, *_MEMORY, *_INTEGRITY)
}
