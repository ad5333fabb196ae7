"""The two consoles of a command: results go to standard output, all else to standard error."""

import sys

from rich.console import Console

# Off a terminal the width is not known; a table cut to 80 columns would lose figures.
_PLAIN_WIDTH = 130


def results_console() -> Console:
    """The console that results are printed on: standard output."""
    console = Console()
    return console if console.is_terminal else Console(width=_PLAIN_WIDTH)


def messages_console() -> Console:
    """The console that progress and messages go to: standard error."""
    return Console(file=sys.stderr)


def say(console: Console, text: str) -> None:
    """Prints a line as it is: no markup in it, no colours, not broken at the console's width."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
