"""A process that imports while Ray starts, for Ray to take over as its first actor's."""

import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Thread


@contextmanager
def importing() -> Iterator[str]:
    """Starts a process that imports what an actor needs; it ends when this is left.

    Ray and an actor's imports take about as long as each other, and one waits for the other else.

    Yields:
        The command that stands for Python where a worker is started: it has the process become
        that worker. The first who runs it gets it; others get a Python of their own.

    Raises:
        OSError: there is no folder for a socket, or its path is too long for one.
    """
    script = find_spec("actors.take_over")
    assert script is not None and script.origin is not None
    # Nobody else may say what the process is to become: the folder is its user's alone.
    with tempfile.TemporaryDirectory(dir=os.environ.get("RAY_TMPDIR")) as folder:
        path = str(Path(folder) / "s")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen(1)
            number = listening.fileno()
            module = ("-m", "actors.imported", str(number), str(os.getpid()))
            process = subprocess.Popen(
                [sys.executable, "-u", "-P", *module],
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
                # Until it is a worker; what goes wrong is told when a model is loaded.
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Ctrl-C is for the driver.
                start_new_session=True,
                # As here, without the current folder where that is not on the path.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            )
        # Ray asks whether it lives, which one that nobody waited for seems to.
        Thread(target=process.wait, daemon=True).start()
        try:
            yield shlex.join([sys.executable, "-I", "-S", script.origin, path])
        finally:
            process.kill()
