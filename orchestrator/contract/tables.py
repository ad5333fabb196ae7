"""The Arrow schema of every table. Actors and the driver make tables by these and no others."""

import pyarrow as pa

# Raised when a column changes its meaning: shards of another version are never read.
SCHEMA_VERSION = 8

# Of the device: what tensors take at the end, the most that they took in the stage so far, and the
# most that was reserved for them. Null on a CPU.
DEVICE_FIELDS = [
    pa.field("device_allocated_bytes", pa.int64()),
    pa.field("device_peak_bytes", pa.int64()),
    pa.field("device_reserved_bytes", pa.int64()),
]

LOADING_SCHEMA = pa.schema(
    [
        pa.field("variant", pa.string(), nullable=False),
        # As they are held after loading; then the same by kind.
        pa.field("weights_bytes", pa.int64(), nullable=False),
        pa.field("quantized_weights_bytes", pa.int64(), nullable=False),
        pa.field("scales_weights_bytes", pa.int64(), nullable=False),
        pa.field("embeddings_weights_bytes", pa.int64(), nullable=False),
        pa.field("other_weights_bytes", pa.int64(), nullable=False),
        # Once the model has run, in the dtype of its arithmetic.
        pa.field("running_weights_bytes", pa.int64(), nullable=False),
        *DEVICE_FIELDS,
        # What the process takes of the device beside that, once the model has run.
        pa.field("device_context_bytes", pa.int64()),
        pa.field("load_seconds", pa.float64(), nullable=False),
        # What a new token reads: of the weights, and of the cache for each token before it; null
        # where it is not known (experts, other caches than of keys and values).
        pa.field("read_weights_bytes", pa.int64()),
        pa.field("cache_bytes_per_token", pa.int64()),
        # How fast the device's memory is, read and written bytes alike, measured by a copy.
        pa.field("device_copy_bytes_per_second", pa.float64()),
    ]
)

