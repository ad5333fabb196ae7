"""Ctrl-C, SIGTERM and SIGHUP as a request to stop."""

import signal
import threading
from types import FrameType
from typing import Any

from orchestrator.process import interrupted, stop_signals


class StopRequest:
    """Turns them into a flag; a second signal ends the process as it always did.

    Use as a context manager; `ray.init` replaces handlers, so that a dispatch enters it afterwards.
    Off the main thread, where Python lets nobody set a handler, it asks for nothing.
    """

    def __init__(self) -> None:
        self.received = interrupted()
        self._earlier: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        here = threading.current_thread() is threading.main_thread()
        for number in stop_signals() if here else ():
            self._earlier[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = True
