"""A run's tables → the comparison: every figure once, from cells alone."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.comparison_schema import (
    Compared,
    Comparison,
    NoiseFloor,
    Perplexity,
    Progress,
    Timeline,
    VariantFigures,
)
from orchestrator.comparison_schema.notes import Note, note
from orchestrator.contract.manifest import Manifest
from orchestrator.figures import estimates
from orchestrator.figures.answers import Answers, generation_of, teacher_forced_problem
from orchestrator.figures.divergence import (
    NO_DIVERGENCE,
    Divergence,
    divergence_of,
    finite_windows,
    noise_floor_of,
)
from orchestrator.figures.latency import NO_READS, Reads, throughput_of
from orchestrator.figures.measures import column, compared
from orchestrator.figures.memory import memory_of
from orchestrator.figures.pairs import pairs_of
from orchestrator.figures.provenance import provenance_notes, provenance_of
from orchestrator.storage.reduce import Tables
from orchestrator.storage.tokens import TokenTable

# A measured size further from the arithmetic than this is flagged.
_WEIGHTS_TOLERANCE = 0.01
# Quantized weights that take more than this share of the reference's are no longer quantized.
_EXPANDED = 0.9
# Of those that are not finite, at most.
_NAMED_WINDOWS = 10


@dataclass(frozen=True)
class _VariantTables:
    """The rows of one variant."""

    row: dict[str, Any]
    loadings: pa.Table
    windows: pa.Table
    tokens: TokenTable
    worst_tokens: pa.Table
    answers: Answers
    throughput: pa.Table

    @property
    def name(self) -> str:
        """What the user calls it."""
        return str(self.row["variant"])

    @property
    def method(self) -> str | None:
        """How its checkpoint is quantized already; None for original weights."""
        found = json.loads(self.row["options"]).get("method")
        return None if found is None else str(found)

    @cached_property
    def loading(self) -> dict[str, Any]:
        """Its row of the table `loading`; empty where it is not loaded yet."""
        rows = self.loadings.to_pylist()
        return dict(rows[0]) if rows else {}

    @cached_property
    def comparable(self) -> NDArray[np.bool_]:
        """Whether each window's divergence from the reference is a number: bool `[windows]`."""
        return finite_windows(self.tokens)


def compare(tables: Tables, manifest: Manifest, timeline: Timeline | None = None) -> Comparison:
    """Computes the comparison of a run, whole or partial.

    Variants are held against the reference over the same items only: where one has others, the
    difference is null and a note says so.

    Args:
        timeline: what its events tell of its devices.
    """
    variants = [_rows_of(row, tables) for row in tables.variants.to_pylist()]
    reference = next(variant for variant in variants if variant.name == manifest.reference)
    finished = sum(table.num_rows for table in tables.stages.values())
    planned = sum(record.items for record in manifest.shards)
    notes: list[Note] = []
    noise_floor = noise_floor_of(tables.tokens["noise"][manifest.reference], tables.stages["noise"])
    if noise_floor is None and len(tables.stages["noise"]):
        notes.append(note("noise_not_finite", reference.name))
    figures = {
        variant.name: _figures(variant, reference, manifest, noise_floor, tables.prompts)
        for variant in variants
    }
    for variant in variants:
        notes += _notes(variant, reference)
        found = figures[variant.name]
        if found.kl is not None and found.kl.indistinguishable:
            notes.append(note("indistinguishable", variant.name, reference=reference.name))
        if found.bits_per_byte.value is not None and found.word_perplexity.value is None:
            tokens, words = manifest.tokens, manifest.words
            notes.append(
                note("word_perplexity_too_large", variant.name, tokens=tokens, words=words)
            )
    return Comparison(
        run_id=manifest.run_id,
        reference=manifest.reference,
        complete=finished == planned,
        progress=_progress(tables, manifest),
        variants=figures,
        noise_floor=noise_floor,
        pairs=pairs_of({v.name: v.tokens for v in variants if figures[v.name].kl is not None}),
        notes=[*manifest.notes, *map(str, [*notes, *provenance_notes(tables.shards)])],
        timeline=timeline,
        provenance=provenance_of(tables, manifest),
    )


