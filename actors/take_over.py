"""Has the process behind a socket run a script in the place of this one.

    python -I -S take_over.py SOCKET SCRIPT ...

It stands for Python in a command, and knows the standard library alone, so that it starts at once.
Where that process is gone, Python runs the script here.
"""

import json
import os
import socket
import sys
from pathlib import Path


def main() -> None:
    """Tells the process what to run, and ends when it does."""
    path, *words = sys.argv[1:]
    told = {"words": words, "environment": dict(os.environ), "folder": str(Path.cwd())}
    said = json.dumps(told).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
            # The streams go with the first bytes.
            sent = socket.send_fds(connection, [said], [0, 1, 2])
            connection.sendall(said[sent:])
            connection.shutdown(socket.SHUT_WR)
            is_taken = bool(connection.recv(1))
            if is_taken:
                connection.recv(1)
        except OSError:
            is_taken = False
    if not is_taken:
        os.execv(sys.executable, [sys.executable, *words])


if __name__ == "__main__":
    main()
