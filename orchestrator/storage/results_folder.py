"""The folder that holds runs, and pages on several of them."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.files import write_atomically
from orchestrator.storage.run_folder import RunFolder, not_writable, runs_in


@dataclass(frozen=True)
class ResultsFolder:
    """A folder that holds runs, and pages on several of them."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def run(self, name: str) -> RunFolder:
        """A run, there or not."""
        return RunFolder(self.path / name)

    def find(self, named: str) -> RunFolder:
        """What somebody names: a run's folder, or one of these runs, there or not."""
        folder = RunFolder(Path(named).expanduser())
        return folder if folder.exists() else self.run(named)

    def runs(self) -> list[RunFolder]:
        """The runs that are there, newest first."""
        return runs_in(self.path)

    def write_page(self, name: str, content: str) -> Path:
        """Writes a page on several runs; where it is."""
        path = self.path / f"{name}.html"
        write_atomically(path, content.encode())
        return path

    def check_writable(self) -> None:
        """Refuses a folder that cannot be written, before anything starts; leaves none behind.

        Raises:
            BadInputError: it cannot be made.
        """
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise not_writable(self.path, error) from None
        finally:
            for folder in missing:
                with suppress(OSError):
                    folder.rmdir()
