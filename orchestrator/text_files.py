"""Text and YAML of whoever wrote it: in bounded memory, and a value or a ValueError."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

# Of settings and gates, which people write; a file of prompts may be larger.
SETTINGS_BYTES = 2**18
PROMPTS_BYTES = 2**28


def read_text(path: Path, most_bytes: int) -> str:
    """A file of text, less its byte order mark.

    Raises:
        ValueError: it is no file, larger than that, or not UTF-8.
        OSError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"it has more than {most_bytes} bytes")
    return content.decode("utf-8-sig")


def problem_of(error: ValidationError) -> str:
    """The first problem of some content, with its place in it, in a line."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def parse_yaml(text: str) -> Any:
    """What some YAML says.

    Raises:
        ValueError: it is no YAML, too deep, or has aliases, by which a few lines can mean billions.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except (RecursionError, OverflowError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it cannot be read ({type(error).__name__})") from None


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read here; write out what is meant")
        return super().compose_node(parent, index)
