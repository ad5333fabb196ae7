"""A tensor in its file → what its weights show."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np

from orchestrator.inputs.tensor_roles import role_of
from orchestrator.inputs.weight_files import PLAIN_BYTES, StoredTensor
from orchestrator.integrity.identify import Identified, identify
from orchestrator.integrity.outcome import TensorOutcome, TensorVerdict
from orchestrator.integrity.sampling import Line, open_weights, pieces, sample

# Of weights, for a tensor to have blocks enough.
_LEAST_WEIGHTS = 2048
# By their last names: weights that are kept packed, and what is kept beside them.
_PACKED = frozenset({"qweight", "weight_packed"})
_BESIDE = frozenset({"g_idx", "qzeros", "scales", "weight_scale", "weight_scale_inv"})


@dataclass(frozen=True)
class Examined:
    """A tensor, and how sure what is said of it is before it is corrected for the others.

    Attributes:
        tests: the logarithms of bounds of chances, one a size of block and direction.
        digest: of the weights read; two tensors alike have the same.
    """

    tensor: StoredTensor
    outcome: TensorOutcome
    tests: tuple[float, ...] = ()
    digest: bytes | None = None


def examine(tensor: StoredTensor, *, everything: bool) -> Examined | None:
    """Looks at a tensor; None where it is no weight of a layer or table.

    Args:
        everything: whether all of it is read, a part at a time, or a sample.

    Raises:
        OSError: its file cannot be read, or ends too early.
    """
    last = tensor.name.split(".")[-1]
    if len(tensor.shape) < 2 or last in _BESIDE:
        return None
    if tensor.dtype not in PLAIN_BYTES:
        if last not in _PACKED and role_of(tensor) == "other":
            # Masks and positions.
            return None
        return Examined(tensor, _said(tensor, "quantized"))
    if tensor.elements < _LEAST_WEIGHTS:
        return Examined(tensor, _said(tensor, "not examined", "too few weights"))
    digest = blake2b(digest_size=16)
    looks = []
    with open_weights(tensor) as weights:
        for lines in pieces(weights) if everything else [sample(weights)]:
            digest.update(lines[0].values.tobytes())
            looks.append(_look(lines))
    return replace(_examined(tensor, looks), digest=digest.digest())


@dataclass(frozen=True)
class _Look:
    """What a part of a tensor showed.

    Attributes:
        problem: in words, why there is nothing to be seen in it, or None.
    """

    identified: Identified | None
    problem: str | None
    not_finite: bool


def _look(lines: Sequence[Line]) -> _Look:
    values = lines[0].values
    finite = np.isfinite(values)
    if not finite.any():
        return _Look(None, "no finite weight", not_finite=True)
    known = values[finite]
    if known.min() == known.max():
        return _Look(None, f"every weight read is {known.flat[0]:g}", not_finite=not finite.all())
    return _Look(identify(lines), None, not_finite=not finite.all())


def _examined(tensor: StoredTensor, looks: Sequence[_Look]) -> Examined:
    """The looks at a tensor's parts as one."""
    reasons = []
    if any(look.not_finite for look in looks):
        reasons.append("has weights that are NaN or infinite")
    identified = [look.identified for look in looks if look.identified is not None]
    if not identified:
        reasons += sorted({look.problem for look in looks if look.problem is not None})
        return Examined(tensor, _said(tensor, "not examined", reason="; ".join(reasons)))
    tests = tuple(count.log10_p for each in identified for count in each.counts)
    finest = max(
        (each.rounding for each in identified), key=lambda r: r.precisions[0].fraction_bits
    )
    kinds = Counter(_kind(each) for each in identified)
    (kind, of_kind), *_ = sorted(kinds.items(), key=lambda item: (item[0] is None, -item[1]))
    if kind is None:
        share = max(each.unclear_share for each in identified)
        outcome = _said(
            tensor,
            "unclear" if share > 0 else "plain",
            "; ".join(reasons) or None,
            holds=finest.name,
            share=share or None,
            log10_p=min(tests),
        )
        return Examined(tensor, outcome, tests)
    alike = [each for each in identified if _kind(each) == kind]
    found = alike[0].found
    assert found is not None
    if of_kind < len(identified):
        reasons.append(f"{of_kind} of {len(identified)} parts of it lie on this grid")
    counts = [each.found.count for each in alike if each.found and each.found.count is not None]
    outcome = _said(
        tensor,
        "on a grid",
        "; ".join(reasons) or None,
        holds=finest.name,
        family=found.grid.name,
        names=found.names,
        block=found.block,
        bits=found.grid.bits,
        scales=found.scales,
        groups_permuted=found.permuted,
        share=min(each.found.share for each in alike if each.found is not None),
        distinct=counts[0].distinct if counts else None,
        expected=counts[0].expected if counts else None,
        log10_p=min((count.log10_p for count in counts), default=None),
    )
    return Examined(tensor, outcome, tests)


def _kind(identified: Identified) -> tuple[str, object, str, bool] | None:
    found = identified.found
    if found is None:
        return None
    return found.grid.name, found.block, found.scales, found.permuted


def _said(
    tensor: StoredTensor, verdict: TensorVerdict, reason: str | None = None, **shown: Any
) -> TensorOutcome:
    """What is said of a tensor; `shown`: by its weights."""
    is_packed = tensor.name.split(".")[-1] in _PACKED
    return TensorOutcome(
        name=tensor.name,
        role="linear" if is_packed else role_of(tensor),
        shape=tensor.shape,
        dtype=tensor.dtype,
        verdict=verdict,
        reason=reason,
        **shown,
    )
