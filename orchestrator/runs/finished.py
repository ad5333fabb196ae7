"""Finished runs as others read them: their `comparison.json`, and how alike two of them are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.comparison_schema import COMPARISON_VERSION, Comparison, Provenance
from orchestrator.comparison_schema.notes import note
from orchestrator.contract.manifest import Manifest
from orchestrator.errors import BadInputError
from orchestrator.figures.comparison import compare
from orchestrator.figures.timeline import Start, starts_of, timeline_of
from orchestrator.json_files import parse_json
from orchestrator.storage.file_names import RunFile
from orchestrator.storage.reduce import Tables, join_shards
from orchestrator.storage.results_folder import ResultsFolder
from orchestrator.storage.run_folder import RunFolder
from orchestrator.storage.stamp import unstamped


@dataclass(frozen=True)
class ReducedRun:
    """A run, whole or partial, as its shards tell it.

    Attributes:
        starts: what was done, by start of the run.
    """

    manifest: Manifest
    tables: Tables
    starts: Sequence[Start]
    comparison: Comparison


@dataclass(frozen=True)
class FinishedRun:
    """A run of which a comparison is written."""

    folder: RunFolder
    comparison: Comparison

    @property
    def name(self) -> str:
        """The run's id."""
        return self.comparison.run_id

    @property
    def label(self) -> str:
        """The run's id, with a mark where it is partial."""
        return self.name if self.comparison.complete else f"{self.name} (partial)"

    @property
    def windows(self) -> tuple[object, ...]:
        """How its windows are cut, and of what."""
        p = self.comparison.provenance
        taken = (p.max_windows, p.window_choice, p.decided_at_windows)
        return (p.dataset.content_hash, p.protocol, p.window_length, p.stride, *taken)

    @property
    def text(self) -> tuple[object, ...]:
        """What its windows are of; those with the same have comparable likelihoods by byte."""
        p = self.comparison.provenance
        # Some of the windows hold as many tokens, but not the same text, of another tokenizer.
        return (*self.windows, None if _is_whole(p) else p.model.content_hash)

    @property
    def answers(self) -> tuple[object, ...]:
        """What its answers are to; those with the same have comparable answers."""
        p = self.comparison.provenance
        return (p.prompts_content_hash, p.max_prompts, p.max_new_tokens)

    @property
    def machine(self) -> tuple[str, ...]:
        """Where it was computed; with the same answers, too, speeds are comparable."""
        return tuple(self.comparison.provenance.devices)


@dataclass(frozen=True)
class UnreadRun:
    """A run whose comparison is not there, or cannot be read.

    Attributes:
        problem: why, in a line.
        model: the id of its model; None where that cannot be told.
        started: when it was begun; where that cannot be told, when it was last written.
    """

    problem: str
    model: str | None
    started: datetime


def _is_whole(provenance: Provenance) -> bool:
    """Whether all windows of the text are in a run."""
    return provenance.max_windows is None and provenance.decided_at_windows is None


def reduce_run(folder: RunFolder) -> ReducedRun:
    """Makes a run's comparison from its shards; writes nothing.

    Raises:
        BadInputError: there is no run, or its shards are of other versions.
    """
    manifest = folder.read_manifest()
    tables = join_shards(folder, manifest)
    log = folder.read_events()
    starts = starts_of(log.events)
    notes = [note("events_unread", count=log.unread)] if log.unread else []
    comparison = compare(tables, manifest, timeline_of(starts), notes)
    return ReducedRun(manifest, tables, starts, comparison)


def read_run(folder: RunFolder) -> FinishedRun:
    """Reads a run's comparison; one of an older layout is made again from the run's shards.

    Raises:
        BadInputError: there is none, or neither it nor the shards are of today's versions.
    """
    content = folder.read(RunFile.COMPARISON)
    if content is None:
        raise BadInputError(
            "RUN", f"{folder} has no {RunFile.COMPARISON}; `report {folder.name}` writes it"
        )
    try:
        written = parse_json(content)
        version = written["version"]
        if isinstance(version, int) and version < COMPARISON_VERSION:
            return FinishedRun(folder, reduce_run(folder).comparison)
        if version != COMPARISON_VERSION:
            problem = f"is not of version {COMPARISON_VERSION}"
        else:
            return FinishedRun(folder, Comparison.model_validate(unstamped(written)))
    except (ValueError, KeyError, TypeError):
        problem = "is not as it was written"
    raise BadInputError(
        "RUN",
        f"{folder}: its {RunFile.COMPARISON} {problem}; `report {folder.name}` writes it again",
    )


def read_runs(results: ResultsFolder) -> tuple[list[FinishedRun], list[UnreadRun]]:
    """The runs of a results folder in the order in which they were started, and the unread ones."""
    found, unread = [], []
    for folder in results.runs():
        try:
            found.append(read_run(folder))
        except BadInputError as error:
            unread.append(UnreadRun(str(error).removeprefix("RUN: "), *_begun(folder)))
    return sorted(found, key=lambda run: run.comparison.provenance.started), unread


def _begun(folder: RunFolder) -> tuple[str | None, datetime]:
    """Of which model a run is, as far as it says, and when it was begun."""
    try:
        manifest = folder.read_manifest()
    except BadInputError:
        return None, folder.written
    return manifest.model_id, manifest.started
