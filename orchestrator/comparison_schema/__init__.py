"""`comparison.json` as pydantic models; its JSON Schema is generated from them."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from orchestrator.comparison_schema.cost_fields import (
    CARD_RESERVED_BYTES,
    CARDS_GIB,
    CardFit,
    DeviceMemory,
    DifferentAnswer,
    Generation,
    GenerationFigures,
    Latency,
    Memory,
    Throughput,
    Timed,
)
from orchestrator.comparison_schema.integrity_fields import Integrity
from orchestrator.comparison_schema.measure_fields import Compared, Measure, Part, TokenMeasure
from orchestrator.comparison_schema.noise_fields import WeightNoise
from orchestrator.comparison_schema.quality_fields import (
    PERCENTILES,
    Bucket,
    Exceedance,
    KLDivergence,
    NoiseFloor,
    Pair,
    PercentileIntervals,
    Percentiles,
    Perplexity,
    ProbabilityChange,
    TextSample,
    WorstToken,
)
from orchestrator.comparison_schema.risk_fields import Risk, RiskLevel, RiskReason
from orchestrator.comparison_schema.timeline_fields import DeviceTime, Timeline
from orchestrator.contract.stages import STREAMED

__all__ = [
    "CARDS_GIB",
    "CARD_RESERVED_BYTES",
    "COMPARISON_VERSION",
    "PERCENTILES",
    "Bucket",
    "CardFit",
    "Compared",
    "Comparison",
    "DatasetProvenance",
    "DeviceMemory",
    "DeviceTime",
    "DifferentAnswer",
    "Exceedance",
    "Generation",
    "GenerationFigures",
    "Integrity",
    "KLDivergence",
    "Latency",
    "Measure",
    "Memory",
    "ModelProvenance",
    "NoiseFloor",
    "Pair",
    "PercentileIntervals",
    "Percentiles",
    "Perplexity",
    "ProbabilityChange",
    "Progress",
    "Provenance",
    "Risk",
    "RiskLevel",
    "RiskReason",
    "StampedComparison",
    "TextSample",
    "Throughput",
    "Timed",
    "Timeline",
    "TokenMeasure",
    "VariantFigures",
    "WeightNoise",
    "WorstToken",
]

# Raised when a field changes its meaning or goes, so that a reader of old files can tell.
COMPARISON_VERSION: Literal[7] = 7


class VariantFigures(Part):
    """Everything measured of one variant."""

    checkpoint: str = Field(description="which weights it is made of")
    method: str | None = Field(description="how they are quantized already; null for original ones")
    weights_dtype: str
    compute_dtype: str
    placement: str = Field(
        "device",
        description="where its weights were: 'device'; 'devices:N', its layers over so many; or "
        "'stream', in the host's memory, from where its layers came to the device one after the "
        "other: then it has no times",
    )
    kernel: str | None = Field(
        None,
        description="what multiplies quantized weights; null where the quantizer's own does",
    )
    linear: str | None = Field(
        None,
        description="what multiplied in most of its linear layers, a package and a class; null "
        "where that was not noted",
    )
    perplexity: Perplexity
    word_perplexity: Compared
    bits_per_byte: Compared
    kl: KLDivergence | None = Field(
        description="null for the reference, and where a token's is not a finite number"
    )
    same_top_token: TokenMeasure | None = Field(
        description="share of tokens to which both give the highest probability; null as kl"
    )
    probability_change: ProbabilityChange | None = Field(description="null as kl")
    perplexity_ratio: TokenMeasure | None = Field(
        description="the variant's perplexity divided by the reference's; null as kl"
    )
    log_perplexity_correlation: float | None = Field(
        description="of both log-likelihoods, over tokens; null as kl, or where one is constant"
    )
    memory: Memory
    generation: Generation
    throughput: list[Throughput] = Field(description="by batch size and way of decoding")
    integrity: Integrity | None = Field(
        None, description="null where its weights were not audited, as those of adapters"
    )
    weight_noise: WeightNoise | None = Field(None, description="null where none was added")
    risks: dict[str, Risk] = Field(
        {}, description="by what a model is used for; empty for the reference"
    )

    @property
    def is_streamed(self) -> bool:
        """Whether a device had but some of its weights at a time."""
        return self.placement == STREAMED

    @property
    def own_latency(self) -> dict[str, Latency]:
        """How fast its answers are, by way of decoding; none where that is not its format's own."""
        return {} if self.memory.expanded else self.generation.latency

    @property
    def own_speed(self) -> Timed | None:
        """Tokens per second by the fastest way of decoding; None where it has none of its own."""
        found = [latency.tokens_per_second for latency in self.own_latency.values()]
        known = [speed for speed in found if speed.value is not None]
        return max(known, key=lambda speed: speed.value or 0.0, default=None)


class ModelProvenance(Part):
    """Which weights."""

    id: str
    revision: str | None
    content_hash: str


class DatasetProvenance(Part):
    """Which text; counts are of the protocol's text."""

    name: str
    content_hash: str
    documents: int
    tokens: int
    words: int
    bytes: int


class Provenance(Part):
    """What the figures depend on."""

    model: ModelProvenance
    dataset: DatasetProvenance
    maximum_length: int | None = Field(
        description="the most tokens that the model takes; null where that was not noted"
    )
    protocol: str
    window_length: int
    stride: int | None
    max_windows: int | None = Field(description="null where all are scored")
    window_choice: str | None = Field(
        description="'spread' over the text, or its 'first' ones; null where all are scored"
    )
    looks: list[int] = Field(
        description="windows of each look of a run that goes on until its gates are decided; "
        "empty for others"
    )
    decided_at_windows: int | None = Field(
        description="how many of them the last look had, where the gates were decided before all "
        "were seen; null else"
    )
    prompts_content_hash: str
    max_prompts: int | None = Field(description="null where all are answered")
    max_new_tokens: int
    decodings: list[str] = Field(description="ways to answer prompts; answers are the first one's")
    repeats: int = Field(description="times that each prompt was answered each way")
    compute_dtype: str = Field(description="of the reference; each variant names its own")
    devices: list[str] = Field(description="all that a finished shard was computed on")
    versions: dict[str, list[str]] = Field(description="likewise, by library; null ones left out")
    command: str = Field(description="measures the same again, where the inputs are there")
    started: datetime
    finished: datetime | None = Field(description="null while the run is partial")


class Progress(Part):
    """How much of a stage is in the figures."""

    finished: int = Field(description="items: windows, prompts, batches, or one loading")
    planned: int


class Comparison(Part):
    """The whole of `comparison.json` but for its digest."""

    version: Literal[7] = COMPARISON_VERSION
    run_id: str
    reference: str
    complete: bool = Field(description="whether every planned shard is in it")
    confidence: float = Field(description="of every interval, a share of 1")
    sample: TextSample
    progress: dict[str, dict[str, Progress]] = Field(description="by variant and stage")
    variants: dict[str, VariantFigures]
    noise_floor: NoiseFloor | None = Field(
        description="null where its windows are not finished, or not finite numbers"
    )
    pairs: list[Pair] = Field(description="each two variants with a KL from the reference")
    notes: list[str] = Field(description="what a reader must know: refusals, flags, missing parts")
    timeline: Timeline | None = Field(
        None, description="null where the run's events do not say who did what when"
    )
    provenance: Provenance


class StampedComparison(Comparison):
    """The whole of `comparison.json`."""

    sha256: str = Field(
        description="of all else, as JSON with sorted keys; `history` and `report` judge nothing "
        "that was changed since"
    )
