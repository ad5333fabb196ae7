"""The process around a command: signals, streams that take nothing more, files in the way."""

import codecs
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import NoReturn

from orchestrator.errors import ExitStatus

# What a Latin-1 or ASCII terminal shows for characters that it has not.
_PLAIN = {"±": "+/-", "–": "-", "×": "x", "‖": "||", "…": "..."}

# Packages that a file of the user's, in the folder that the command is run from, would hide.
_IMPORTED = (
    *("accelerate", "actors", "bitsandbytes", "datasets", "filelock", "huggingface_hub", "jinja2"),
    *("numpy", "psutil", "pyarrow", "pydantic", "pydantic_settings", "pynvml", "ray", "rich"),
    *("safetensors", "scipy", "tokenizers", "torch", "transformers", "yaml"),
)


# The command that `pip install` makes.
INSTALLED = "quantization-orchestrator"
# Signals before which a command that does not end is ended, and the seconds that it still gets.
_ASKED_OFTEN_ENOUGH, _LAST_SECONDS = 2, 5.0

# The signals that came before a dispatch took them over.
_received: list[int] = []


class _Interrupted(BaseException):
    """A signal asked for the end. No KeyboardInterrupt: Python remembers one that passed through
    an `exec` of a library, and ends as if nobody had caught it.
    """


def guarded(command: Callable[[], int]) -> int:
    """Runs a command so that whatever its surroundings do, it ends in a line and a status."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="plain")  # type: ignore[union-attr]
    if (hiding := _hiding_file(Path.cwd())) is not None:
        print(
            f"error: {hiding} hides a package of the same name; rename it, or run the command "
            "from another folder",
            file=sys.stderr,
        )
        return ExitStatus.BAD_INPUT
    sys.unraisablehook = _report_unraisable
    _watch_for_a_second_signal()
    for number in stop_signals():
        signal.signal(number, interrupt)
    try:
        status = command()
    except BaseException:
        # A library may have made another exception of it.
        if not interrupted():
            raise
        status = ExitStatus.STOPPED_EARLY
        _tell(f"stopped. To go on: {command_line()}")
    return _close_streams(status)


def _watch_for_a_second_signal() -> None:
    """Has a second signal end the command though its main thread waits for something that never
    comes, where no handler of Python's can run: the interpreter's own, in C, tells a pipe of each.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    Thread(target=_end_at_a_second_signal, args=(read_end,), daemon=True).start()


def _end_at_a_second_signal(read_end: int) -> None:
    asking = {int(number) for number in stop_signals()}
    asked = 0
    while asked < _ASKED_OFTEN_ENOUGH:
        asked += sum(number in asking for number in os.read(read_end, 64))
    # As a rule it ends by itself.
    time.sleep(_LAST_SECONDS)
    _tell(f"stopped, though something did not answer. To go on: {command_line()}")
    kill_descendants()
    os._exit(ExitStatus.STOPPED_EARLY)


def kill_descendants() -> None:
    """Ends every process that this one started, and those that these started, whatever they do."""
    import psutil

    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            process.kill()


def stop_signals() -> list[signal.Signals]:
    """The signals that ask for the end: those that whoever started the command (`nohup`, a shell's
    `&`) has not ruled out.
    """
    asking = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return [number for number in asking if signal.getsignal(number) is not signal.SIG_IGN]


def interrupted() -> bool:
    """Whether a signal has asked for the end; a library may have swallowed what was raised."""
    return bool(_received)


def process_began() -> datetime:
    """When this process did."""
    # Imported here: first it is seen whether a file hides it.
    import psutil

    return datetime.fromtimestamp(psutil.Process().create_time(), UTC)


def program() -> str:
    """What the user called this program: the installed command, or the module."""
    return INSTALLED if Path(sys.argv[0]).name == INSTALLED else "python -m orchestrator"


def command_line() -> str:
    """The command as it was given, to be run again."""
    return f"{program()} {shlex.join(sys.argv[1:])}".strip()


def interrupt(number: int, frame: FrameType | None = None) -> NoReturn:
    """Has the command end for a signal: as if that came now."""
    _received.append(number)
    # A second one ends the process as it always did.
    for each in stop_signals():
        signal.signal(each, signal.SIG_DFL)
    raise _Interrupted


def _report_unraisable(problem: "sys.UnraisableHookArgs") -> None:
    """Leaves out that a signal came while an object was finalized, where nothing can be raised: it
    is remembered, and whoever asks `interrupted` ends for it.
    """
    if not isinstance(problem.exc_value, _Interrupted):
        sys.__unraisablehook__(problem)


def _tell(line: str) -> None:
    # Where it cannot be written, nobody is there to be told.
    with suppress(OSError):
        print(line, file=sys.stderr)


def _close_streams(status: int) -> int:
    """Writes out what is left; what cannot be written any more was told of before."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _silence(stream)
    return status


def _silence(stream: object) -> None:
    """Lets Python close a stream at its end without an error of its own."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())  # type: ignore[attr-defined]


def _hiding_file(folder: Path) -> Path | None:
    ours = Path(__file__).parents[1]
    for name in _IMPORTED:
        for path in (folder / f"{name}.py", folder / name / "__init__.py"):
            if path.is_file() and folder.resolve() != ours.resolve():
                return path
    return None


def _plain_characters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in text), error.end


codecs.register_error("plain", _plain_characters)
