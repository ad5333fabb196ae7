"""A sweep's checkpoints → their audits, made beside all else, and remembered by their content."""

import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.background import Background
from orchestrator.errors import BadInputError
from orchestrator.files import write_atomically
from orchestrator.inputs.checkpoints import Checkpoint
from orchestrator.inputs.content_hashes import caches
from orchestrator.integrity.audit import audit_files
from orchestrator.integrity.files import files_of
from orchestrator.integrity.outcome import AUDIT_VERSION, Audit
from orchestrator.integrity.verdicts import untold
from orchestrator.json_files import read_bounded

# A large one has some megabytes.
_MOST_REMEMBERED = 100
# Of threads: the least urgent.
_LEAST_URGENT = 19


class Audits:
    """Audits of checkpoints, by sample, one after another in the background, begun at once.

    Args:
        checkpoints: in the order in which they are wanted; of those with an adapter nothing is
            said.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint]) -> None:
        self._checkpoints = [one for one in checkpoints if one.location.adapter is None]
        self._first = Background(lambda: self._audit(self._checkpoints[:1]))
        self._others = Background(self._audit_others)

    @property
    def are_done(self) -> bool:
        """Whether nobody would wait for any of them."""
        return self._others.is_done

    @property
    def first(self) -> Audit:
        """That of the first checkpoint; waits for it, and raises as `by_content` does."""
        (audit,) = self._first.result().values()
        return audit

    @property
    def by_content(self) -> dict[str, Audit]:
        """All of them, by their checkpoints' content hashes; waits for them.

        Raises:
            BadInputError: a checkpoint changes while it is hashed.
        """
        return {**self._first.result(), **self._others.result()}

    def _audit_others(self) -> dict[str, Audit]:
        self._first.result()
        return self._audit(self._checkpoints[1:])

    def _audit(self, checkpoints: Sequence[Checkpoint]) -> dict[str, Audit]:
        _give_way()
        return {one.content_hash: audit_checkpoint(one) for one in checkpoints}


def audit_checkpoint(checkpoint: Checkpoint) -> Audit:
    """What a sample of a checkpoint's weights shows; remembered, where it was made before.

    Raises:
        BadInputError: a file changes while it is hashed.
    """
    found = remembered_audit(checkpoint)
    if found is not None:
        return found
    try:
        audit = audit_files(files_of(checkpoint))
    except BadInputError as error:
        # Whoever loads these files will say so, too; a sweep is not lost for its audit.
        return untold(checkpoint.location.name, str(error))
    _remember(checkpoint, audit)
    return audit


def remembered_audit(checkpoint: Checkpoint) -> Audit | None:
    """The audit of a checkpoint that was made before, as this version would make it; None: none."""
    # Whoever has no home remembers nothing.
    with suppress(OSError, ValueError, RuntimeError):
        audit = Audit.model_validate_json(read_bounded(_memory_path(checkpoint)))
        return audit.model_copy(update={"model": checkpoint.location.name})
    return None


def _memory_path(checkpoint: Checkpoint) -> Path:
    return caches() / "audits" / f"{checkpoint.content_hash}.{AUDIT_VERSION}.json"


def _remember(checkpoint: Checkpoint, audit: Audit) -> None:
    """Keeps an audit, and of the others the newest; where none can be kept, it is made again."""
    with suppress(OSError, RuntimeError):
        path = _memory_path(checkpoint)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, audit.model_dump_json().encode())
        kept = sorted(path.parent.glob("*.json"), key=lambda each: each.stat().st_mtime)
        for old in kept[:-_MOST_REMEMBERED]:
            old.unlink()


def _give_way() -> None:
    """Leaves processors to whoever wants one: what runs meanwhile may be timed.

    Threads that this one begins are as patient.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LEAST_URGENT)
