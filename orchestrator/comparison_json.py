"""`comparison.json` as pydantic models; its JSON Schema is generated from them."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

# Raised when a field changes its meaning or goes, so that a reader of old files can tell.
COMPARISON_VERSION: Literal[1] = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Measure(_Part):
    """A figure with its uncertainty; null where there is none, or too little data for one."""

    value: float | None
    stderr: float | None
    interval95: tuple[float, float] | None
    n: int = Field(description="independent units behind it: windows or prompts")


class Compared(Measure):
    """A measure with its change against the reference, paired over the same items."""

    delta_pct: float | None = Field(
        description="null for the reference, and where the items are not the same"
    )
    delta_pct_interval95: tuple[float, float] | None


class Perplexity(Compared):
    """Token perplexity: exp of the mean negative log-likelihood of a scored token."""

    scored_tokens: int
    windows: int


# Of all scored tokens, by linear interpolation.
Percentiles = dict[str, float]
PERCENTILES = ("99.9", "99", "95", "90", "75", "50", "25", "10", "5", "1")


class KLDivergence(_Part):
    """How far the variant's next-token distributions are from the reference's, in nats.

    Of a token, over the whole vocabulary; the means are over all scored tokens.
    """

    mean: Measure = Field(description="KL(reference ‖ variant)")
    reverse_mean: Measure = Field(description="KL(variant ‖ reference)")
    maximum: float
    percentiles: Percentiles


class ProbabilityChange(_Part):
    """The true token's probability under the variant less that under the reference."""

    mean: Measure
    rms: Measure = Field(description="the root of the mean square")
    percentiles: Percentiles


class Memory(_Part):
    """Bytes of one loaded model."""

    weights_bytes: int | None = Field(description="measured, scales included")
    expected_weights_bytes: int | None = Field(
        description="by arithmetic from the checkpoint's header; null where there is none"
    )
    device_allocated_bytes: int | None = Field(description="after loading; null on a CPU")
    device_reserved_bytes: int | None = Field(description="after loading; null on a CPU")
    device_peak_bytes: int | None = Field(description="over the whole run; null on a CPU")
    compression_ratio: float | None = Field(
        description="the reference's weights_bytes divided by this variant's"
    )


class GenerationFigures(_Part):
    """Answers to prompts, one at a time."""

    prompts: int
    succeeded: int
    seconds: Compared = Field(description="mean wall time of an answer")
    tokens_per_second: Compared = Field(description="all new tokens over all seconds")
    new_tokens: Compared = Field(description="mean length of an answer, in tokens")


class Generation(GenerationFigures):
    """The same overall and by category."""

    by_category: dict[str, GenerationFigures]


class VariantFigures(_Part):
    """Everything measured of one variant."""

    weights_dtype: str
    compute_dtype: str
    perplexity: Perplexity
    word_perplexity: Compared
    bits_per_byte: Compared
    kl: KLDivergence | None = Field(
        description="null for the reference, and where a token's is not a finite number"
    )
    same_top_token: Measure | None = Field(
        description="share of tokens to which both give the highest probability; null as kl"
    )
    probability_change: ProbabilityChange | None = Field(description="null as kl")
    perplexity_ratio: Measure | None = Field(
        description="the variant's perplexity divided by the reference's; null as kl"
    )
    log_perplexity_correlation: float | None = Field(
        description="of both log-likelihoods, over tokens; null as kl, or where one is constant"
    )
    memory: Memory
    generation: Generation


class ModelProvenance(_Part):
    """Which weights."""

    id: str
    revision: str | None
    content_hash: str


class DatasetProvenance(_Part):
    """Which text; counts are of the protocol's text."""

    name: str
    content_hash: str
    documents: int
    tokens: int
    words: int
    bytes: int


class Provenance(_Part):
    """What the figures depend on."""

    model: ModelProvenance
    dataset: DatasetProvenance
    protocol: str
    window_length: int
    stride: int | None
    prompts_content_hash: str
    max_new_tokens: int
    compute_dtype: str = Field(description="of the reference; each variant names its own")
    devices: list[str] = Field(description="all that a finished shard was computed on")
    versions: dict[str, list[str]] = Field(description="likewise, by library; null ones left out")
    started: datetime
    finished: datetime | None = Field(description="null while the run is partial")


class Comparison(_Part):
    """The whole of `comparison.json`."""

    version: Literal[1] = COMPARISON_VERSION
    run_id: str
    reference: str
    complete: bool = Field(description="whether every planned shard is in it")
    variants: dict[str, VariantFigures]
    notes: list[str] = Field(description="what a reader must know: refusals, flags, missing parts")
    provenance: Provenance
