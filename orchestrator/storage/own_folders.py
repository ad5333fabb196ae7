"""Folders in a run's folder, made with gloves on: it may be somebody else's, with links in it."""

from pathlib import Path

from orchestrator.errors import BadInputError


def own_folder(folder: Path, *names: str) -> Path:
    """A folder in a run's folder, made where there is none.

    Raises:
        BadInputError: it is a link.
        OSError: it cannot be made.
    """
    for name in names:
        folder = folder / name
        check_no_link(folder)
        folder.mkdir(exist_ok=True)
    return folder


def check_no_link(path: Path) -> None:
    """Refuses to write behind a link.

    Raises:
        BadInputError: it is one.
    """
    if path.is_symlink():
        raise BadInputError(
            "RUN", f"{path} is a link, and what is written there would be elsewhere; remove it"
        )
