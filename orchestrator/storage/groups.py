"""Folders of a run whose files come and go: nothing is taken away but what was written here."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress

from orchestrator.contract.names import VARIANT_PATTERN
from orchestrator.json_files import USUAL_BYTES, parse_json
from orchestrator.storage.file_names import WRITTEN
from orchestrator.storage.run_files import RunFiles

# A variant's name, or a table's, with an ending.
_NAME = re.compile(rf"{VARIANT_PATTERN}\.[a-z]+")


def replace_group(run: RunFiles, group: str, files: Mapping[str, bytes]) -> None:
    """Writes files into a folder of a run, by name; those that were written there once and are not
    among them go.

    Raises:
        BadInputError: the folder is a link.
        OSError: something cannot be written.
    """
    written = _written(run)
    earlier = written.get(group, [])
    # Noted first: what a kill leaves is known, too.
    _note(run, {**written, group: sorted({*earlier, *files})})
    for name in earlier:
        if name not in files:
            run.remove(f"{group}/{name}")
    for name, content in files.items():
        run.write(f"{group}/{name}", content)
    _note(run, {**written, group: sorted(files)})


def _note(run: RunFiles, written: Mapping[str, list[str]]) -> None:
    run.write(WRITTEN, json.dumps(written, indent=2).encode() + b"\n")


def _written(run: RunFiles) -> dict[str, list[str]]:
    """By folder, the names of files that were written there; none where nothing says so.

    Names that none of these files has are left out: whoever wrote that list, nothing that lies
    elsewhere is in it.
    """
    with suppress(OSError, ValueError, TypeError, AttributeError):
        content = parse_json(run.read(WRITTEN, USUAL_BYTES))
        return {
            str(group): [name for name in map(str, names) if _NAME.fullmatch(name)]
            for group, names in content.items()
        }
    return {}
