"""Audits of the weights that variants are made of → figures, and what readers must know."""

from collections.abc import Iterator, Mapping

from orchestrator.comparison_schema import Integrity
from orchestrator.comparison_schema.notes import Note, note
from orchestrator.contract.manifest import Manifest
from orchestrator.integrity.outcome import Audit
from orchestrator.integrity.verdicts import is_once_quantized, kind_of
from orchestrator.storage.audits import KeptAudits


def integrity_of(audit: Audit | None) -> Integrity | None:
    """What an audit says of a variant's weights; None where there is none."""
    if audit is None:
        return None
    return Integrity(
        verdict=audit.verdict,
        once_quantized=is_once_quantized(audit),
        said=audit.said,
        grid=None if audit.family is None else kind_of(audit),
        family=audit.family,
        block=audit.block,
        bits=audit.bits,
        log10_p=audit.log10_p,
        linear_weights=audit.linear_weights,
        quantized_share=audit.quantized_share,
        findings=list(audit.findings),
    )


def notes_of_audits(kept: KeptAudits, manifest: Manifest) -> Iterator[Note]:
    """What of them a reader must know: that weights which pass for originals are none.

    Of variants that are made of the same weights as the reference nothing is said again.
    """
    if kept.problem is not None:
        yield note("audits_unread", problem=kept.problem)
    audits = kept.of_variants(manifest)
    reference = audits.get(manifest.reference)
    if reference is not None:
        yield from _notes_of_reference(manifest.reference, reference)
    yield from _notes_of_candidates(audits, reference)


def _notes_of_reference(name: str, audit: Audit) -> Iterator[Note]:
    if is_once_quantized(audit):
        yield note("reference_once_quantized", name, said=audit.said)
    elif audit.verdict == "cannot tell":
        yield note("reference_untold", name, said=audit.said)


def _notes_of_candidates(audits: Mapping[str, Audit], reference: Audit | None) -> Iterator[Note]:
    for name, audit in audits.items():
        if audit is not reference and is_once_quantized(audit):
            yield note("candidate_once_quantized", name, said=audit.said)
