"""What a variant's loading and its phases took → its memory, by kind and by phase. Pure."""

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.comparison_schema import DeviceMemory, Memory
from orchestrator.figures.variant_tables import VariantTables

# The kinds of weights: `loading` has a column of each.
_KINDS = ("quantized", "scales", "embeddings", "other")
# Quantized weights that take more than this share of the reference's are no longer quantized.
_EXPANDED = 0.9


def memory_of(
    variant: VariantTables, reference: VariantTables, tables: dict[str, pa.Table]
) -> Memory:
    """The memory of a variant.

    Args:
        tables: those of its phases, by the phase's name.
    """
    loading, disk = variant.loading, variant.row["disk_bytes"]
    weights = loading.get("weights_bytes")
    size, whole = (_size(each, reference) for each in (variant, reference))
    phases = {name: found for name, table in tables.items() if (found := _phase(table)) is not None}
    return Memory(
        size_bytes=size,
        compression_ratio=whole / size if whole and size else None,
        expanded=is_expanded(variant, reference),
        weights_bytes=weights,
        **{f"{kind}_bytes": loading.get(f"{kind}_weights_bytes") for kind in _KINDS},
        expected_weights_bytes=variant.row["expected_weights_bytes"],
        running_weights_bytes=loading.get("running_weights_bytes"),
        disk_bytes=disk,
        phases=phases,
        device_peak_bytes=max((phase.peak_bytes for phase in phases.values()), default=None),
        device_context_bytes=loading.get("device_context_bytes"),
        disk_ratio=disk / weights if weights else None,
    )


def is_expanded(variant: VariantTables, reference: VariantTables) -> bool | None:
    """Whether a checkpoint's quantized weights are expanded once the model has run.

    Returns:
        None where it has some, and one of the two has not been loaded yet.
    """
    if variant.method is None:
        return False
    running, whole = (each.loading.get("running_weights_bytes") for each in (variant, reference))
    if running is None or whole is None:
        return None
    return bool(running > _EXPANDED * whole)


def _size(variant: VariantTables, reference: VariantTables) -> int | None:
    """What a variant's weights take in their own format."""
    expanded, held = is_expanded(variant, reference), variant.loading.get("weights_bytes")
    if expanded is None or held is None:
        return None
    return int(variant.row["disk_bytes"] if expanded else held)


def _phase(table: pa.Table) -> DeviceMemory | None:
    """The most that a phase took; None where it was not had, or not on a device."""
    columns = ("device_allocated_bytes", "device_peak_bytes", "device_reserved_bytes")
    most = [pc.max(table[name]).as_py() if len(table) else None for name in columns]
    if any(count is None for count in most):
        return None
    return DeviceMemory(
        **{name.removeprefix("device_"): count for name, count in zip(columns, most, strict=True)}
    )
