"""Where runs are: a folder, or a URL of an object store."""

from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import BadInputError
from orchestrator.locations import is_url, location_of
from orchestrator.storage.local_files import LocalResults
from orchestrator.storage.object_files import ObjectResults
from orchestrator.storage.object_store import ObjectStore
from orchestrator.storage.run_files import ResultsFiles
from orchestrator.storage.run_folder import RunFolder


@dataclass(frozen=True)
class ResultsFolder:
    """What holds runs, and pages on several of them.

    Attributes:
        files: where that is.
    """

    files: ResultsFiles

    @classmethod
    def at(cls, location: str | Path, setting: str = "--results") -> "ResultsFolder":
        """That at a folder or a URL.

        Args:
            setting: that names it, for errors.

        Raises:
            BadInputError: it is a URL of a kind that nobody reads here, or a package is missing.
        """
        try:
            location = location_of(location)
        except ValueError as error:
            raise BadInputError(setting, str(error)) from None
        if is_url(location):
            return cls(ObjectResults(ObjectStore.at(location, setting)))
        return cls(LocalResults(Path(location)))

    def __str__(self) -> str:
        return str(self.files)

    def run(self, name: str) -> RunFolder:
        """A run, there or not."""
        return RunFolder(self.files.run(name))

    @classmethod
    def of(cls, run: RunFolder) -> "ResultsFolder":
        """What holds a run."""
        return cls.at(_parted(str(run))[0])

    def find(self, named: str) -> RunFolder:
        """What somebody names: where a run is, or one of these runs.

        Raises:
            BadInputError: there is neither.
        """
        elsewhere = run_at(named)
        if elsewhere.exists():
            return elsewhere
        if is_url(named):
            results, folder = ResultsFolder.of(elsewhere), elsewhere
        else:
            results, folder = self, self.run(named)
            if folder.exists():
                return folder
        known = ", ".join(run.name for run in results.runs()) or "none"
        raise BadInputError("RUN", f"no run {folder}; runs there: {known}")

    def runs(self) -> list[RunFolder]:
        """The runs that are there, newest first."""
        return [RunFolder(files) for files in self.files.runs()]

    def write_page(self, name: str, content: str) -> str:
        """Writes a page on several runs; where it is."""
        return self.files.write_page(f"{name}.html", content.encode())

    def check_writable(self) -> None:
        """Refuses what cannot be written, before anything starts; raises as `ResultsFiles` does."""
        self.files.check_writable()


def run_at(location: str | Path) -> RunFolder:
    """A run at a folder or a URL, there or not.

    Raises:
        BadInputError: as of `ResultsFolder.at`.
    """
    parent, name = _parted(str(location))
    return ResultsFolder.at(parent, "RUN").run(name)


def _parted(location: str) -> tuple[str, str]:
    """What holds a run, and the run's name there."""
    if is_url(location):
        parent, _, name = location.rstrip("/").rpartition("/")
        return parent, name
    path = Path(location).expanduser()
    return str(path.parent), path.name
