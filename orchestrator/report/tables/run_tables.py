"""Cells of the comparison and of the verdicts → the tables of memory, gates, time, environment."""

from collections.abc import Iterator

from orchestrator.comparison_schema import Comparison, Timeline
from orchestrator.gates.verdicts import Judgement
from orchestrator.report.tables import cells, formats
from orchestrator.report.tables.cells import NOT_LOADED, VARIANT, Cell, Column, ReportTable


def run_tables(comparison: Comparison, judgement: Judgement) -> Iterator[ReportTable]:
    """The tables of memory, gates, time and environment, in the report's order."""
    yield _memory(comparison)
    if any(v.memory.phases for v in comparison.variants.values()):
        yield _phases(comparison)
    yield _gates(comparison, judgement)
    if comparison.timeline is not None:
        yield _time(comparison.timeline)
    yield _environment(comparison)


def _memory(comparison: Comparison) -> ReportTable:
    columns = [
        VARIANT,
        Column("size", "size_bytes", NOT_LOADED),
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
        "Size is what the weights take in their own format: as they are held after loading, or in "
        "their files where they are expanded here. Compression is "
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
        Column("phase", "phase", look="text"),
        Column("tensors at its end", "allocated_bytes"),
        Column("tensors at most", "peak_bytes"),
        Column("reserved at most", "reserved_bytes"),
        Column("context", "context_bytes", "the driver does not tell what a process takes"),
    ]
    rows = [
        [
            cells.text(name),
            cells.text(phase),
            cells.size(m.allocated_bytes),
            cells.size(m.peak_bytes),
            cells.size(m.reserved_bytes),
            cells.size(v.memory.device_context_bytes),
        ]
        for name, v in comparison.variants.items()
        for phase, m in v.memory.phases.items()
    ]
    note = (
        "Of the device: what torch has given to tensors and what it has reserved for them; the "
        "context is what the process takes beside that."
    )
    return ReportTable("memory_phases", "Memory of the device by phase", columns, rows, [note])


def _gates(comparison: Comparison, judgement: Judgement) -> ReportTable:
    columns = [
        Column("gate", "gate", look="text"),
        VARIANT,
        Column("category", "category", "all prompts or windows", look="text"),
        Column("measured", "measured", "not measured"),
        Column("verdict", "verdict", look="text"),
    ]
    rows = [
        [
            cells.text(result.gate),
            cells.text(result.variant),
            cells.absent() if result.category is None else cells.text(result.category),
            Cell(formats.gated(result), result.value, result.interval),
            cells.text(result.verdict + (f": {result.reason}" if result.reason else "")),
        ]
        for result in judgement.results
    ]
    note = (
        f"An estimate passes where its whole {formats.level(comparison.confidence)} interval does, "
        "and fails where none of it does; between, it is undecided."
    )
    caption = "Gates" if judgement.asked else f"The rule '{judgement.rule}', gate by gate"
    return ReportTable("gates", caption, columns, rows, [note])


def _time(timeline: Timeline) -> ReportTable:
    phases = [*timeline.devices[0].seconds]
    columns = [
        Column("device", "device"),
        *(Column(phase, f"{phase}_seconds") for phase in phases),
        Column("busy", "busy_share"),
    ]
    rows = [
        [
            cells.count(device.device),
            *(cells.tenths(device.seconds[phase]) for phase in phases),
            cells.share_of_all(device.busy_share),
        ]
        for device in timeline.devices
    ]
    note = (
        "In seconds, from the command to the last shard. A device is sending while a shard and "
        "what it is held against are under way to it and it has nothing else to do, and waiting "
        "while there is nothing for it. It is busy when it scores or answers, as a share of the "
        "time from when it first held a model to the run's last shard. `trace.json` has every "
        "shard; Perfetto and Chrome's `about:tracing` show it."
    )
    return ReportTable("time", "Where the time went, in seconds", columns, rows, [note])


def _environment(comparison: Comparison) -> ReportTable:
    p = comparison.provenance
    revision = f" @ {p.model.revision}" if p.model.revision else ""
    d = p.dataset
    rows = [
        [cells.text("model"), cells.text(f"{p.model.id}{revision}")],
        [cells.text("model content"), cells.quoted(p.model.content_hash)],
        [
            cells.text("data set"),
            cells.text(
                f"{d.name}: {d.documents} documents, {d.tokens} tokens, {d.words} words, "
                f"{d.bytes} bytes"
            ),
        ],
        [cells.text("data set content"), cells.quoted(d.content_hash)],
        *(
            [
                cells.text(name),
                cells.text(v.checkpoint + (f", {v.method}" if v.method else "")),
            ]
            for name, v in comparison.variants.items()
            if v.checkpoint != p.model.id
        ),
        [
            cells.text("compute dtype"),
            cells.text(", ".join(f"{n} {v.compute_dtype}" for n, v in comparison.variants.items())),
        ],
        *(
            [cells.text(f"kernel of {name}"), cells.text(v.kernel)]
            for name, v in comparison.variants.items()
            if v.kernel is not None
        ),
        [cells.text("devices"), cells.text(", ".join(p.devices))],
        *(
            [cells.text(library), cells.text(", ".join(versions) or formats.ABSENT)]
            for library, versions in p.versions.items()
        ),
        [
            cells.text("started, finished"),
            cells.text(", ".join(map(formats.moment, (p.started, p.finished)))),
        ],
    ]
    columns = [Column("of", "what", look="text"), Column("value", "value", look="text")]
    return ReportTable("environment", "What the figures depend on", columns, rows)
