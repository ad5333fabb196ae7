"""`python -m orchestrator`."""

import sys

from orchestrator.cli import run_command


def main() -> int:
    """Runs the command line; the exit status is that of `orchestrator.errors.ExitStatus`."""
    return run_command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
