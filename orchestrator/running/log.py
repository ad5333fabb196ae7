"""What a driver tells of itself while it runs: events with their time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator.storage.events import Event, moment


class Log:
    """Passes events on, stamped by one clock.

    Args:
        keep: takes in an event.
        now: the time in seconds since the epoch.
        tell: is told what the driver is at, before it is.
    """

    def __init__(
        self,
        keep: Callable[[Event], None],
        now: Callable[[], float] = time.time,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._keep = keep
        self.now = now
        self._tell = tell

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Tells what the driver is at and, once it is done, notes for how long."""
        self._tell(f"{name}…")
        began = self.now()
        yield
        times = {"began": moment(began), "ended": moment(self.now())}
        self(Event(event="driver_worked", phase=name, **times))

    def __call__(self, event: Event) -> None:
        """Notes that something happens now."""
        self._keep(event.model_copy(update={"time": moment(self.now())}))
