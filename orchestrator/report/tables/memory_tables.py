"""Cells of the comparison → the tables of memory: of cards, of weights, of a device by phase."""

from collections.abc import Iterator

from orchestrator.comparison_schema import (
    CARD_RESERVED_BYTES,
    CardFit,
    Comparison,
    DeviceMemory,
    Memory,
)
from orchestrator.report.tables import cells, formats
from orchestrator.report.tables.cells import NOT_LOADED, VARIANT, Cell, Column, ReportTable

_CONTEXT_UNKNOWN = "the driver does not tell what a process takes"
_OTHER_CACHE = "another kind of cache, or not measured"


def memory_tables(comparison: Comparison) -> Iterator[ReportTable]:
    """The tables of memory that there is something for."""
    if any(v.memory.cards for v in comparison.variants.values()):
        yield _cards(comparison)
    yield _memory(comparison)
    if any(v.memory.phases for v in comparison.variants.values()):
        yield _phases(comparison)


def _cards(comparison: Comparison) -> ReportTable:
    known = {name: v.memory for name, v in comparison.variants.items() if v.memory.cards}
    columns = [
        VARIANT,
        Column("size", "size_bytes"),
        Column("cache of a token", "cache_bytes_per_token", _OTHER_CACHE),
        *(
            Column(f"{card.card_gib} GiB", f"context_tokens_{card.card_gib}_gib")
            for card in next(iter(known.values())).cards
        ),
    ]
    rows = [
        [
            cells.text(name),
            cells.size(memory.size_bytes),
            cells.size(memory.cache_bytes_per_token),
            *map(_fit, memory.cards),
        ]
        for name, memory in known.items()
    ]
    longest = comparison.provenance.maximum_length
    whole = "" if longest is None else f"; all are the {longest} that the model takes"
    reserved = formats.size(CARD_RESERVED_BYTES)
    note = (
        "How many tokens of one text, its prompt and its answer, a card of so much memory holds "
        f"beside the weights{whole}. By arithmetic: weights in their own format, keys and values "
        f"in 16 bits, and {reserved} kept for the driver, its libraries and what a step computes."
    )
    return ReportTable("cards", "Tokens of context by card", columns, rows, [note])


def _fit(card: CardFit) -> Cell:
    if not card.fits:
        return Cell("no", 0)
    if card.context_tokens is None:
        return Cell("yes", "fits")
    return Cell("all" if card.is_whole else str(card.context_tokens), card.context_tokens)


def _memory(comparison: Comparison) -> ReportTable:
    columns = [
        VARIANT,
        Column("size", "size_bytes", NOT_LOADED),
        Column("bits per weight", "bits_per_weight", "the reference is quantized"),
        Column("compression", "compression_ratio", NOT_LOADED),
        Column("held here", "weights_bytes", NOT_LOADED),
        Column("by arithmetic", "expected_weights_bytes", "a format without one"),
        Column("quantized", "quantized_bytes"),
        Column("scales", "scales_bytes"),
        Column("embedding and head", "embeddings_bytes"),
        Column("other", "other_bytes"),
        Column("while it runs here", "running_weights_bytes"),
        Column("on disk", "disk_bytes"),
        Column("on disk over held", "disk_ratio"),
    ]
    rows = []
    for name, v in comparison.variants.items():
        m = v.memory
        kinds = (m.quantized_bytes, m.scales_bytes, m.embeddings_bytes, m.other_bytes)
        rows.append(
            [
                cells.text(name),
                cells.size(m.size_bytes),
                cells.significant(m.bits_per_weight),
                cells.times(m.compression_ratio),
                cells.size(m.weights_bytes),
                cells.size(m.expected_weights_bytes),
                *map(cells.size, kinds),
                cells.size(m.running_weights_bytes),
                cells.size(m.disk_bytes),
                cells.times(m.disk_ratio),
            ]
        )
    notes = [
        "Size is what the weights take in their own format: as they are held after loading, in "
        "their files where they are expanded here, by arithmetic where they are emulated; bits per "
        "weight are that over the number of weights, those that are not quantized included. "
        "Compression is "
        f"{comparison.reference}'s size over the variant's. Of what is held, quantized are the "
        "numbers in few bits, scales what makes weights of these; other are layers that are not "
        "quantized, norms and biases. While it runs, what is not quantized is in the dtype of the "
        "arithmetic. On disk is what the checkpoint's tensors take that a variant is made of, then "
        "that over what it holds."
    ]
    if not any(v.memory.phases for v in comparison.variants.values()):
        notes.append("Of a device's memory nothing is measured on a CPU.")
    return ReportTable("memory", "Memory of the weights by kind", columns, rows, notes)


def _phases(comparison: Comparison) -> ReportTable:
    columns = [
        VARIANT,
        Column("placement", "placement", look="text"),
        Column("phase", "phase", look="text"),
        Column("tensors at its end", "allocated_bytes"),
        Column("tensors at most", "peak_bytes"),
        Column("reserved at most", "reserved_bytes"),
        Column("context", "context_bytes", _CONTEXT_UNKNOWN),
        Column("tensors and context", "taken_bytes", _CONTEXT_UNKNOWN),
        Column("foreseen", "foreseen_device_bytes", "the plan foresees scoring alone"),
    ]
    rows = [
        [
            cells.text(name),
            cells.text(v.placement),
            cells.text(phase),
            cells.size(m.allocated_bytes),
            cells.size(m.peak_bytes),
            cells.size(m.reserved_bytes),
            cells.size(v.memory.device_context_bytes),
            cells.size(_taken(m, v.memory)),
            cells.size(v.memory.foreseen_device_bytes if phase == "scoring" else None),
        ]
        for name, v in comparison.variants.items()
        for phase, m in v.memory.phases.items()
    ]
    note = (
        "Of the device: what torch has given to tensors and what it has reserved for them; the "
        "context is what the process takes beside that. Foreseen is what the plan asked for: "
        "weights, a batch of windows, the context."
    )
    if any(v.is_streamed for v in comparison.variants.values()):
        note += (
            " Of what is streamed, the device has two layers at a time, and what is of no layer."
        )
    return ReportTable("memory_phases", "Memory of the device by phase", columns, rows, [note])


def _taken(phase: DeviceMemory, memory: Memory) -> int | None:
    """The most that a phase took of the device."""
    context = memory.device_context_bytes
    return None if context is None else phase.peak_bytes + context
