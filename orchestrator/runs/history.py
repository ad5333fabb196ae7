"""Runs of one model over time → series of comparable points, and what changed between them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.runs.finished import FinishedRun


@dataclass(frozen=True)
class Series:
    """Runs that measured the same of one model, in order of time.

    Attributes:
        runs: with the same text and the same prompts; weights, variants and machines may differ.
    """

    model: str
    runs: tuple[FinishedRun, ...]

    @property
    def variants(self) -> list[str]:
        """All that any of them has."""
        return list(dict.fromkeys(name for run in self.runs for name in run.comparison.variants))


def series_of(runs: Sequence[FinishedRun]) -> list[Series]:
    """The runs by model and by what was measured; unlike ones are in no series together."""
    grouped: dict[tuple[object, ...], list[FinishedRun]] = {}
    for run in runs:
        model = run.comparison.provenance.model.id
        grouped.setdefault((model, run.windows, run.answers), []).append(run)
    return [
        Series(found[0].comparison.provenance.model.id, tuple(found)) for found in grouped.values()
    ]


def changes(before: FinishedRun, after: FinishedRun) -> list[str]:
    """What figures depend on that is another in the later of two runs, each with both values."""
    one, two = before.comparison, after.comparison
    found = []
    for name, earlier, later in _dependencies(before, after):
        if earlier != later:
            found.append(f"{name} {earlier} → {later}")
    if one.reference != two.reference:
        found.append(f"reference {one.reference} → {two.reference}")
    gone = [name for name in one.variants if name not in two.variants]
    new = [name for name in two.variants if name not in one.variants]
    if gone:
        found.append(f"without {', '.join(gone)}")
    if new:
        found.append(f"with {', '.join(new)}")
    for name in one.variants:
        if name in two.variants:
            a, b = one.variants[name], two.variants[name]
            if a.checkpoint != b.checkpoint:
                found.append(f"checkpoint of {name} {a.checkpoint} → {b.checkpoint}")
            if a.compute_dtype != b.compute_dtype:
                found.append(f"compute dtype of {name} {a.compute_dtype} → {b.compute_dtype}")
    return found


def _dependencies(before: FinishedRun, after: FinishedRun) -> Iterator[tuple[str, str, str]]:
    one, two = before.comparison.provenance, after.comparison.provenance
    yield "revision", one.model.revision or "none", two.model.revision or "none"
    yield "weights", one.model.content_hash[:12], two.model.content_hash[:12]
    yield "device", ", ".join(one.devices), ", ".join(two.devices)
    for library in dict.fromkeys((*one.versions, *two.versions)):
        earlier, later = (", ".join(p.versions.get(library) or ["none"]) for p in (one, two))
        yield library, earlier, later
