"""The Arrow schema of every table. Actors and the driver make tables by these and no others."""

import pyarrow as pa

from orchestrator.shards import Stage

# Raised when a column changes its meaning: shards of another version are never read.
SCHEMA_VERSION = 1

MEMORY = pa.schema(
    [
        pa.field("variant", pa.string(), nullable=False),
        pa.field("weights_bytes", pa.int64(), nullable=False),
        pa.field("device_allocated_bytes", pa.int64()),
        pa.field("device_reserved_bytes", pa.int64()),
        pa.field("device_peak_bytes", pa.int64()),
        pa.field("load_seconds", pa.float64(), nullable=False),
        pa.field("device", pa.string(), nullable=False),
        pa.field("driver_version", pa.string()),
        pa.field("python_version", pa.string(), nullable=False),
        pa.field("torch_version", pa.string(), nullable=False),
        pa.field("transformers_version", pa.string(), nullable=False),
        pa.field("bitsandbytes_version", pa.string()),
        pa.field("ray_version", pa.string()),
    ]
)

WINDOWS = pa.schema(
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

GENERATIONS = pa.schema(
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

# What the plan knew of each variant before anything ran.
VARIANTS = pa.schema(
    [
        pa.field("variant", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("options", pa.string(), nullable=False),
        pa.field("weights_dtype", pa.string(), nullable=False),
        pa.field("compute_dtype", pa.string(), nullable=False),
        pa.field("expected_weights_bytes", pa.int64(), nullable=False),
        pa.field("planned_windows", pa.int32(), nullable=False),
        pa.field("planned_prompts", pa.int32(), nullable=False),
    ]
)

STAGE_SCHEMAS: dict[Stage, pa.Schema] = {
    "memory": MEMORY,
    "windows": WINDOWS,
    "generations": GENERATIONS,
}
