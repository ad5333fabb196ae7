"""`comparison.json` as pydantic models; its JSON Schema is generated from them."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

# Raised when a field changes its meaning or goes, so that a reader of old files can tell.
COMPARISON_VERSION: Literal[2] = 2


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True
    )


class Measure(_Part):
    """A figure with its uncertainty; null where there is none, or too little data for one."""

    value: float | None
    stderr: float | None
    interval95: tuple[float, float] | None
    n: int = Field(description="independent units behind it: windows or prompts")


class TokenMeasure(Measure):
    """A measure over tokens: its uncertainty takes windows for units, and besides tokens."""

    stderr_tokens: float | None = Field(
        description="the standard error if all tokens were independent, as llama.cpp prints it"
    )


class Compared(Measure):
    """A measure with its change against the reference, paired over the same items."""

    delta_pct: float | None = Field(
        description="null for the reference, and where the items are not the same"
    )
    delta_pct_interval95: tuple[float, float] | None


class Perplexity(Compared):
    """Token perplexity: exp of the mean negative log-likelihood of a scored token."""

    stderr_tokens: float | None = Field(description="as of a measure over tokens")
    scored_tokens: int
    windows: int


# Of all scored tokens, by linear interpolation.
Percentiles = dict[str, float]
PERCENTILES = ("99.9", "99", "95", "90", "75", "50", "25", "10", "5", "1")


# By the percentile's name; null for a single window.
PercentileIntervals = dict[str, tuple[float, float]] | None


class Bucket(_Part):
    """The scored tokens of which a quantity is at least `from`, and below `to`."""

    lower: float = Field(alias="from")
    upper: float | None = Field(alias="to", description="null where there is no bound")
    share: float = Field(description="of all scored tokens")
    kl: TokenMeasure
    same_top_token: TokenMeasure


class Exceedance(_Part):
    """How many tokens a KL is larger than a value of."""

    kl: float
    share: float = Field(description="of all scored tokens, those whose KL is larger")


class WorstToken(_Part):
    """A scored token with a large KL, in its context."""

    window: int
    position: int = Field(description="its place in the window")
    context: str = Field(description="what is before it in the window, the last of it")
    token: str = Field(description="the true token")
    kl: float
    reference_probability: float = Field(description="of the true token")
    probability: float = Field(description="of the true token under the variant")
    reference_top_token: str
    reference_top_probability: float
    top_token: str = Field(description="the variant's")
    top_probability: float


class KLDivergence(_Part):
    """How far the variant's next-token distributions are from the reference's, in nats.

    Of a token, over the whole vocabulary; the means are over all scored tokens.
    """

    mean: TokenMeasure = Field(description="KL(reference ‖ variant)")
    reverse_mean: TokenMeasure = Field(description="KL(variant ‖ reference)")
    maximum: float
    minimum: float
    percentiles: Percentiles
    percentiles_interval95: PercentileIntervals
    distribution: list[Exceedance]
    by_confidence: list[Bucket] = Field(description="by the reference's top probability")
    by_position: list[Bucket] = Field(description="by the place in the window, from 0")
    worst_tokens: list[WorstToken] = Field(description="those with the largest KL, in order")
    indistinguishable: bool | None = Field(
        description="whether the mean is no more than the noise floor times its factor, or than "
        "what float32 resolves; null where there is no noise floor"
    )


class NoiseFloor(_Part):
    """The reference against itself, its arithmetic in another order: what rounding alone does."""

    how: str
    kl: TokenMeasure
    same_top_token: TokenMeasure
    distribution: list[Exceedance]
    factor: float = Field(description="how many times it a mean KL may be and count as rounding")
    resolution: float = Field(description="the mean KL that float32 resolves, in nats")


class Pair(_Part):
    """Two candidates over the same windows; differences are a's figure less b's."""

    a: str
    b: str
    kl_difference: TokenMeasure = Field(description="of both mean KLs, in nats")
    log_perplexity_difference: TokenMeasure
    p_value: float | None = Field(
        description="of the difference in KL, two-sided, Student's t over windows"
    )
    p_value_holm: float | None = Field(description="the same adjusted for the number of pairs")
    significant: bool = Field(description="whether that is below 0.05")


class ProbabilityChange(_Part):
    """The true token's probability under the variant less that under the reference."""

    mean: TokenMeasure
    rms: TokenMeasure = Field(description="the root of the mean square")
    maximum: float
    minimum: float
    percentiles: Percentiles
    percentiles_interval95: PercentileIntervals


class DeviceMemory(_Part):
    """A device's memory in one phase of a run."""

    allocated_bytes: int = Field(description="what tensors take at the end of it")
    peak_bytes: int = Field(description="the most that tensors took")
    reserved_bytes: int = Field(description="the most that was reserved for tensors")


class Memory(_Part):
    """Bytes of one loaded model."""

    weights_bytes: int | None = Field(description="measured, scales included; the next four's sum")
    quantized_bytes: int | None = Field(description="of weights held in few bits")
    scales_bytes: int | None = Field(description="scales, zero points, code tables of these")
    embeddings_bytes: int | None = Field(description="input embedding and output head")
    other_bytes: int | None = Field(description="layers not quantized, norms, biases")
    expected_weights_bytes: int | None = Field(
        description="by arithmetic from the checkpoint's header; null where there is none"
    )
    running_weights_bytes: int | None = Field(
        description="measured once the model has run, in the dtype of its arithmetic"
    )
    disk_bytes: int = Field(description="what the checkpoint's tensors take in their files")
    phases: dict[str, DeviceMemory] = Field(
        description="loading, scoring, generating: those that were had; empty on a CPU"
    )
    device_peak_bytes: int | None = Field(description="over all phases; null on a CPU")
    device_context_bytes: int | None = Field(
        description="what the process takes of the device beside tensors; null on a CPU, and where "
        "the driver does not tell it"
    )
    compression_ratio: float | None = Field(
        description="the reference's weights_bytes divided by this variant's"
    )
    disk_ratio: float | None = Field(
        description="its checkpoint's disk_bytes divided by its weights_bytes"
    )


