"""A run's tables → the comparison: every figure once, from cells alone."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.comparison_schema import (
    Compared,
    Comparison,
    Generation,
    Perplexity,
    Progress,
    TextSample,
    Timeline,
    VariantFigures,
)
from orchestrator.comparison_schema.notes import Note, note
from orchestrator.contract.manifest import Look, Manifest
from orchestrator.figures import estimates
from orchestrator.figures.answers import Answers, generation_of
from orchestrator.figures.divergence import (
    NO_DIVERGENCE,
    Divergence,
    divergence_of,
    noise_floor_of,
    same_top_effect,
)
from orchestrator.figures.estimates import Estimate
from orchestrator.figures.integrity import integrity_of, notes_of_audits
from orchestrator.figures.latency import throughput_of
from orchestrator.figures.measures import column, compared
from orchestrator.figures.memory import memory_of
from orchestrator.figures.pairs import pairs_of
from orchestrator.figures.provenance import provenance_notes, provenance_of
from orchestrator.figures.sample import Sample, Units
from orchestrator.figures.variant_notes import notes_of_variant
from orchestrator.figures.variant_tables import VariantTables, tables_of_variant
from orchestrator.figures.weight_noise import weight_noise_of
from orchestrator.gates.uses import risks_of, uses_of
from orchestrator.integrity.outcome import Audit
from orchestrator.storage.reduce import Tables


def compare(
    tables: Tables,
    manifest: Manifest,
    timeline: Timeline | None = None,
    known: Sequence[Note] = (),
) -> Comparison:
    """Computes the comparison of a run, whole or partial.

    Variants are held against the reference over the same items only: where one has others, the
    difference is null and a note says so.

    Args:
        timeline: what its events tell of its devices.
        known: what a reader must know of the run's files.
    """
    look = manifest.looks[-1]
    units = Units(manifest.confidence, look.stretches)
    variants = [tables_of_variant(row, tables, units) for row in tables.variants.to_pylist()]
    reference = next(variant for variant in variants if variant.name == manifest.reference)
    finished = sum(table.num_rows for table in tables.stages.values())
    planned = sum(record.items for record in manifest.shards)
    audits = tables.audits.of_variants(manifest)
    notes = [*known, *notes_of_audits(audits, manifest.reference)]
    if tables.audits.problem is not None:
        notes.append(note("audits_unread", problem=tables.audits.problem))
    candidates = [variant for variant in variants if variant is not reference]
    effect = _largest_effect(one.sample for one in candidates if one.is_comparable)
    along = [one.answers for one in candidates if one.answers.teacher_forced_is_finite]
    effect_along = _largest_effect(answers.teacher_forced for answers in along)
    noise_tokens = Sample(tables.tokens["noise"][manifest.reference], units)
    noise_floor = noise_floor_of(noise_tokens, tables.stages["noise"], effect)
    if noise_floor is None and len(tables.stages["noise"]):
        notes.append(note("noise_not_finite", reference.name))
    divergence = partial(divergence_of, noise_floor=noise_floor, effect=effect)
    texts = tables.prompts["text"].to_pylist()
    generation = partial(generation_of, prompt_texts=texts, effect=effect_along)
    figures = {
        variant.name: _figures(
            variant, reference, manifest, audits.get(variant.name), divergence, generation
        )
        for variant in variants
    }
    uses = uses_of(manifest.settings.get("uses"))
    for name, found in figures.items():
        if name != manifest.reference:
            figures[name] = found.model_copy(update={"risks": risks_of(found, uses)})
    for variant in variants:
        notes += notes_of_variant(variant, reference)
        found = figures[variant.name]
        if found.kl is not None and found.kl.identical:
            same = (
                note("identical_expanded", variant.name, reference=reference.name)
                if found.memory.expanded
                else note("identical", variant.name, reference=reference.name)
            )
            notes.append(same)
        elif found.kl is not None and found.kl.indistinguishable:
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
        confidence=units.confidence,
        sample=_text_sample(manifest, look, reference),
        progress=_progress(tables, manifest),
        variants=figures,
        noise_floor=noise_floor,
        pairs=pairs_of(
            {v.name: v.sample for v in variants if figures[v.name].kl is not None},
            units.confidence,
        ),
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


def _largest_effect(samples: Iterable[Sample]) -> float | None:
    """The largest design effect that the same top token has in one of several samples."""
    effects = map(same_top_effect, samples)
    return max((effect for effect in effects if effect is not None), default=None)


def _text_sample(manifest: Manifest, look: Look, reference: VariantTables) -> TextSample:
    numbers = column(reference.windows, "window")
    nll, tokens = (
        column(reference.windows, name)[np.argsort(numbers)]
        for name in ("negative_log_likelihood", "scored_tokens")
    )
    means = nll / tokens
    return TextSample(
        windows=look.windows,
        text_windows=manifest.text_windows,
        stretches=len(look.stretches),
        autocorrelation=estimates.autocorrelation(means) if np.isfinite(means).all() else None,
    )


def _figures(
    variant: VariantTables,
    reference: VariantTables,
    manifest: Manifest,
    audit: Audit | None,
    divergence: Callable[[Sample, pa.Table], Divergence],
    generation: Callable[[Answers, Answers | None], Generation],
) -> VariantFigures:
    is_compared = variant.is_comparable and variant is not reference
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
        placement=variant.row["placement"],
        kernel=variant.loading.get("kernel"),
        linear=variant.linear,
        perplexity=perplexity,
        word_perplexity=word_perplexity,
        bits_per_byte=bits_per_byte,
        # A mean that leaves tokens out would flatter.
        **(divergence(variant.sample, variant.worst_tokens) if is_compared else NO_DIVERGENCE),
        memory=memory_of(variant, reference, phases, manifest.maximum_length),
        generation=generation(variant.answers, None if variant is reference else reference.answers),
        throughput=throughput_of(variant.throughput, Units(manifest.confidence)),
        integrity=integrity_of(audit),
        weight_noise=weight_noise_of(variant),
    )


def _likelihood(
    variant: VariantTables, reference: VariantTables, manifest: Manifest
) -> tuple[Perplexity, Compared, Compared]:
    units = variant.sample.units
    of_windows = variant.windows["window"].to_numpy()
    by_window, scored = (
        column(variant.windows, name) for name in ("negative_log_likelihood", "scored_tokens")
    )
    of_reference = column(reference.windows, "negative_log_likelihood")
    usable = bool(len(by_window)) and bool(np.isfinite(by_window).all())
    paired = (
        usable
        and variant is not reference
        and variant.windows["window"].equals(reference.windows["window"])
        and bool(np.isfinite(of_reference).all())
    )
    nll, tokens = units.sums(of_windows, by_window, scored)
    base = units.sums(of_windows, of_reference)[0] if paired else nll

    def figure(estimate: Estimate | None, change: Estimate | None) -> Compared:
        return compared(estimate, change, units, len(nll))

    def of_exponent(scale: float) -> Compared:
        if not usable:
            return figure(None, None)
        change = estimates.change_pct_of_exponent(nll, base, tokens, scale) if paired else None
        return figure(estimates.perplexity(nll, tokens, scale), change)

    per_byte = manifest.tokens / manifest.bytes / np.log(2)
    bits = figure(None, None)
    if usable:
        change = estimates.change_pct_of_ratio((nll, tokens), (base, tokens)) if paired else None
        ratio = estimates.scaled(estimates.ratio(nll, tokens), float(per_byte))
        bits = figure(estimates.within(ratio, least=0.0), change)
    found = of_exponent(1.0)
    perplexity = Perplexity(
        **found.model_dump(),
        stderr_tokens=_stderr_tokens(variant, found),
        scored_tokens=int(scored.sum()),
        windows=len(by_window),
    )
    return perplexity, of_exponent(manifest.tokens / manifest.words), bits


def _stderr_tokens(variant: VariantTables, perplexity: Compared) -> float | None:
    """A perplexity's standard error were its tokens independent, by linearization."""
    if perplexity.value is None:
        return None
    likelihoods = variant.sample.tokens.column("negative_log_likelihood")
    stderr = estimates.stderr_of_mean(likelihoods)
    return None if stderr is None else perplexity.value * stderr
