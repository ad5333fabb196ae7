"""Cells of the comparison and of the verdicts → the tables of gates, time, environment."""

from collections.abc import Iterator

from orchestrator.comparison_schema import Comparison, Timeline
from orchestrator.gates.verdicts import Judgement
from orchestrator.report.tables import cells, formats
from orchestrator.report.tables.cells import VARIANT, Cell, Column, ReportTable


def run_tables(comparison: Comparison, judgement: Judgement) -> Iterator[ReportTable]:
    """The tables of gates, time and environment, in the report's order."""
    yield _gates(comparison, judgement)
    if comparison.timeline is not None:
        yield _time(comparison.timeline)
    yield _environment(comparison)


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