def _progress(tables: Tables, manifest: Manifest) -> dict[str, dict[str, Progress]]:
    """What was planned of each stage, and what of it is finished."""
    planned: dict[str, dict[str, int]] = {record.variant: {} for record in manifest.variants}
    for record in manifest.shards:
        stages = planned[record.variant]
        stages[record.stage] = stages.get(record.stage, 0) + record.items
    return {
        variant: {
            stage: Progress(
                finished=pc.sum(pc.equal(tables.stages[stage]["variant"], variant)).as_py() or 0,
                planned=items,
            )
            for stage, items in stages.items()
        }
        for variant, stages in planned.items()
    }


def _rows_of(row: dict[str, Any], tables: Tables) -> _VariantTables:
    chosen = pc.field("variant") == row["variant"]
    stages = {stage: table.filter(chosen) for stage, table in tables.stages.items()}
    loading = stages["loading"].to_pylist()
    return _VariantTables(
        row=row,
        loadings=stages["loading"],
        windows=stages["windows"],
        tokens=tables.tokens["windows"][row["variant"]],
        worst_tokens=tables.records["worst_tokens"].filter(chosen),
        answers=Answers(
            rows=stages["generations"],
            timings=tables.records["timings"].filter(chosen),
            teacher_forced=tables.tokens["teacher_forced"][row["variant"]],
            reads=Reads.of_loading(loading[0]) if loading else NO_READS,
        ),
        throughput=stages["throughput"],
    )


def _notes(variant: _VariantTables, reference: _VariantTables) -> list[Note]:
    """What a reader must know of a variant: what is not compared, not a number, not as foreseen."""
    name = variant.name
    notes = []
    if not variant.windows["window"].equals(reference.windows["window"]):
        own, base = len(variant.windows), len(reference.windows)
        notes.append(note("other_windows", name, windows=own, reference_windows=base))
    notes += _notes_of_answers(variant, reference)
    finite = np.isfinite(column(variant.windows, "negative_log_likelihood"))
    if not finite.all():
        counted = _count_named(variant.windows, ~finite)
        notes.append(note("likelihood_not_finite", name, windows=counted))
    if variant is not reference and not variant.comparable.all():
        counted = _count_named(variant.windows, ~variant.comparable)
        notes.append(note("divergence_not_finite", name, windows=counted))
    if pc.any(pc.equal(variant.windows["logits_from"], "model")).as_py():
        notes.append(note("whole_logits", name))
    measured = variant.loading.get("weights_bytes")
    expected = variant.row["expected_weights_bytes"]
    if measured and expected and abs(measured / expected - 1) > _WEIGHTS_TOLERANCE:
        notes.append(
            note("unforeseen_size", name, measured_bytes=measured, expected_bytes=expected)
        )
    running = variant.loading.get("running_weights_bytes")
    whole = reference.loading.get("running_weights_bytes")
    if variant.method and running and whole and running > _EXPANDED * whole:
        notes.append(note("expanded_to_run", name, running_bytes=running, reference_bytes=whole))
    tokens, reference_tokens = (p.loading.get("vocabulary") for p in (variant, reference))
    if tokens and reference_tokens and tokens != reference_tokens:
        notes.append(
            note(
                "other_vocabulary",
                name,
                tokens=tokens,
                reference=reference.name,
                reference_tokens=reference_tokens,
                common=min(tokens, reference_tokens),
            )
        )
    kernel = variant.loading.get("kernel")
    if variant.method and kernel:
        notes.append(note("other_kernel", name, method=variant.method, kernel=kernel))
    if problems := variant.loading.get("unmeasured"):
        notes.append(note("side_figures_unmeasured", name, problems=problems))
    return notes


def _notes_of_answers(variant: _VariantTables, reference: _VariantTables) -> list[Note]:
    """What a reader must know of a variant's answers, and of its scoring the reference's."""
    name, rows, base = variant.name, variant.answers.rows, reference.answers.rows
    notes = []
    if not rows["prompt"].equals(base["prompt"]):
        notes.append(note("other_prompts", name, prompts=len(rows), reference_prompts=len(base)))
    elif variant is not reference and len(rows):
        problem = teacher_forced_problem(variant.answers, reference.answers)
        notes += [problem] if problem else []
    refusal = variant.answers.graph_refusal
    if refusal is not None:
        notes.append(note("no_graph", name, reason=refusal))
    by_graph = variant.answers.timings.filter(pc.field("decoding") == "graph")
    others = pc.sum(pc.invert(by_graph["same_tokens"])).as_py()
    if others:
        notes.append(note("other_tokens_by_graph", name, others=others, answers=len(by_graph)))
    errors = rows["error"].drop_null()
    if len(errors):
        first = str(errors[0])
        notes.append(
            note("answers_with_errors", name, errors=len(errors), answers=len(rows), first=first)
        )
    return notes


