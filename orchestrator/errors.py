"""The errors that end a command, each with its exit status and one line for the user."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """What the process returns; 75 is EX_TEMPFAIL of sysexits.h: try again later."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    GATE_FAILED = 3
    STOPPED_EARLY = 75


class OrchestratorError(Exception):
    """An error that is told in one line, without a traceback."""

    exit_status = ExitStatus.FAILED


class BadInputError(OrchestratorError):
    """The user's settings or files cannot be used; the message names the setting and the remedy."""

    exit_status = ExitStatus.BAD_INPUT

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")


class SweepFailedError(OrchestratorError):
    """The sweep cannot go on, through no fault of its settings."""
