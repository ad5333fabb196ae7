"""The Arrow schema of every table. Actors and the driver make tables by these and no others."""

import pyarrow as pa

# Raised when a column changes its meaning: shards of another version are never read.
SCHEMA_VERSION = 2

LOADING_SCHEMA = pa.schema(
    [
        pa.field("variant", pa.string(), nullable=False),
        pa.field("weights_bytes", pa.int64(), nullable=False),
        pa.field("device_allocated_bytes", pa.int64()),
        pa.field("device_reserved_bytes", pa.int64()),
        pa.field("device_peak_bytes", pa.int64()),
        pa.field("load_seconds", pa.float64(), nullable=False),
    ]
)

WINDOWS_SCHEMA = pa.schema(
    [
        pa.field("variant", pa.string(), nullable=False),
        pa.field("window", pa.int32(), nullable=False),
        pa.field("scored_tokens", pa.int32(), nullable=False),
        # Natural logarithm, summed over the scored tokens in float64.
        pa.field("negative_log_likelihood", pa.float64(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("device_peak_bytes", pa.int64()),
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
        pa.field("seconds", pa.float64(), nullable=False),
        # "stop" (the model ended its answer), "length" (cut off) or "error".
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("success", pa.bool_(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("device_peak_bytes", pa.int64()),
    ]
)

# The stages of a variant, in order, each with the table that its shards make, a row an item.
STAGE_SCHEMAS: dict[str, pa.Schema] = {
    "loading": LOADING_SCHEMA,
    "windows": WINDOWS_SCHEMA,
    "generations": GENERATIONS_SCHEMA,
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