class Timed(Compared):
    """A time or a speed; its interval is over prompts."""

    stderr_repeats: float | None = Field(
        description="the standard error that repeating the same prompts on the same machine "
        "leaves; null without repeats"
    )


class Latency(_Part):
    """How fast answers are by one way of decoding, one at a time."""

    answers: int = Field(description="those with a token; n of the figures is as many or fewer")
    same_tokens: int = Field(description="those with the tokens of the first way of decoding")
    seconds: Timed = Field(description="mean time of an answer, its prompt included")
    time_to_first_token_seconds: Timed
    time_per_output_token_seconds: Timed = Field(description="of all tokens but each first one")
    token_seconds_percentiles: dict[str, float] | None = Field(
        description="of the times of these tokens; null where there are none"
    )
    tokens_per_second: Timed = Field(description="all new tokens over all seconds, end to end")
    read_bytes_per_token: float | None = Field(
        description="what a token but the first must read: weights, and the cache before it"
    )
    memory_bandwidth_share: Measure = Field(
        description="those bytes over the time per output token, as a share of what a copy "
        "within the device's memory moves, reads and writes counted; null on a CPU"
    )


class GenerationFigures(_Part):
    """Answers to prompts, one at a time; times are those of the first way of decoding."""

    prompts: int
    succeeded: int
    seconds: Compared = Field(description="mean time of an answer")
    tokens_per_second: Compared = Field(description="all new tokens over all seconds")
    latency: dict[str, Latency] = Field(description="by way of decoding, those that were had")
    new_tokens: Compared = Field(description="mean length of an answer, in tokens")
    kl_along_reference: TokenMeasure = Field(
        description="mean KL(reference ‖ variant) of a token of the reference's answers, in nats; "
        "n is prompts; null for the reference, as all that is held against its answers"
    )
    same_top_token_along_reference: TokenMeasure = Field(
        description="of those tokens, the share where both put the same token first"
    )
    identical_answers: Measure = Field(
        description="share of answers with the reference's tokens, all of them"
    )
    first_difference: Measure = Field(
        description="of the other answers, how many tokens they begin with alike"
    )
    degenerate: int = Field(description="answers that are empty, in a loop or broken text")
    degenerate_by_kind: dict[str, int]


class DifferentAnswer(_Part):
    """Two answers to one prompt, side by side."""

    prompt_id: str
    category: str
    prompt: str
    reference_answer: str
    answer: str
    common_tokens: int = Field(description="how many tokens both begin with")
    kl: float = Field(description="mean of a token of the reference's answer, in nats")


class Generation(GenerationFigures):
    """The same overall and by category."""

    by_category: dict[str, GenerationFigures]
    graph_refusal: str | None = Field(
        description="why there is no decoding by CUDA graph where it was asked for"
    )
    device_copy_bytes_per_second: float | None = Field(
        description="bytes read and written, by a copy within the device's memory; null on a CPU"
    )
    kl_threshold: float = Field(description="nats")
    most_different: list[DifferentAnswer] = Field(
        description="those with the largest KL along the reference's answer, in order; none that "
        "are identical"
    )
    categories_beyond: list[str] = Field(
        description="those whose mean KL along the reference's answers is above the threshold"
    )


class Throughput(_Part):
    """A batch of prompts of one length, answered at once; times are null if there is a problem."""

    batch_size: int
    decoding: str
    prompt_tokens: int = Field(description="of each prompt")
    new_tokens: int = Field(description="of each answer, whatever would end it")
    tokens_per_second: Measure = Field(
        description="new tokens of all prompts over the time of the whole batch; n is repeats"
    )
    step_seconds: float | None = Field(description="mean time of a step but the first")
    cache_bytes: int | None = Field(description="keys and values of all prompts with answers")
    device_peak_bytes: int | None = Field(description="of this batch; null on a CPU")
    problem: str | None = Field(description="why it could not be decoded")


class VariantFigures(_Part):
    """Everything measured of one variant."""

    checkpoint: str = Field(description="which weights it is made of")
    method: str | None = Field(description="how they are quantized already; null for original ones")
    weights_dtype: str
    compute_dtype: str
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
    max_windows: int | None = Field(description="null where all are scored")
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


class Progress(_Part):
    """How much of a stage is in the figures."""

    finished: int = Field(description="items: windows, prompts, batches, or one loading")
    planned: int


class Comparison(_Part):
    """The whole of `comparison.json`."""

    version: Literal[2] = COMPARISON_VERSION
    run_id: str
    reference: str
    complete: bool = Field(description="whether every planned shard is in it")
    progress: dict[str, dict[str, Progress]] = Field(description="by variant and stage")
    variants: dict[str, VariantFigures]
    noise_floor: NoiseFloor | None = Field(
        description="null where its windows are not finished, or not finite numbers"
    )
    pairs: list[Pair] = Field(description="each two variants with a KL from the reference")
    notes: list[str] = Field(description="what a reader must know: refusals, flags, missing parts")
    provenance: Provenance
