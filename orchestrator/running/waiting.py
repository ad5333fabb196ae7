"""Waiting until a cluster has as many GPUs free as a sweep asks for. Pure but for its clock."""

import time
from collections.abc import Callable

from orchestrator.errors import BadInputError
from orchestrator.gpus_wanted import GpusWanted

_POLL_SECONDS = 1.0
# After so long, and then again, it is said how far it is.
_SAID_AGAIN_SECONDS = 60.0


def wait_for(
    wanted: GpusWanted,
    free: Callable[[], int],
    tell: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Returns once there are as many.

    Args:
        free: how many there are now.
        tell: is told how far it is: at first, when that changes, and now and then.

    Raises:
        BadInputError: there are fewer when the time is over.
    """
    began, told, last = clock(), -1, 0.0
    while (there := free()) < wanted.count:
        passed = clock() - began
        if passed >= wanted.minutes * 60:
            raise BadInputError(
                "--wait-for-gpus",
                f"{there} of {wanted.count} GPUs were free after {wanted.minutes:g} minutes; wait "
                "longer, ask for fewer, or see why the cluster adds none (`ray status`)",
            )
        if there != told or passed - last >= _SAID_AGAIN_SECONDS:
            left = wanted.minutes - passed / 60
            tell(f"{there} of {wanted.count} GPUs are free; waiting, {left:.0f} minutes at most…")
            told, last = there, passed
        sleep(_POLL_SECONDS)
