"""Audits of the weights that variants are made of → figures, and what readers must know."""

from collections.abc import Iterator, Mapping

from orchestrator.comparison_schema import Integrity
from orchestrator.comparison_schema.notes import Note, note
from orchestrator.integrity.outcome import Audit
from orchestrator.integrity.verdicts import is_once_quantized, kind_of


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


def notes_of_audits(audits: Mapping[str, Audit], reference: str) -> Iterator[Note]:
    """What of them a reader must know: that weights which pass for originals are none.

    Of variants that are made of the same weights as the reference nothing is said again.

    Args:
        audits: by variant.
        reference: the variant that the others are held against.
    """
    of_reference = audits.get(reference)
    if of_reference is not None and is_once_quantized(of_reference):
        yield note("reference_once_quantized", reference, said=of_reference.said)
    elif of_reference is not None and of_reference.verdict == "cannot tell":
        yield note("reference_untold", reference, said=of_reference.said)
    for name, audit in audits.items():
        if audit is not of_reference and is_once_quantized(audit):
            yield note("candidate_once_quantized", name, said=audit.said)
