"""A run's folder, written with gloves on: it may be somebody else's, with links and files in it.

No link in it is followed to write, and nothing is taken away but what was written here.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from orchestrator.contract.names import VARIANT_PATTERN
from orchestrator.errors import BadInputError
from orchestrator.files import write_atomically
from orchestrator.json_files import read_json

# The names of the files in folders whose files come and go.
WRITTEN = "written.json"
# A variant's name, or a table's, with an ending.
_NAME = re.compile(rf"{VARIANT_PATTERN}\.[a-z]+")


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


def replace_group(folder: Path, group: str, files: Mapping[str, bytes]) -> None:
    """Writes files into a folder of a run's folder, by name; those that were written there once
    and are not among them go.

    Raises:
        BadInputError: the folder is a link.
        OSError: something cannot be written.
    """
    place = own_folder(folder, group)
    written = _written(folder)
    earlier = written.get(group, [])
    # Noted first: what a kill leaves is known, too.
    _note(folder, {**written, group: sorted({*earlier, *files})})
    for name in earlier:
        if name not in files:
            (place / name).unlink(missing_ok=True)
    for name, content in files.items():
        write_atomically(place / name, content)
    _note(folder, {**written, group: sorted(files)})


def _note(folder: Path, written: Mapping[str, list[str]]) -> None:
    write_atomically(folder / WRITTEN, json.dumps(written, indent=2).encode() + b"\n")


def _written(folder: Path) -> dict[str, list[str]]:
    """By folder, the names of files that were written there; none where nothing says so.

    Names that none of these files has are left out: whoever wrote that list, nothing that lies
    elsewhere is in it.
    """
    try:
        content = read_json(folder / WRITTEN)
        return {
            str(group): [name for name in map(str, names) if _NAME.fullmatch(name)]
            for group, names in content.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
