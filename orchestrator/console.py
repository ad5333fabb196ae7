"""The two consoles of a command: results go to standard output, all else to standard error."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from orchestrator.errors import OrchestratorError
from orchestrator.printable import masked, printable

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


def messages_console() -> Console:
    """The console that progress and messages go to: standard error; no sweep ends for them."""
    stream: Any = _Stream(sys.stderr, OSError)
    return Console(file=stream)


def say(console: Console, text: str) -> None:
    """Prints a line as it is: no markup in it, no colours, not broken at the console's width.

    What would act on a terminal is shown by a mark, what gives access by stars.
    """
    console.print(printable(masked(text)), markup=False, highlight=False, soft_wrap=True)


def plain_text(text: str, style: str = "") -> Text:
    """A text for a table: no markup in it, and nothing that acts."""
    return Text(printable(masked(text)), style=style)


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