WINDOWS_SCHEMA = pa.schema(
    [
        pa.field("variant", pa.string(), nullable=False),
        pa.field("window", pa.int32(), nullable=False),
        # The place in the window of the first token that is scored.
        pa.field("first_position", pa.int32(), nullable=False),
        pa.field("scored_tokens", pa.int32(), nullable=False),
        # Natural logarithm, summed over the scored tokens in float64.
        pa.field("negative_log_likelihood", pa.float64(), nullable=False),
        # "head" (made of what goes into the output head, a few positions at a time) or "model".
        pa.field("logits_from", pa.string(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        *DEVICE_FIELDS,
    ]
)

# Of a scored token. Natural logarithms; what is held against the reference is null for itself.
TOKEN_FIELDS = [
    pa.field("token", pa.int32(), nullable=False),
    pa.field("negative_log_likelihood", pa.float32(), nullable=False),
    pa.field("reference_negative_log_likelihood", pa.float32()),
    # Of the reference's distribution from the variant's, KL(reference ‖ variant), and the reverse.
    pa.field("kl", pa.float32()),
    pa.field("reverse_kl", pa.float32()),
    # The true token's probability less that under the reference.
    pa.field("probability_change", pa.float32()),
    # To which token each of the two gives the highest probability, and which that is.
    pa.field("reference_top_token", pa.int32()),
    pa.field("reference_top_probability", pa.float32()),
    pa.field("top_token", pa.int32()),
    pa.field("top_probability", pa.float32()),
    pa.field("same_top_token", pa.bool_()),
]
# Of those tokens of a shard that differ most from the reference, what a person would look at; so
# many that, whatever the cut, those of all shards together hold as many of the run.
WORST_TOKENS = 20
WORST_TOKEN_FIELDS = [
    pa.field("position", pa.int32(), nullable=False),
    # What is before the token in its window, the last of it.
    pa.field("context", pa.string(), nullable=False),
    # The true token, and the two top ones.
    pa.field("token_text", pa.string(), nullable=False),
    pa.field("reference_top_token_text", pa.string(), nullable=False),
    pa.field("top_token_text", pa.string(), nullable=False),
]


def _records(name: str, fields: list[pa.Field]) -> pa.Field:
    return pa.field(name, pa.list_(pa.field("item", pa.struct(fields), nullable=False)))


# A shard's file holds the tokens as a list a window; a run's tables hold them as rows.
TOKEN_LISTS = _records("tokens", TOKEN_FIELDS)
WORST_TOKEN_LISTS = _records("worst_tokens", WORST_TOKEN_FIELDS)
WINDOWS_SHARD_SCHEMA = WINDOWS_SCHEMA.append(TOKEN_LISTS).append(WORST_TOKEN_LISTS)
# Windows of the reference against itself; in which other order it computed the second time.
OTHER_ORDER = pa.field("other_order", pa.string(), nullable=False)
NOISE_SCHEMA = WINDOWS_SCHEMA.append(OTHER_ORDER)
NOISE_SHARD_SCHEMA = WINDOWS_SCHEMA.append(TOKEN_LISTS).append(OTHER_ORDER)
# The reference's answers; `window` is the prompt's number.
TEACHER_FORCED_SHARD_SCHEMA = WINDOWS_SCHEMA.append(TOKEN_LISTS)
TOKENS_SCHEMA = pa.schema(
    [
        pa.field("variant", pa.string(), nullable=False),
        pa.field("window", pa.int32(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        *TOKEN_FIELDS,
    ]
)

WORST_TOKENS_SCHEMA = pa.schema(
    [
        pa.field("variant", pa.string(), nullable=False),
        pa.field("window", pa.int32(), nullable=False),
        *WORST_TOKEN_FIELDS,
    ]
)

# What was asked, as it was written, before any chat template.
PROMPTS_SCHEMA = pa.schema(
    [
        pa.field("prompt", pa.int32(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)

GENERATIONS_SCHEMA = pa.schema(
    [
        pa.field("variant", pa.string(), nullable=False),
        pa.field("prompt", pa.int32(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("prompt_tokens", pa.int32(), nullable=False),
        pa.field("new_tokens", pa.int32(), nullable=False),
        # By the first way of decoding, the mean of its repeats.
        pa.field("seconds", pa.float64(), nullable=False),
        # "stop" (the model ended its answer), "length" (cut off) or "error".
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        # The answer's, an end token included; none where it failed before the first.
        pa.field("token_ids", pa.list_(pa.field("item", pa.int32(), nullable=False))),
        pa.field("success", pa.bool_(), nullable=False),
        pa.field("error", pa.string()),
        # Why there is no answer by a CUDA graph, where one was asked for.
        pa.field("graph_refusal", pa.string()),
        *DEVICE_FIELDS,
    ]
)

# Of an answer, each time that it was given.
TIMING_FIELDS = [
    # "eager" (transformers' `generate`) or "graph" (a decoding step as a CUDA graph).
    pa.field("decoding", pa.string(), nullable=False),
    pa.field("repeat", pa.int32(), nullable=False),
    pa.field("new_tokens", pa.int32(), nullable=False),
    # From the prompt to the last token: the sum of the following two, where there is a token.
    pa.field("seconds", pa.float64(), nullable=False),
    pa.field("time_to_first_token_seconds", pa.float64()),
    # Of every later token, since the one before it.
    pa.field("token_seconds", pa.list_(pa.field("item", pa.float64(), nullable=False))),
    # Whether they are those of the answer that is kept.
    pa.field("same_tokens", pa.bool_(), nullable=False),
]
TIMING_LISTS = _records("timings", TIMING_FIELDS)
GENERATIONS_SHARD_SCHEMA = GENERATIONS_SCHEMA.append(TIMING_LISTS)
TIMINGS_SCHEMA = pa.schema(
    [
        pa.field("variant", pa.string(), nullable=False),
        pa.field("prompt", pa.int32(), nullable=False),
        *TIMING_FIELDS,
    ]
)

THROUGHPUT_SCHEMA = pa.schema(
    [
        pa.field("variant", pa.string(), nullable=False),
        pa.field("batch_size", pa.int32(), nullable=False),
        pa.field("decoding", pa.string(), nullable=False),
        pa.field("repeat", pa.int32(), nullable=False),
        # Of each prompt.
        pa.field("prompt_tokens", pa.int32(), nullable=False),
        pa.field("new_tokens", pa.int32(), nullable=False),
        # Of the whole batch, and of its first tokens; null where there is a problem.
        pa.field("seconds", pa.float64()),
        pa.field("time_to_first_token_seconds", pa.float64()),
        # Keys and values of all prompts with their answers; null for another cache.
        pa.field("cache_bytes", pa.int64()),
        # Of this batch alone.
        pa.field("device_peak_bytes", pa.int64()),
        # Why it could not be decoded: memory, or a step that no graph can hold.
        pa.field("problem", pa.string()),
    ]
)

# The stages of a variant, in order, each with the table that its shards make, a row an item.
STAGE_SCHEMAS: dict[str, pa.Schema] = {
    "loading": LOADING_SCHEMA,
    "windows": WINDOWS_SHARD_SCHEMA,
    "noise": NOISE_SHARD_SCHEMA,
    "generations": GENERATIONS_SHARD_SCHEMA,
    "teacher_forced": TEACHER_FORCED_SHARD_SCHEMA,
    "throughput": THROUGHPUT_SCHEMA,
}

# What the plan knew of each variant before anything ran.
VARIANTS_SCHEMA = pa.schema(
    [
        pa.field("variant", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("options", pa.string(), nullable=False),
        pa.field("weights_dtype", pa.string(), nullable=False),
        pa.field("compute_dtype", pa.string(), nullable=False),
        # Null where no arithmetic foresees it.
        pa.field("expected_weights_bytes", pa.int64()),
        # Which weights it is made of, and what their tensors take in their files.
        pa.field("checkpoint", pa.string(), nullable=False),
        pa.field("disk_bytes", pa.int64(), nullable=False),
    ]
)

# Each finished shard, and where it was computed.
SHARDS_SCHEMA = pa.schema(
    [
        pa.field("variant", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),
        pa.field("items", pa.int32(), nullable=False),
        pa.field("device", pa.string(), nullable=False),
        pa.field("driver_version", pa.string()),
        pa.field("python_version", pa.string(), nullable=False),
        pa.field("torch_version", pa.string(), nullable=False),
        pa.field("transformers_version", pa.string(), nullable=False),
        pa.field("bitsandbytes_version", pa.string()),
        pa.field("ray_version", pa.string()),
    ]
)


def answers_in(table: pa.Table) -> list[list[int]]:
    """The token ids of each prompt's answer in a table `generations`, prompt by prompt."""
    return [ids or [] for ids in table["token_ids"].to_pylist()]
