"""Several runs → tables: side by side where they are alike, and one model over time."""

from collections.abc import Callable, Iterator, Sequence

from orchestrator.comparison_schema import VariantFigures
from orchestrator.gates.verdicts import Judgement
from orchestrator.report.tables import cells, formats
from orchestrator.report.tables.cells import (
    NOT_COMPARED,
    ON_CPU,
    ONE_TOKEN,
    VARIANT,
    Cell,
    Column,
    ReportTable,
)
from orchestrator.runs.finished import FinishedRun
from orchestrator.runs.history import Series, changes

_RUN = Column("run", "run", look="text")
_MODEL = Column("model", "model", look="text")


def side_by_side(runs: Sequence[FinishedRun]) -> Iterator[ReportTable]:
    """A table for those that are alike: of quality by text, of speed by prompts and machine.

    Weights are counted the same everywhere: one table of all.
    """
    for number, group in enumerate(_groups(runs, lambda run: run.text), start=1):
        yield _quality(group, f"quality_{number}")
    answered = [run for run in runs if _answered(run)]
    alike = _groups(answered, lambda run: (run.answers, run.machine))
    for number, group in enumerate(alike, start=1):
        yield _speed(group, f"speed_{number}")
    yield _memory(runs)


def _groups(
    runs: Sequence[FinishedRun], key: Callable[[FinishedRun], tuple[object, ...]]
) -> list[list[FinishedRun]]:
    found: dict[tuple[object, ...], list[FinishedRun]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return list(found.values())


def _answered(run: FinishedRun) -> bool:
    return any(v.generation.latency for v in run.comparison.variants.values())


def _rows(runs: Sequence[FinishedRun]) -> Iterator[tuple[list[Cell], VariantFigures]]:
    for run in runs:
        for name, figures in run.comparison.variants.items():
            start = [
                cells.text(run.label),
                cells.text(run.comparison.provenance.model.id),
                cells.text(name),
            ]
            yield start, figures


def _quality(runs: Sequence[FinishedRun], name: str) -> ReportTable:
    p = runs[0].comparison.provenance
    models = {run.comparison.provenance.model.content_hash for run in runs}
    columns = [
        *(_RUN, _MODEL, VARIANT),
        Column("bits per byte", "bits_per_byte"),
        Column("perplexity", "perplexity", "tokens of unlike models"),
        Column("change", "perplexity_change_pct", NOT_COMPARED),
        Column("KL from its reference", "kl_nats", NOT_COMPARED),
        Column("same top token", "same_top_token_share", NOT_COMPARED),
    ]
    rows = [
        [
            *start,
            cells.measure(v.bits_per_byte, 4),
            # A token of another model is another piece of text.
            cells.measure(v.perplexity, 4) if len(models) == 1 else cells.absent(),
            cells.change(v.perplexity),
            cells.kl(v.kl),
            cells.percent(v.same_top_token),
        ]
        for start, v in _rows(runs)
    ]
    stride = "" if p.stride is None else f", one every {p.stride}"
    caption = (
        f"Quality on {p.dataset.name}, protocol {p.protocol}, windows of {p.window_length} tokens"
        f"{stride}{formats.windows_taken(p)}"
    )
    return ReportTable(name, caption, columns, rows)


def _speed(runs: Sequence[FinishedRun], name: str) -> ReportTable:
    p = runs[0].comparison.provenance
    columns = [
        *(_RUN, _MODEL, VARIANT),
        Column("decoding", "decoding", look="text"),
        Column("tokens per second", "tokens_per_second"),
        Column("per token, ms", "time_per_output_token_seconds", ONE_TOKEN),
        Column("of the memory's speed", "memory_bandwidth_share", ON_CPU),
    ]
    rows = [
        [
            *start,
            cells.text(way),
            cells.measure(latency.tokens_per_second, 1),
            cells.milliseconds(latency.time_per_output_token_seconds),
            cells.percent(latency.memory_bandwidth_share, 1),
        ]
        for start, v in _rows(runs)
        for way, latency in v.own_latency.items()
    ]
    caption = (
        f"Speed on {', '.join(p.devices)}, the same prompts, at most {p.max_new_tokens} new tokens"
    )
    return ReportTable(name, caption, columns, rows)


def _memory(runs: Sequence[FinishedRun]) -> ReportTable:
    columns = [
        *(_RUN, _MODEL, VARIANT),
        Column("size", "size_bytes"),
        Column("compression", "compression_ratio"),
        Column("device, at most", "device_peak_bytes", ON_CPU),
    ]
    rows = [
        [
            *start,
            cells.size(v.memory.size_bytes),
            cells.times(v.memory.compression_ratio),
            cells.size(v.memory.device_peak_bytes),
        ]
        for start, v in _rows(runs)
    ]
    return ReportTable("memory", "Memory", columns, rows)


def unlike(runs: Sequence[FinishedRun]) -> list[str]:
    """What must not be read across the runs, and why."""
    found = []
    if len(_groups(runs, lambda run: run.text)) > 1:
        found.append(
            "The runs have unlike texts, protocols or windows: their likelihoods stand in tables "
            "of their own and are not to be compared across them."
        )
    answered = [run for run in runs if _answered(run)]
    if len(_groups(answered, lambda run: run.answers)) > 1:
        found.append("The runs have unlike prompts: their speeds stand in tables of their own.")
    elif len(_groups(answered, lambda run: run.machine)) > 1:
        found.append("The runs were on unlike devices: their speeds stand in tables of their own.")
    versions = [run.comparison.provenance.versions for run in runs]
    if any(each != versions[0] for each in versions):
        for run in runs[1:]:
            named = changes(runs[0], run)
            if named:
                found.append(f"{run.name} beside {runs[0].name}: {'; '.join(named)}.")
    return found


def over_time(series: Series, judgements: Sequence[Judgement | None]) -> ReportTable:
    """A row a run and variant, with what changed since the run before.

    Args:
        judgements: of each run, where gates are asked for.
    """
    gated = any(judgement is not None for judgement in judgements)
    columns = [
        Column("started", "started", look="text"),
        *(_RUN, VARIANT),
        Column("perplexity", "perplexity"),
        Column("KL", "kl_nats", NOT_COMPARED),
        Column("tokens per second", "tokens_per_second", "no answers, or not its own speed"),
        Column("size", "size_bytes"),
        *([Column("gates", "gates", "no gate", look="text")] if gated else []),
        Column("changed since the run before", "changed", look="text"),
    ]
    rows = []
    for number, (run, judgement) in enumerate(zip(series.runs, judgements, strict=True)):
        changed = [] if number == 0 else changes(series.runs[number - 1], run)
        for row, (name, v) in enumerate(run.comparison.variants.items()):
            latencies = list(v.own_latency.values())
            verdict = None if judgement is None else judgement.recommendation.verdicts.get(name)
            rows.append(
                [
                    cells.text(formats.moment(run.comparison.provenance.started)),
                    cells.text(run.label),
                    cells.text(name),
                    cells.measure(v.perplexity, 4),
                    cells.kl(v.kl),
                    cells.measure(latencies[0].tokens_per_second, 1)
                    if latencies
                    else cells.absent(),
                    cells.size(v.memory.size_bytes),
                    *([cells.text(verdict) if verdict else cells.absent()] if gated else []),
                    cells.text("; ".join(changed) if row == 0 else ""),
                ]
            )
    return ReportTable("history", f"{series.model} over time", columns, rows)
