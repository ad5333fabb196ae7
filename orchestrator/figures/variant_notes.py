"""A variant's tables → what a reader must know of it beside its figures. Pure."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.comparison_schema.notes import Note, note
from orchestrator.figures.answers import teacher_forced_problem
from orchestrator.figures.measures import column
from orchestrator.figures.memory import is_emulated, is_expanded
from orchestrator.figures.variant_tables import VariantTables

# A measured size further from the arithmetic than this is flagged.
_WEIGHTS_TOLERANCE = 0.01
# Of those that are not finite, at most.
_NAMED_WINDOWS = 10


def notes_of_variant(variant: VariantTables, reference: VariantTables) -> list[Note]:
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
    if (
        measured
        and expected
        and not is_emulated(variant)
        and abs(measured / expected - 1) > _WEIGHTS_TOLERANCE
    ):
        notes.append(
            note("unforeseen_size", name, measured_bytes=measured, expected_bytes=expected)
        )
    if variant.is_streamed:
        notes.append(note("streamed", name))
    dtype, reference_dtype = (each.row["compute_dtype"] for each in (variant, reference))
    if dtype != reference_dtype:
        notes.append(
            note(
                "other_arithmetic",
                name,
                dtype=dtype,
                reference=reference.name,
                reference_dtype=reference_dtype,
            )
        )
    if is_emulated(variant):
        notes.append(note("kernel_emulated", name))
    elif is_expanded(variant, reference):
        running, whole = (p.loading["running_weights_bytes"] for p in (variant, reference))
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


def _notes_of_answers(variant: VariantTables, reference: VariantTables) -> list[Note]:
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
