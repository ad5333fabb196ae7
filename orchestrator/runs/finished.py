"""Finished runs as others read them: their `comparison.json`, and how alike two of them are."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from orchestrator.comparison_schema import COMPARISON_VERSION, Comparison
from orchestrator.errors import BadInputError
from orchestrator.storage.store import run_folders


@dataclass(frozen=True)
class FinishedRun:
    """A run of which a comparison is written."""

    folder: Path
    comparison: Comparison

    @property
    def name(self) -> str:
        """Its id."""
        return self.comparison.run_id

    @property
    def label(self) -> str:
        """Its id, and that it is partial where it is."""
        return self.name if self.comparison.complete else f"{self.name} (partial)"

    @property
    def windows(self) -> tuple[object, ...]:
        """How its windows are cut, and of what."""
        p = self.comparison.provenance
        return (p.dataset.content_hash, p.protocol, p.window_length, p.stride, p.max_windows)

    @property
    def text(self) -> tuple[object, ...]:
        """What its windows are of; those with the same have comparable likelihoods by byte."""
        p = self.comparison.provenance
        # Some first windows hold as many tokens, but not as much text, of another tokenizer.
        return (*self.windows, None if p.max_windows is None else p.model.content_hash)

    @property
    def answers(self) -> tuple[object, ...]:
        """What its answers are to; those with the same have comparable answers."""
        p = self.comparison.provenance
        return (p.prompts_content_hash, p.max_prompts, p.max_new_tokens)

    @property
    def machine(self) -> tuple[str, ...]:
        """Where it was computed; with the same answers, too, speeds are comparable."""
        return tuple(self.comparison.provenance.devices)


def read_run(folder: Path) -> FinishedRun:
    """Reads a run's comparison.

    Raises:
        BadInputError: there is none, or it is of another version.
    """
    path = folder / "comparison.json"
    try:
        content = path.read_bytes()
    except OSError:
        raise BadInputError(
            "RUN", f"{folder} has no comparison.json; `report {folder.name}` writes it"
        ) from None
    try:
        return FinishedRun(folder, Comparison.model_validate_json(content))
    except ValidationError:
        raise BadInputError(
            "RUN",
            f"{path} is not of version {COMPARISON_VERSION}, which this program knows; measure "
            "again under another --run-id",
        ) from None


def read_runs(results: Path) -> tuple[list[FinishedRun], list[str]]:
    """The runs of a results folder in the order in which they were started, and what is no run."""
    found, problems = [], []
    for folder in run_folders(results):
        try:
            found.append(read_run(folder))
        except BadInputError as error:
            problems.append(str(error).removeprefix("RUN: "))
    return sorted(found, key=lambda run: run.comparison.provenance.started), problems
