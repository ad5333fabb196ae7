"""A process that imports what an actor needs before there is one, and then becomes its worker.

    python -u -m actors.imported DESCRIPTOR STARTER

DESCRIPTOR is that of a listening socket, on which `actors.take_over` says what it is to become;
STARTER the process that it ends with as long as nobody does.
"""

import json
import os
import runpy
import socket
import sys

_POLL_SECONDS = 1.0
_MESSAGE_BYTES = 2**16


def main() -> None:
    """Imports, waits until it is taken over, and runs what it is told."""
    descriptor, starter = map(int, sys.argv[1:])
    with socket.socket(fileno=descriptor) as listening:
        import actors.transformers_engine  # noqa: F401 - what most variants need

        listening.settimeout(_POLL_SECONDS)
        while True:
            try:
                connection, _ = listening.accept()
                break
            except TimeoutError:
                if os.getppid() != starter:
                    return
    _become(connection)


def _become(connection: socket.socket) -> None:
    """Runs a script as if Python had been started with it, in the place of who is connected.

    The connection stays open as long as this process lives.
    """
    connection.settimeout(None)
    said, descriptors, _, _ = socket.recv_fds(connection, _MESSAGE_BYTES, 3)
    while more := connection.recv(_MESSAGE_BYTES):
        said += more
    told = json.loads(said)
    connection.send(b"1")
    os.environ.clear()
    os.environ.update(told["environment"])
    os.chdir(told["folder"])
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.argv = told["words"]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
