"""What a run's weights show of quantization before it: as `audits.json`, and as a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from orchestrator.contract.manifest import Manifest
from orchestrator.contract.tables import INTEGRITY_SCHEMA, make_table
from orchestrator.integrity.outcome import AUDIT_VERSION, Audit, TensorOutcome
from orchestrator.json_files import parse_json
from orchestrator.storage.stamp import stamped, unstamped


@dataclass(frozen=True)
class KeptAudits:
    """The audits of a run's checkpoints.

    Attributes:
        by_content: by the checkpoints' content hashes; empty where none was made.
        problem: why what is kept cannot be read; None where it can, or nothing is.
    """

    by_content: Mapping[str, Audit] = field(default_factory=dict)
    problem: str | None = None

    def of_variants(self, manifest: Manifest) -> dict[str, Audit]:
        """That of each variant's weights before they were quantized here, where there is one."""
        hashes = {
            one.variant.name: one.checkpoint_content_hash for one in manifest.identity.variants
        }
        return {
            name: self.by_content[content]
            for name, content in hashes.items()
            if content in self.by_content
        }


def audits_content(audits: Mapping[str, Audit]) -> bytes:
    """The file that keeps audits, by content hash."""
    kept = {content: audit.model_dump(mode="json") for content, audit in audits.items()}
    return stamped({"version": AUDIT_VERSION, "audits": kept})


def parse_audits(content: bytes, most_bytes: int) -> KeptAudits:
    """What such a file says; whoever wrote it, it is read or there is a problem.

    Args:
        most_bytes: that it may have.
    """
    try:
        written = unstamped(parse_json(content, most_bytes))
        if (version := written["version"]) != AUDIT_VERSION:
            known = f"this program knows version {AUDIT_VERSION}"
            return KeptAudits(problem=f"is of version {version}, and {known}")
        kept = written["audits"].items()
        return KeptAudits({str(name): Audit.model_validate(audit) for name, audit in kept})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return KeptAudits(problem="is not as it was written")


def integrity_table(kept: KeptAudits, manifest: Manifest) -> pa.Table:
    """A row a tensor of each audited checkpoint, in the order of the variants."""
    checkpoints = {record.variant: record.checkpoint for record in manifest.variants}
    # Several variants may be made of one.
    audits = {checkpoints[name]: audit for name, audit in kept.of_variants(manifest).items()}
    rows = [
        _row(checkpoint, tensor) for checkpoint, audit in audits.items() for tensor in audit.tensors
    ]
    return make_table(rows, INTEGRITY_SCHEMA)


def _row(checkpoint: str, tensor: TensorOutcome) -> dict[str, Any]:
    # A block is a number of weights, or a word.
    block = None if tensor.block is None else str(tensor.block)
    shown = tensor.model_dump(exclude={"name", "block", "p_value"})
    return {"checkpoint": checkpoint, "tensor": tensor.name, **shown, "block": block}