def _count_named(windows: pa.Table, chosen: NDArray[np.bool_]) -> str:
    """`2 of 25 windows (3, 7)`; the first ten are named."""
    numbers = windows["window"].to_numpy()[chosen]
    more = ", …" if len(numbers) > _NAMED_WINDOWS else ""
    named = ", ".join(map(str, numbers[:_NAMED_WINDOWS].tolist()))
    return f"{len(numbers)} of {len(windows)} windows ({named}{more})"


def _figures(
    variant: _VariantTables,
    reference: _VariantTables,
    manifest: Manifest,
    noise_floor: NoiseFloor | None,
    prompts: pa.Table,
) -> VariantFigures:
    perplexity, word_perplexity, bits_per_byte = _likelihood(variant, reference, manifest)
    phases = {
        "loading": variant.loadings,
        "scoring": variant.windows,
        "generating": variant.answers.rows,
    }
    return VariantFigures(
        checkpoint=variant.row["checkpoint"],
        method=variant.method,
        weights_dtype=variant.row["weights_dtype"],
        compute_dtype=variant.row["compute_dtype"],
        kernel=variant.loading.get("kernel"),
        perplexity=perplexity,
        word_perplexity=word_perplexity,
        bits_per_byte=bits_per_byte,
        **_divergence(variant, reference, noise_floor),
        memory=memory_of(variant.row, variant.loading, reference.loading, phases),
        generation=generation_of(
            variant.answers,
            None if variant is reference else reference.answers,
            prompts["text"].to_pylist(),
        ),
        throughput=throughput_of(variant.throughput),
    )


def _divergence(
    variant: _VariantTables, reference: _VariantTables, noise_floor: NoiseFloor | None
) -> Divergence:
    """How far a variant is from the reference; nothing where some of it is not a number.

    A mean that leaves tokens out would flatter.
    """
    usable = len(variant.comparable) and variant.comparable.all()
    if not usable or variant is reference:
        return NO_DIVERGENCE
    return divergence_of(variant.tokens, variant.worst_tokens, noise_floor)


def _likelihood(
    variant: _VariantTables, reference: _VariantTables, manifest: Manifest
) -> tuple[Perplexity, Compared, Compared]:
    nll, tokens = (
        column(variant.windows, name) for name in ("negative_log_likelihood", "scored_tokens")
    )
    base = column(reference.windows, "negative_log_likelihood")
    usable = bool(len(nll)) and bool(np.isfinite(nll).all())
    paired = (
        usable
        and variant is not reference
        and variant.windows["window"].equals(reference.windows["window"])
        and bool(np.isfinite(base).all())
    )

    def of_exponent(scale: float) -> Compared:
        if not usable:
            return compared(None, None, len(nll))
        change = estimates.change_pct_of_exponent(nll, base, tokens, scale) if paired else None
        return compared(estimates.perplexity(nll, tokens, scale), change, len(nll))

    per_byte = manifest.tokens / manifest.bytes / np.log(2)
    bits = compared(None, None, len(nll))
    if usable:
        change = estimates.change_pct_of_ratio((nll, tokens), (base, tokens)) if paired else None
        ratio = estimates.scaled(estimates.ratio(nll, tokens), float(per_byte))
        bits = compared(ratio, change, len(nll))
    found = of_exponent(1.0)
    perplexity = Perplexity(
        **found.model_dump(),
        stderr_tokens=_stderr_tokens(variant, found),
        scored_tokens=int(tokens.sum()),
        windows=len(nll),
    )
    return perplexity, of_exponent(manifest.tokens / manifest.words), bits


def _stderr_tokens(variant: _VariantTables, perplexity: Compared) -> float | None:
    """A perplexity's standard error were its tokens independent, by linearization."""
    if perplexity.value is None:
        return None
    stderr = estimates.stderr_of_mean(variant.tokens.column("negative_log_likelihood"))
    return None if stderr is None else perplexity.value * stderr
