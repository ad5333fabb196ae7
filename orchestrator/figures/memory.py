"""What a variant's loading and its phases took → its memory, by kind and by phase. Pure."""

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.comparison_schema import DeviceMemory, Memory
from orchestrator.contract.variants import DTYPE_BYTES
from orchestrator.figures.cards import fits_of
from orchestrator.figures.variant_tables import VariantTables

# The kinds of weights: `loading` has a column of each.
_KINDS = ("quantized", "scales", "embeddings", "other")
# Those whose weights are numbers of one dtype.
_PLAIN_KINDS = ("plain", "adapter", "gguf")
_CACHE_DTYPE_BYTES = 2
# Those whose weights are rounded alike where a device has no kernel of their format.
_EMULATED_KINDS = ("torchao-tile", "format")
# Quantized weights that take more than this share of the reference's are no longer quantized.
_EXPANDED = 0.9


def memory_of(
    variant: VariantTables,
    reference: VariantTables,
    tables: dict[str, pa.Table],
    maximum_length: int | None,
) -> Memory:
    """The memory of a variant.

    Args:
        maximum_length: the most tokens that the model takes, where that is known.
        tables: those of its phases, by the phase's name.
    """
    loading, disk = variant.loading, variant.row["disk_bytes"]
    weights = loading.get("weights_bytes")
    numbers, cache = _numbers(reference), _cache_bytes(variant)
    size, whole = (_size(each, reference) for each in (variant, reference))
    phases = {name: found for name, table in tables.items() if (found := _phase(table)) is not None}
    return Memory(
        size_bytes=size,
        bits_per_weight=8 * size / numbers if size and numbers else None,
        compression_ratio=whole / size if whole and size else None,
        expanded=is_expanded(variant, reference),
        weights_bytes=weights,
        **{f"{kind}_bytes": loading.get(f"{kind}_weights_bytes") for kind in _KINDS},
        expected_weights_bytes=variant.row["expected_weights_bytes"],
        running_weights_bytes=loading.get("running_weights_bytes"),
        disk_bytes=disk,
        cache_bytes_per_token=cache,
        cards=fits_of(size, cache, maximum_length),
        phases=phases,
        # A device that has but some of the weights says nothing of what the variant takes.
        device_peak_bytes=None
        if variant.is_streamed
        else max((phase.peak_bytes for phase in phases.values()), default=None),
        device_context_bytes=loading.get("device_context_bytes"),
        foreseen_device_bytes=variant.row["foreseen_device_bytes"],
        disk_ratio=disk / weights if weights else None,
    )


def is_expanded(variant: VariantTables, reference: VariantTables) -> bool | None:
    """Whether quantized weights are expanded once the model has run.

    Returns:
        None where it has some, and one of the two has not been loaded yet.
    """
    if variant.row["kind"] in _EMULATED_KINDS:
        return is_emulated(variant)
    if variant.method is None:
        return False
    running, whole = (each.loading.get("running_weights_bytes") for each in (variant, reference))
    if running is None or whole is None:
        return None
    return bool(running > _EXPANDED * whole)


def is_emulated(variant: VariantTables) -> bool | None:
    """Whether what it quantizes is rounded alike, for want of a kernel, and held as plain numbers.

    Returns:
        None where it has not been loaded yet.
    """
    if variant.row["kind"] not in _EMULATED_KINDS:
        return False
    quantized = variant.loading.get("quantized_weights_bytes")
    return None if quantized is None else quantized == 0


def _size(variant: VariantTables, reference: VariantTables) -> int | None:
    """What a variant's weights take in their own format."""
    expanded, held = is_expanded(variant, reference), variant.loading.get("weights_bytes")
    if expanded is None or held is None:
        return None
    if not expanded:
        return int(held)
    # What is made here of the model has no file of its own.
    own = "disk_bytes" if variant.method is not None else "expected_weights_bytes"
    return int(variant.row[own])


def _numbers(reference: VariantTables) -> int | None:
    """How many weights the model has, by the tensors of its reference; None of quantized ones."""
    expected = reference.row["expected_weights_bytes"]
    if expected is None or reference.row["kind"] not in _PLAIN_KINDS:
        return None
    return int(expected) // DTYPE_BYTES[reference.row["weights_dtype"]]


def _cache_bytes(variant: VariantTables) -> int | None:
    """What the cache of a token takes in 16 bits; it was measured in the dtype of arithmetic."""
    measured = variant.loading.get("cache_bytes_per_token")
    if measured is None:
        return None
    return int(measured * _CACHE_DTYPE_BYTES / DTYPE_BYTES[variant.row["compute_dtype"]])


def _phase(table: pa.Table) -> DeviceMemory | None:
    """The most that a phase took; None where it was not had, or not on a device."""
    columns = ("device_allocated_bytes", "device_peak_bytes", "device_reserved_bytes")
    most = [pc.max(table[name]).as_py() if len(table) else None for name in columns]
    if any(count is None for count in most):
        return None
    return DeviceMemory(
        **{name.removeprefix("device_"): count for name, count in zip(columns, most, strict=True)}
    )
