"""The files that a model was loaded from: whether they are still those."""

from collections.abc import Iterator
from pathlib import Path

from orchestrator.contract.file_states import FileState
from orchestrator.contract.shards import Assignment, ModelLocation
from orchestrator.contract.variant_errors import FilesChangedError, files_problem


class ModelFiles:
    """The files of a location on this machine, as they were when a model began to be loaded.

    Of a hub id some may still have to be fetched then.

    Args:
        assignment: where the model is, and what it is called.
    """

    def __init__(self, assignment: Assignment) -> None:
        self._variant = assignment.variant.name
        self._location = assignment.location
        self._states = dict(_states(self._location))

    def loaded(self) -> dict[str, FileState]:
        """The files by their names in the location, once the model is loaded.

        Raises:
            FilesChangedError: one has changed meanwhile.
        """
        before, self._states = self._states, dict(_states(self._location))
        for name, state in before.items():
            if self._states.get(name) != state:
                raise self._error(f"{name} changed while it was loaded")
        return self._states

    def check_in_place(self) -> None:
        """Refuses to go on where a file has other bytes now, which a mapped model would have, too.

        Where another file took its place, the model is still what it was loaded from.

        Raises:
            FilesChangedError: names the file.
        """
        for name, state in _states(self._location):
            if name in self._states and self._states[name].is_overwritten(state):
                raise self._error(f"{name} was overwritten while it was in use")

    def _error(self, problem: str) -> FilesChangedError:
        return FilesChangedError(files_problem(self._variant, problem))


def _states(location: ModelLocation) -> Iterator[tuple[str, FileState]]:
    """Those that are there."""
    for part in location.parts:
        for file in part.files:
            path = _find(part.id_or_path, part.revision, file)
            if path is not None and path.is_file():
                yield part.name_of(file), FileState.of(path)


def _find(id_or_path: str, revision: str | None, file: str) -> Path | None:
    if (folder := Path(id_or_path)).is_dir():
        return folder / file
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(id_or_path, file, revision=revision)
    return Path(found) if isinstance(found, str) else None
