"""What tells a file from the same one changed, and from another in its place."""

import socket
from pathlib import Path

from orchestrator.contract.frozen import Frozen


class FileState(Frozen):
    """A file, by what its folder says of it.

    Attributes:
        place: where it is on its machine; a link's own, not that of what it leads to.
        modified_ns, changed_ns: when its content was, and when anything of it, in nanoseconds since
            the epoch; the latter cannot be set back.
    """

    place: str
    size_bytes: int
    inode: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """The state of a file now, links followed.

        Raises:
            OSError: there is none.
        """
        found = path.stat()
        return cls(
            place=str(path.parent.resolve() / path.name),
            size_bytes=found.st_size,
            inode=found.st_ino,
            modified_ns=found.st_mtime_ns,
            changed_ns=found.st_ctime_ns,
        )

    def is_overwritten(self, later: "FileState") -> bool:
        """Whether the file itself has other bytes later, which a process that maps it sees."""
        return self.inode == later.inode and (
            (self.size_bytes, self.modified_ns) != (later.size_bytes, later.modified_ns)
        )


def this_machine() -> str:
    """A name that machines do not share, nor containers of one."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()} {boot}"
