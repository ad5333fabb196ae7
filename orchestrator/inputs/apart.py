"""Work on what a stranger made (tables, chat templates) in a process of its own: what crashes,
hangs or takes all memory there ends that process, and the command with one line.

The process is started once, waits for what is asked of it in JSON lines, and ends with its parent.
"""

import contextlib
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from orchestrator.contract.variant_errors import first_line
from orchestrator.errors import BadInputError
from orchestrator.inputs.chat_templates import import_templates, render_prompt
from orchestrator.inputs.dataset_tables import rows_of_tables

# By name: what can be asked, of JSON and with JSON as the answer.
WORK: Mapping[str, Callable[..., Any]] = {
    "rows_of_tables": rows_of_tables,
    "render_prompt": render_prompt,
}

# Of those that import what takes seconds: what imports it.
IMPORTS: Mapping[str, Callable[[], None]] = {"render_prompt": import_templates}

# Beside what is read, for libraries and their threads.
_LEAST_BYTES = 4 * 2**30
# What a reader may take of memory for each byte of a file, most of which are packed.
_TIMES_FILE = 32
# Likewise of time.
_SECONDS_PER_BYTE = 5 / 2**20


class ApartError(Exception):
    """The process ended instead of answering; the message says how."""


class Apart:
    """The process, which is started when something is asked of it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, work: str | None = None) -> None:
        """Begins to start it, which goes on beside whatever comes next.

        Args:
            work: what it will be asked first: it imports what that needs.
        """
        if self._process is None or self._process.poll() is not None:
            folder = str(Path(__file__).parents[2])
            path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
            self._process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.inputs.apart", *filter(None, [work])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
                # A signal of the terminal is for the command, which then ends this.
                start_new_session=True,
            )

    def ask(
        self,
        work: str,
        request: Mapping[str, Any],
        reads: Sequence[Path] = (),
        least_seconds: float = 120.0,
    ) -> Any:
        """What the process answers.

        Args:
            work: a key of `WORK`.
            request: what it is given.
            reads: the files that it will read: memory and time are bounded by their size.
            least_seconds: that it may take in any case.

        Raises:
            BadInputError: as the work does.
            ApartError: there is no answer.
        """
        self.start()
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        size = sum(file.stat().st_size for file in reads)
        memory = _LEAST_BYTES + _TIMES_FILE * size
        seconds = least_seconds + _SECONDS_PER_BYTE * size
        said = {"work": work, "memory_bytes": memory, "request": request}
        try:
            process.stdin.write(json.dumps(said).encode() + b"\n")
            process.stdin.flush()
            line = _line_of(process.stdout, seconds)
        except BrokenPipeError:
            line = b""
        except BaseException:
            self.stop()
            raise
        if not line.endswith(b"\n"):
            ended = process.wait()
            raise ApartError(_reason(ended))
        answer = json.loads(line)
        if "problem" in answer:
            raise BadInputError(answer["setting"], answer["problem"])
        if "error" in answer:
            raise ApartError(answer["error"])
        return answer["found"]

    def stop(self) -> None:
        """Ends the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


# One a command.
APART = Apart()


def _line_of(stream: IO[bytes], seconds: float) -> bytes:
    """The next line of a stream.

    Raises:
        ApartError: it does not come in time.
    """
    deadline = time.monotonic() + seconds
    pieces: list[bytes] = []
    with selectors.DefaultSelector() as ready:
        ready.register(stream, selectors.EVENT_READ)
        while not (pieces and pieces[-1].endswith(b"\n")):
            if not ready.select(max(0.0, deadline - time.monotonic())):
                raise ApartError(f"no end after {seconds:.0f} s")
            piece = os.read(stream.fileno(), 2**20)
            if not piece:
                break
            pieces.append(piece)
    return b"".join(pieces)


def _reason(ended: int) -> str:
    if ended == -signal.SIGKILL:
        return "it takes more memory than there is"
    if ended < 0:
        return f"its reader crashes ({signal.Signals(-ended).name})"
    return "its reader ends without an answer"


def main() -> None:
    """Answers whatever is asked on the standard input, until that ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    # What libraries print is no answer.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for work in sys.argv[1:]:
        # What goes wrong is told when it is asked for.
        with contextlib.suppress(Exception):
            IMPORTS[work]()
    for line in sys.stdin:
        said = json.loads(line)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (said["memory_bytes"], resource.RLIM_INFINITY))
        try:
            answer = {"found": WORK[said["work"]](**said["request"])}
        except BadInputError as error:
            setting, _, problem = str(error).partition(": ")
            answer = {"setting": setting, "problem": problem}
        except MemoryError:
            answer = {"error": f"it takes more than {said['memory_bytes'] >> 30} GiB of memory"}
        except RecursionError:
            answer = {"error": "it is nested too deep"}
        except Exception as error:
            # Whatever a stranger's template raises, or a library of a stranger's file.
            answer = {"error": first_line(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
