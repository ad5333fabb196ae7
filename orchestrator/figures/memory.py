"""What a variant's loading and its phases took → its memory, by kind and by phase. Pure."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.comparison_schema import DeviceMemory, Memory

# The kinds of weights: `loading` has a column of each.
_KINDS = ("quantized", "scales", "embeddings", "other")


def memory_of(
    planned: dict[str, Any],
    loading: dict[str, Any],
    reference_loading: dict[str, Any],
    tables: dict[str, pa.Table],
) -> Memory:
    """The memory of a variant.

    Args:
        planned: its row of the table `variants`.
        loading, reference_loading: its row of the table `loading`, and the reference's; empty
            where it is not loaded yet.
        tables: those of its phases, by the phase's name.
    """
    weights, base = loading.get("weights_bytes"), reference_loading.get("weights_bytes")
    phases = {name: found for name, table in tables.items() if (found := _phase(table)) is not None}
    return Memory(
        weights_bytes=weights,
        **{f"{kind}_bytes": loading.get(f"{kind}_weights_bytes") for kind in _KINDS},
        expected_weights_bytes=planned["expected_weights_bytes"],
        running_weights_bytes=loading.get("running_weights_bytes"),
        disk_bytes=planned["disk_bytes"],
        phases=phases,
        device_peak_bytes=max((phase.peak_bytes for phase in phases.values()), default=None),
        device_context_bytes=loading.get("device_context_bytes"),
        compression_ratio=base / weights if base and weights else None,
        disk_ratio=planned["disk_bytes"] / weights if weights else None,
    )


def _phase(table: pa.Table) -> DeviceMemory | None:
    """The most that a phase took; None where it was not had, or not on a device."""
    columns = ("device_allocated_bytes", "device_peak_bytes", "device_reserved_bytes")
    most = [pc.max(table[name]).as_py() if len(table) else None for name in columns]
    if any(count is None for count in most):
        return None
    return DeviceMemory(
        **{name.removeprefix("device_"): count for name, count in zip(columns, most, strict=True)}
    )
