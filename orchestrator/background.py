"""Work that goes on beside what the main thread does."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """A call in a thread of its own, begun at once; a process that ends does not wait for it.

    Args:
        work: what is called.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._future: Future[T] = Future()
        Thread(target=self._run, daemon=True).start()

    @property
    def is_done(self) -> bool:
        """Whether the call has ended."""
        return self._future.done()

    def wait(self) -> None:
        """Returns once the call has ended, however it did."""
        wait([self._future])

    def result(self) -> T:
        """What the call returned, once it has; raises what it raised."""
        return self._future.result()

    def _run(self) -> None:
        try:
            self._future.set_result(self._work())
        except BaseException as error:
            # It belongs to whoever asks for the result.
            self._future.set_exception(error)
