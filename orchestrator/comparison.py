"""A run's tables → the comparison: every figure once, from cells alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator import statistics
from orchestrator.interface import (
    Compared,
    Comparison,
    DatasetProvenance,
    Generation,
    GenerationFigures,
    Memory,
    ModelProvenance,
    Perplexity,
    Provenance,
    VariantFigures,
)
from orchestrator.reduce import Tables
from orchestrator.statistics import Array, Estimate
from orchestrator.store import Manifest

# A measured size further from the arithmetic than this is flagged.
_WEIGHTS_TOLERANCE = 0.01

_VERSIONS = (
    "driver_version",
    "python_version",
    "torch_version",
    "transformers_version",
    "bitsandbytes_version",
    "ray_version",
)


@dataclass(frozen=True)
class _VariantTables:
    """The rows of one variant."""

    row: dict[str, Any]
    memory: dict[str, Any]
    windows: pa.Table
    generations: pa.Table


def compare(tables: Tables, manifest: Manifest) -> Comparison:
    """Computes the comparison of a run, whole or partial.

    Variants are held against the reference over the same items only: where one has others, the
    difference is null and a note says so.
    """
    variants = {
        row["variant"]: _rows_of(row["variant"], row, tables) for row in tables.variants.to_pylist()
    }
    notes: list[str] = []
    figures = {
        name: _figures(variant, variants[manifest.reference], manifest, notes)
        for name, variant in variants.items()
    }
    finished = len(tables.memory) + len(tables.windows) + len(tables.generations)
    planned = sum(record.items for record in manifest.shards)
    if finished < planned:
        notes.insert(0, f"This run is partial: {finished} of {planned} items are in it.")
    return Comparison(
        run_id=manifest.run_id,
        reference=manifest.reference,
        complete=finished == planned,
        variants=figures,
        notes=notes,
        provenance=_provenance(tables, manifest, notes),
    )


def _rows_of(name: str, row: dict[str, Any], tables: Tables) -> _VariantTables:
    memory = tables.memory.filter(pc.field("variant") == name).to_pylist()
    return _VariantTables(
        row=row,
        memory=memory[0] if memory else {},
        windows=tables.windows.filter(pc.field("variant") == name),
        generations=tables.generations.filter(pc.field("variant") == name),
    )


def _figures(
    variant: _VariantTables, reference: _VariantTables, manifest: Manifest, notes: list[str]
) -> VariantFigures:
    name = variant.row["variant"]
    if not variant.windows["window"].equals(reference.windows["window"]):
        notes.append(
            f"{name}: {len(variant.windows)} windows against the reference's "
            f"{len(reference.windows)}: perplexities are not compared."
        )
    if not variant.generations["prompt"].equals(reference.generations["prompt"]):
        notes.append(
            f"{name}: {len(variant.generations)} prompts against the reference's "
            f"{len(reference.generations)}: answers are not compared."
        )
    perplexity, word_perplexity, bits_per_byte = _likelihood(variant, reference, manifest, notes)
    return VariantFigures(
        weights_dtype=variant.row["weights_dtype"],
        compute_dtype=variant.row["compute_dtype"],
        perplexity=perplexity,
        word_perplexity=word_perplexity,
        bits_per_byte=bits_per_byte,
        memory=_memory(variant, reference, notes),
        generation=_generation(variant, reference),
    )


def _column(table: pa.Table, name: str) -> Array:
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def _likelihood(
    variant: _VariantTables, reference: _VariantTables, manifest: Manifest, notes: list[str]
) -> tuple[Perplexity, Compared, Compared]:
    nll, tokens = (
        _column(variant.windows, name) for name in ("negative_log_likelihood", "scored_tokens")
    )
    finite = np.isfinite(nll)
    if not finite.all():
        notes.append(
            f"{variant.row['variant']}: {int((~finite).sum())} of {len(nll)} windows have a "
            "likelihood that is not a number: no perplexity is given."
        )
    base = _column(reference.windows, "negative_log_likelihood")
    usable = bool(len(nll)) and bool(finite.all())
    paired = (
        usable
        and variant is not reference
        and variant.windows["window"].equals(reference.windows["window"])
        and bool(np.isfinite(base).all())
    )

    def of_exponent(scale: float) -> Compared:
        if not usable:
            return _compared(None, None, len(nll))
        change = statistics.change_pct_of_exponent(nll, base, tokens, scale) if paired else None
        return _compared(statistics.perplexity(nll, tokens, scale), change, len(nll))

    per_byte = manifest.tokens / manifest.bytes / np.log(2)
    bits = _compared(None, None, len(nll))
    if usable:
        change = statistics.change_pct_of_ratio((nll, tokens), (base, tokens)) if paired else None
        ratio = statistics.scaled(statistics.ratio(nll, tokens), float(per_byte))
        bits = _compared(ratio, change, len(nll))
    perplexity = Perplexity(
        **of_exponent(1.0).model_dump(), scored_tokens=int(tokens.sum()), windows=len(nll)
    )
    return perplexity, of_exponent(manifest.tokens / manifest.words), bits


def _memory(variant: _VariantTables, reference: _VariantTables, notes: list[str]) -> Memory:
    measured = variant.memory.get("weights_bytes")
    expected = variant.row["expected_weights_bytes"]
    if measured is not None and abs(measured / expected - 1) > _WEIGHTS_TOLERANCE:
        notes.append(
            f"{variant.row['variant']}: its weights take {measured} bytes, {expected} by "
            "arithmetic: some layers may not be held as the variant says."
        )
    base = reference.memory.get("weights_bytes")
    peaks = [
        variant.memory.get("device_peak_bytes"),
        pc.max(variant.windows["device_peak_bytes"]).as_py(),
        pc.max(variant.generations["device_peak_bytes"]).as_py(),
    ]
    return Memory(
        weights_bytes=measured,
        expected_weights_bytes=expected,
        device_allocated_bytes=variant.memory.get("device_allocated_bytes"),
        device_reserved_bytes=variant.memory.get("device_reserved_bytes"),
        device_peak_bytes=max((peak for peak in peaks if peak is not None), default=None),
        compression_ratio=base / measured if base and measured else None,
    )


def _generation(variant: _VariantTables, reference: _VariantTables) -> Generation:
    def of_category(category: str) -> GenerationFigures:
        chosen = pc.field("category") == category
        return _generation_figures(
            variant.generations.filter(chosen), reference.generations.filter(chosen)
        )

    categories: list[str] = variant.generations["category"].unique().to_pylist()
    overall = _generation_figures(variant.generations, reference.generations)
    return Generation(
        **dict(overall), by_category={category: of_category(category) for category in categories}
    )


def _generation_figures(rows: pa.Table, base: pa.Table) -> GenerationFigures:
    seconds, tokens = _column(rows, "seconds"), _column(rows, "new_tokens")
    base_seconds, base_tokens = _column(base, "seconds"), _column(base, "new_tokens")
    n = len(rows)
    is_reference = n > 0 and rows["variant"][0] == base["variant"][0] if len(base) else True
    paired = not is_reference and rows["prompt"].equals(base["prompt"])
    answered = n > 0 and tokens.sum() > 0
    comparable = paired and answered and base_tokens.sum() > 0
    return GenerationFigures(
        prompts=n,
        succeeded=int(pc.sum(rows["success"]).as_py() or 0),
        seconds=_compared(
            statistics.mean(seconds) if n else None,
            statistics.change_pct_of_mean(seconds, base_seconds) if paired else None,
            n,
        ),
        tokens_per_second=_compared(
            statistics.ratio(tokens, seconds) if n else None,
            statistics.change_pct_of_ratio((tokens, seconds), (base_tokens, base_seconds))
            if comparable
            else None,
            n,
        ),
        new_tokens=_compared(
            statistics.mean(tokens) if n else None,
            statistics.change_pct_of_mean(tokens, base_tokens) if comparable else None,
            n,
        ),
    )


def _compared(estimate: Estimate | None, change: Estimate | None, n: int) -> Compared:
    return Compared(
        value=estimate.value if estimate else None,
        stderr=estimate.stderr if estimate else None,
        interval95=estimate.interval95 if estimate else None,
        n=n,
        delta_pct=change.value if change else None,
        delta_pct_interval95=change.interval95 if change else None,
    )


def _provenance(tables: Tables, manifest: Manifest, notes: list[str]) -> Provenance:
    rows = tables.memory.to_pylist()
    versions: dict[str, str | None] = {}
    for column in _VERSIONS:
        values = list(dict.fromkeys(row[column] for row in rows))
        if len(values) > 1:
            notes.append(f"The variants ran with several values of {column}: {values}.")
        versions[column] = values[0] if values else None
    identity = manifest.identity
    return Provenance(
        model=ModelProvenance(
            id=manifest.model_id,
            revision=manifest.model_revision,
            content_hash=identity["model"],
        ),
        dataset=DatasetProvenance(
            name=manifest.dataset_name,
            content_hash=identity["dataset"],
            documents=manifest.documents,
            tokens=manifest.tokens,
            words=manifest.words,
            bytes=manifest.bytes,
        ),
        protocol=identity["protocol"],
        window_length=identity["window_length"],
        stride=identity["stride"],
        prompts_content_hash=identity["prompts"],
        max_new_tokens=identity["max_new_tokens"],
        compute_dtype=identity["compute_dtypes"][manifest.reference],
        devices=list(dict.fromkeys(row["device"] for row in rows)),
        **versions,
        started=manifest.started,
        finished=manifest.finished,
    )
