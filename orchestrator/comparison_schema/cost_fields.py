"""Answers, speed and memory in `comparison.json`."""

from pydantic import Field

from orchestrator.comparison_schema.measure_fields import Compared, Measure, Part, TokenMeasure

# The memories that cards are sold with.
CARDS_GIB = (8, 12, 16, 24, 32, 48, 80)
# Of a card, kept for the process itself and for what a step computes: decoding a 7B on an H100 took
# 0.83 GiB beside weights and cache in FP16, 1.08 in NF4 and 1.15 in LLM.int8.
CARD_RESERVED_BYTES = 5 * 2**28


class DeviceMemory(Part):
    """A device's memory in one phase of a run."""

    allocated_bytes: int = Field(description="what tensors take at the end of it")
    peak_bytes: int = Field(description="the most that tensors took")
    reserved_bytes: int = Field(description="the most that was reserved for tensors")


class CardFit(Part):
    """Whether a model fits into a card's memory, by arithmetic."""

    card_gib: int
    fits: bool = Field(description="its weights, and a token at least")
    context_tokens: int | None = Field(
        description="how long a text may be then, one at a time; null where it does not fit, and "
        "where the cache of a token is not known"
    )
    is_whole: bool = Field(description="whether that is all that the architecture takes")


class Memory(Part):
    """Bytes of one model: as its format takes them, as they are held here, while it runs."""

    size_bytes: int | None = Field(
        description="what its weights take in their own format: as they are held, in their files "
        "where they are expanded, or by arithmetic where they are emulated"
    )
    bits_per_weight: float | None = Field(
        description="size_bytes in bits over the reference's number of weights; null where that "
        "is not known, of a reference that is quantized itself"
    )
    compression_ratio: float | None = Field(
        description="the reference's size_bytes divided by this variant's"
    )
    expanded: bool | None = Field(
        description="whether quantized weights are expanded to run, for want of a kernel of their "
        "format here: speed is not the format's own then; null until that is known"
    )
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
    cache_bytes_per_token: int | None = Field(
        description="keys and values of each token, in 16 bits; null for another kind of cache"
    )
    cards: list[CardFit] = Field(
        description=f"by card, with {CARD_RESERVED_BYTES} bytes of it kept for the process itself; "
        "empty where the size is not known"
    )
    phases: dict[str, DeviceMemory] = Field(
        description="loading, scoring, generating: those that were had; empty on a CPU"
    )
    device_peak_bytes: int | None = Field(
        description="over all phases; null on a CPU, and where the weights are streamed"
    )
    device_context_bytes: int | None = Field(
        description="what the process takes of the device beside tensors; null on a CPU, and where "
        "the driver does not tell it"
    )
    foreseen_device_bytes: int | None = Field(
        description="what the plan asked of a device: weights, a batch of windows that is scored, "
        "the process itself; null where a format's size cannot be foreseen"
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


class Latency(Part):
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


class GenerationFigures(Part):
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


class DifferentAnswer(Part):
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


class Throughput(Part):
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
