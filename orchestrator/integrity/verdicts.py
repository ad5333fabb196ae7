"""Tensors with what their weights show → what is said of the model."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.contract.grids import NATIVE
from orchestrator.errors import BadInputError, ExitStatus
from orchestrator.integrity.exchangeability import holm
from orchestrator.integrity.files import AuditedFiles, code_in
from orchestrator.integrity.outcome import Audit, Evidence, TensorOutcome, Verdict
from orchestrator.integrity.tensors import Examined

_NAMED = 3
# The least power of ten that a number of 64 bits holds.
_LEAST_LOG10 = -300
# On a grid: what is not explained by chance (Holm's correction included).
LOG10_ALPHA = -3.0

_EXIT: dict[Verdict, ExitStatus] = {
    "no trace of quantization": ExitStatus.DONE,
    "natively quantized": ExitStatus.DONE,
    "quantized as declared": ExitStatus.DONE,
    "on a grid": ExitStatus.GATE_FAILED,
    "mixed": ExitStatus.GATE_FAILED,
    "cannot tell": ExitStatus.FAILED,
}


def exit_status(audit: Audit) -> ExitStatus:
    """What the command returns: a grid is no fault where the configuration declares one."""
    if audit.held_against is not None and not audit.held_against.holds:
        return ExitStatus.GATE_FAILED
    on_grid = audit.verdict in ("on a grid", "mixed")
    return _EXIT[audit.verdict] if not on_grid or is_once_quantized(audit) else ExitStatus.DONE


def is_once_quantized(audit: Audit) -> bool:
    """Whether weights are quantized, or were, and pass for plain ones."""
    return audit.verdict in ("on a grid", "mixed") and audit.declared is None


def require_integrity(audit: Audit) -> None:
    """Refuses a reference that is not what it passes for.

    Raises:
        BadInputError: its weights were once quantized and do not say so, or it cannot be told.
    """
    if exit_status(audit) != ExitStatus.DONE:
        raise BadInputError(
            "--require-integrity",
            f"{audit.model}, which the others would be held against: {audit.said} Name the "
            "original weights, or leave the flag out: the report says so, too",
        )


def untold(name: str, problem: str) -> Audit:
    """What is said of a model whose files could not be looked at."""
    return Audit(
        model=name,
        declared=None,
        is_complete=False,
        verdict="cannot tell",
        said=f"Cannot tell: {problem}.",
        linear_weights=0,
        quantized_share=None,
        findings=(),
        code=(),
        tensors=(),
    )


def _counted_linear(tensors: Sequence[TensorOutcome]) -> dict[str, Any]:
    """How many linear weights were judged, and what share of them is quantized."""
    verdicts = [
        each.verdict for each in tensors if each.role == "linear" and each.verdict != "not examined"
    ]
    quantized = sum(verdict in ("on a grid", "quantized") for verdict in verdicts)
    return {
        "linear_weights": len(verdicts),
        "quantized_share": quantized / len(verdicts) if verdicts else None,
    }


@dataclass(frozen=True)
class _Judged:
    verdict: Verdict
    said: str
    evidence: Evidence


def judge_model(
    files: AuditedFiles,
    examined: Sequence[Examined],
    duplicates: Sequence[tuple[str, str]],
    *,
    is_complete: bool,
) -> Audit:
    """The verdict on a model, by rule.

    Args:
        duplicates: pairs of its tensors that are the same to the last bit.
    """
    tensors = _corrected(examined)
    judged = _verdict(files, tensors)
    return Audit(
        model=files.name,
        declared=files.declared,
        is_complete=is_complete,
        verdict=judged.verdict,
        said=judged.said,
        **_counted_linear(tensors),
        findings=tuple(_findings(files, tensors, duplicates)),
        code=tuple(code_in(files)),
        tensors=tuple(tensors),
        **judged.evidence.model_dump(),
    )


def _corrected(examined: Sequence[Examined]) -> list[TensorOutcome]:
    """Bounds of chances, corrected over tensors, directions and sizes; what then may be chance is
    on no grid.
    """
    raw = [test for each in examined for test in each.tests]
    corrected: dict[float, float] = {}
    for before, after in zip(raw, holm(raw), strict=True):
        corrected[before] = max(after, corrected.get(before, after))
    return [_with_p(each.outcome, corrected) for each in examined]


def _with_p(outcome: TensorOutcome, corrected: dict[float, float]) -> TensorOutcome:
    if outcome.log10_p is None:
        return outcome
    log10_p = corrected[outcome.log10_p]
    update: dict[str, object] = {"log10_p": log10_p, "p_value": 10 ** max(log10_p, -400)}
    if outcome.verdict == "on a grid" and log10_p > LOG10_ALPHA:
        nothing = Evidence().model_dump(exclude={"p_value", "log10_p"})
        update |= {**nothing, "verdict": "unclear"}
    return outcome.model_copy(update=update)


def _verdict(files: AuditedFiles, tensors: Sequence[TensorOutcome]) -> _Judged:
    linear = [each for each in tensors if each.role == "linear"]
    on_grid, plain, unclear, packed = (
        [each for each in linear if each.verdict == verdict]
        for verdict in ("on a grid", "plain", "unclear", "quantized")
    )
    evidence = _evidence(on_grid)
    if packed and (files.is_gguf or files.declared) and not on_grid:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in _counted(t.dtype for t in packed))
        return _Judged("quantized as declared", f"Quantized, as its files say: {kinds}.", evidence)
    if packed and not on_grid and not files.is_gguf:
        said = (
            f"Quantized, which its configuration does not say: {_listed(packed)} "
            f"{_are(packed)} kept as {packed[0].dtype}."
        )
        return _Judged("on a grid", said, evidence)
    judged = [*on_grid, *plain, *unclear]
    if not judged:
        return _Judged("cannot tell", "Cannot tell: no linear weight to look at.", evidence)
    if not on_grid and unclear:
        most = max(each.share or 0.0 for each in unclear)
        said = (
            f"Cannot tell: of {_listed(unclear)} some blocks lie on a grid (at most "
            f"{most:.0%}), too few to say that the weights do and too many for chance."
        )
        return _Judged("cannot tell", said, evidence)
    if not on_grid:
        said = f"No trace of quantization in {_number(len(plain), 'linear weight')}."
        return _Judged("no trace of quantization", said, evidence)
    where = f"{len(on_grid)} of {_number(len(judged) + len(packed), 'linear weight')}"
    if len(on_grid) < len(judged) + len(packed):
        fewer = min((on_grid, [*plain, *unclear, *packed]), key=len)
        which = "on it" if fewer is on_grid else "not"
        said = f"Mixed: {where} on a grid ({_kinds(on_grid)}); {which}: {_listed(fewer)}."
        return _Judged("mixed", said, evidence)
    said = f"{_kinds(on_grid)}; {where}{_how_sure(evidence)}"
    native = _native_source(files, on_grid)
    if native is not None:
        said = f"Natively quantized, as far as can be told ({native}): {said}"
        return _Judged("natively quantized", said, evidence)
    return _Judged("on a grid", f"On a grid: {said}", evidence)


def _evidence(on_grid: Sequence[TensorOutcome]) -> Evidence:
    """That of the kind that most weights have; how sure is said of its surest tensor."""
    if not on_grid:
        return Evidence()
    sizes = Counter[str]()
    for each in on_grid:
        sizes[kind_of(each)] += math.prod(each.shape)
    (kind, _), *_ = sizes.most_common(1)
    alike = [each for each in on_grid if kind_of(each) == kind]
    surest = min(alike, key=lambda each: each.log10_p or 0.0)
    return Evidence.model_validate(surest.model_dump(include=set(Evidence.model_fields)))


def kind_of(evidence: Evidence) -> str:
    """A grid in words: its levels, its names, its block."""
    names = f" ({' or '.join(evidence.names)})" if evidence.names else ""
    if evidence.groups_permuted:
        return f"{evidence.family}, groups permuted"
    match evidence.block:
        case None:
            block = ""
        case int():
            block = f", groups of {evidence.block}"
        case "row" | "column" | "tensor":
            block = f", a scale a {evidence.block}"
        case _:
            block = f", tiles of {evidence.block}"
    return f"{evidence.family}{names}{block}"


def _kinds(on_grid: Sequence[TensorOutcome]) -> str:
    found = _counted(kind_of(each) for each in on_grid)
    if len(found) == 1:
        return found[0][0]
    return "; ".join(f"{kind}: {count}" for kind, count in found)


def _how_sure(evidence: Evidence) -> str:
    if evidence.log10_p is None:
        return "."
    if evidence.log10_p < _LEAST_LOG10:
        return f" (p < 1e{_LEAST_LOG10})."
    return f" (p < {10**evidence.log10_p:.0e})."


def _native_source(files: AuditedFiles, on_grid: Sequence[TensorOutcome]) -> str | None:
    model_type = files.configuration.get("model_type")
    for native in NATIVE:
        if native.model_type == model_type and all(
            (each.family, each.block) == (native.grid, native.block) for each in on_grid
        ):
            return native.source
    return None


def _findings(
    files: AuditedFiles, tensors: Sequence[TensorOutcome], duplicates: Sequence[tuple[str, str]]
) -> Iterator[str]:
    linear = [each for each in tensors if each.role == "linear"]
    plain = [each for each in linear if each.verdict == "plain"]
    packed = [each for each in linear if each.verdict == "quantized"]
    if files.declared and not packed and plain:
        yield (
            f"the configuration declares {files.declared}, and {_listed(plain)} "
            f"{_are(plain)} not quantized"
        )
    for each in tensors:
        if each.role != "linear" and each.verdict == "on a grid":
            yield f"{each.name} ({each.role}) is on a grid: {kind_of(each)}"
        if each.verdict == "on a grid" and each.reason:
            yield f"{each.name}: {each.reason}"
        elif each.reason and each.reason != "too few weights":
            yield f"{each.name} {each.reason}"
    for first, second in duplicates:
        yield f"{second} is the same as {first}, to the last bit"


def _counted(words: Iterable[str]) -> list[tuple[str, int]]:
    return Counter(words).most_common()


def _listed(tensors: Sequence[TensorOutcome]) -> str:
    named = ", ".join(each.name for each in tensors[:_NAMED])
    more = len(tensors) - _NAMED
    return f"{named} and {more} more" if more > 0 else named


def _are(tensors: Sequence[TensorOutcome]) -> str:
    return "is" if len(tensors) == 1 else "are"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)
