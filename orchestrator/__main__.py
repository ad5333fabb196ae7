"""`python -m orchestrator`."""

import sys

from orchestrator.process import guarded


def main() -> int:
    """Runs the command line; the exit status is that of `orchestrator.errors.ExitStatus`."""
    return guarded(_run)


def _run() -> int:
    # Imported here, within reach of what a signal or a full disk needs.
    from orchestrator.cli import run_command

    return run_command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
