"""The two consoles of a command: results go to standard output, all else to standard error.

What goes to standard error is text, or an object of JSON a line, as `tell_as` says.
"""

import json
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from rich.console import Console
from rich.text import Text

from orchestrator.errors import OrchestratorError
from orchestrator.printable import masked, printable

LogFormat = Literal["text", "json"]

# Of events that are no good news.
_LEVELS = {"failed": "warning", "states_lost": "warning", "given_up": "error"}

# Off a terminal the width is not known; a table cut to 80 columns would lose figures.
_PLAIN_WIDTH = 160


class _Stream:
    """A stream on which some of what cannot be written is left out.

    Args:
        stream: where it goes.
        ignored: the errors for which nothing is to end.
    """

    def __init__(self, stream: TextIO, ignored: type[OSError]) -> None:
        self._stream = stream
        self._ignored = ignored

    def write(self, text: str) -> int:
        with self._guarded():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._guarded():
            self._stream.flush()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except self._ignored:
            pass
        except OSError as error:
            raise OrchestratorError(f"the results cannot be shown ({error.strerror})") from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def results_console() -> Console:
    """The console that results are printed on: standard output; `| head` may have seen enough."""
    stream: Any = _Stream(sys.stdout, BrokenPipeError)
    return Console(file=stream, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)


class _JsonLines(_Stream):
    """Standard error where each message is an object of JSON."""

    def tell(self, message: str, about: Mapping[str, Any]) -> None:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        said = {"time": now, "level": "info", **_about, **about, "message": message}
        safe = {k: _safe(v) if isinstance(v, str) else v for k, v in said.items()}
        self.write(json.dumps(safe, ensure_ascii=False) + "\n")
        self.flush()


# Of this process: how messages are told, and what all of them are about.
_format: LogFormat = "text"
_about: dict[str, str] = {}


def tell_as(chosen: LogFormat, **about: str) -> None:
    """Says how this process tells messages from now on, and what all of them are about."""
    global _format
    _format = chosen
    _about.clear()
    _about.update(about)


def messages_console() -> Console:
    """The console that progress and messages go to: standard error; no sweep ends for them."""
    if _format == "json":
        lines: Any = _JsonLines(sys.stderr, OSError)
        return Console(file=lines, force_terminal=False)
    stream: Any = _Stream(sys.stderr, OSError)
    return Console(file=stream)


def say(console: Console, text: str, **about: Any) -> None:
    """Prints a line as it is: no markup in it, no colours, not broken at the console's width.

    What would act on a terminal is shown by a mark, what gives access by stars.

    Args:
        about: what it is about (`variant`, `shard`, `level`), for messages in JSON.
    """
    if isinstance(console.file, _JsonLines):
        console.file.tell(text, about)
    else:
        console.print(_safe(text), markup=False, highlight=False, soft_wrap=True)


def tell_event(event: Mapping[str, Any]) -> None:
    """Tells an event of a run, where messages are in JSON; as text, `events.jsonl` has it alone."""
    if _format == "json":
        subject = event.get("shard") or event.get("variant") or event.get("phase") or ""
        level = _LEVELS.get(event["event"], "info")
        say(messages_console(), f"{event['event']} {subject}".strip(), **event, level=level)


def _safe(text: str) -> str:
    return printable(masked(text))


def plain_text(text: str, style: str = "") -> Text:
    """A text for a table: no markup in it, and nothing that acts."""
    return Text(_safe(text), style=style)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Leaves out what libraries tell of themselves, which Ray writes to files of its own.

    Not by their loggers' levels, which they set as they are imported.
    """
    earlier = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(earlier)
