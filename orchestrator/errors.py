"""The errors that end a command, each with its exit status and one line for the user."""

import errno
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


class CannotWriteError(SweepFailedError):
    """A file cannot be written; those that were written before are whole.

    Args:
        what: it is, as the user knows it.
        error: why.
    """

    def __init__(self, what: str, error: OSError) -> None:
        where = f": {error.filename}" if error.filename else ""
        super().__init__(f"{what} cannot be written ({error.strerror}{where}); {remedy_for(error)}")


def remedy_for(error: OSError) -> str:
    """What to do where something cannot be written."""
    return _REMEDIES.get(error.errno or 0, "mend that") + ", then run it again"


_REMEDIES = {
    # Also where no further file can be made: its inodes are used up.
    errno.ENOSPC: "free some space, or remove files where too many are the reason (df -i)",
    errno.EDQUOT: "free some space of your quota",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.EACCES: "see to its permissions",
    errno.EPERM: "see to its permissions",
    errno.EROFS: "have it writable, or name other --results",
    errno.EEXIST: "move what is in the way",
    errno.EISDIR: "move the folder that is in the way",
    errno.ENOTDIR: "move the file that is in the way",
    errno.ENOTEMPTY: "move the folder that is in the way",
    errno.ELOOP: "remove the link",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.ENOENT: "see whether it is there",
    errno.EIO: "see to the disk",
    errno.ESTALE: "see to the mount",
    errno.EHOSTUNREACH: "see to the store, its endpoint and your credentials",
}
