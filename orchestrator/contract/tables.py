"""The Arrow schema of every table. Actors and the driver make tables by these and no others."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

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
        # What multiplies quantized weights, where that is not the quantizer's own.
        pa.field("kernel", pa.string()),
        # How many tokens its logits are over.
        pa.field("vocabulary", pa.int32(), nullable=False),
        # Of noise in its weights: the standard deviation, and how many of these weights its
        # quantizer then rounds to another level; null without noise, and where nothing rounds them.
        pa.field("noise_sigma", pa.float64()),
        pa.field("codes_changed_share", pa.float64()),
        # Which of these could not be had, and why.
        pa.field("unmeasured", pa.string()),
    ]
)

# Of a window, or of a prompt with its answer: then `window` is the prompt's number.
WINDOW_FIELDS = [
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
WINDOWS_SCHEMA = pa.schema([*WINDOW_FIELDS, TOKEN_LISTS, WORST_TOKEN_LISTS])
# Windows of the reference against itself; in which other order it computed the second time.
OTHER_ORDER = pa.field("other_order", pa.string(), nullable=False)
NOISE_SCHEMA = pa.schema([*WINDOW_FIELDS, TOKEN_LISTS, OTHER_ORDER])
TEACHER_FORCED_SCHEMA = pa.schema([*WINDOW_FIELDS, TOKEN_LISTS])
TOKENS_SCHEMA = pa.schema(
    [
        pa.field("variant", pa.string(), nullable=False),
        pa.field("window", pa.int32(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        *TOKEN_FIELDS,
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
        TIMING_LISTS,
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
        # What the plan asked of a device: weights, a batch of windows, the process itself.
        pa.field("foreseen_device_bytes", pa.int64()),
        # Where its weights are while it computes: "device", "devices:N" (layers over so many) or
        # "stream" (on the host, layer by layer to the device).
        pa.field("placement", pa.string(), nullable=False),
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
        # What else the variant was loaded by, `gguf 0.19.0`; and this program's own.
        pa.field("packages", pa.list_(pa.field("item", pa.string(), nullable=False))),
        # What multiplied in most linear layers, `bitsandbytes Linear4bit`.
        pa.field("linear", pa.string()),
        pa.field("orchestrator_version", pa.string()),
    ]
)

# What the weights of each checkpoint show of quantization before the run, a row a tensor.
INTEGRITY_SCHEMA = pa.schema(
    [
        # As the table `variants` calls it.
        pa.field("checkpoint", pa.string(), nullable=False),
        pa.field("tensor", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),
        pa.field("shape", pa.list_(pa.field("item", pa.int64(), nullable=False)), nullable=False),
        # As its file calls it; and the coarsest one that has all of the weights read.
        pa.field("dtype", pa.string(), nullable=False),
        pa.field("holds", pa.string()),
        # "plain", "on a grid", "unclear", "quantized" (its dtype says so) or "not examined".
        pa.field("verdict", pa.string(), nullable=False),
        # Which grid, and by what names it is known; weights that share a scale: so many, "row",
        # "column", "tensor" or a tile such as "128x128".
        pa.field("family", pa.string()),
        pa.field("names", pa.list_(pa.field("item", pa.string(), nullable=False)), nullable=False),
        pa.field("block", pa.string()),
        pa.field("bits", pa.int32()),
        pa.field("scales", pa.string()),
        pa.field("groups_permuted", pa.bool_(), nullable=False),
        # Of the blocks read, those on the grid; distinct values of a block, and in random order.
        pa.field("share", pa.float64()),
        pa.field("distinct", pa.float64()),
        pa.field("expected", pa.float64()),
        # Of a bound of the chance that random order has so few, corrected (Holm).
        pa.field("log10_p", pa.float64()),
        pa.field("reason", pa.string()),
    ]
)


def answers_in(table: pa.Table) -> list[list[int]]:
    """The token ids of each prompt's answer in a table `generations`, prompt by prompt."""
    return [ids or [] for ids in table["token_ids"].to_pylist()]


def is_record_list(field: pa.Field) -> bool:
    """Whether a column holds a list of records a row, for which a run's tables have rows."""
    return bool(pa.types.is_list(field.type) and pa.types.is_struct(field.type.value_type))


def less(schema: pa.Schema, *columns: str) -> pa.Schema:
    """A schema without some of its columns."""
    return pa.schema([field for field in schema if field.name not in columns])


def make_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table of a schema, nothing left out and nothing made up.

    Args:
        rows: by column; each has all columns of the schema and no other, records in lists
            likewise.

    Raises:
        ValueError: a row has an unknown column, lacks one, or has none where there must be one.
    """
    for row in rows:
        _check_names(row, schema, "row")
    table = pa.Table.from_pylist(list(rows), schema=schema)
    check_no_nulls(table)
    return table


def check_no_nulls(table: pa.Table) -> None:
    """Holds a table against its own schema; Arrow itself lets nulls into any column.

    Raises:
        ValueError: there is a null where the schema says that there is none; names the column.
    """
    for field in table.schema:
        for chunk in table[field.name].chunks:
            for name in _null_places(field, chunk):
                raise ValueError(f"column {name} has no value in some row")


def _check_names(record: Mapping[str, Any], fields: Sequence[pa.Field], what: str) -> None:
    names = [field.name for field in fields]
    for name in record:
        if name not in names:
            raise ValueError(f"a {what} has the unknown column {name}")
    for field in fields:
        if field.name not in record:
            raise ValueError(f"a {what} lacks the column {field.name}")
        if is_record_list(field):
            for each in record[field.name] or ():
                _check_names(each, list(field.type.value_type), f"record of {field.name}")


def _null_places(field: pa.Field, array: pa.Array) -> Iterator[str]:
    """The dotted names of what is null and must not be, in a column and what lies in it."""
    if not field.nullable and array.null_count:
        yield field.name
    inner: tuple[tuple[pa.Field, pa.Array], ...]
    if pa.types.is_list(field.type):
        inner = ((field.type.value_field, array.flatten()),)
    elif pa.types.is_struct(field.type):
        # Of records that are there; `flatten` makes a null of what lies in one that is not.
        there = array.drop_null()
        inner = tuple(zip(field.type, there.flatten(), strict=True))
    else:
        return
    for part, values in inner:
        yield from (f"{field.name}.{name}" for name in _null_places(part, values))
