"""How long stretches of work take, without making the host wait for the device between them."""

import time

import torch


class Stopwatch:
    """Marks moments on a device: by its own clock on CUDA, the processor's elsewhere.

    Work on CUDA is queued ahead of its execution: the host's clock would time the queueing.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._on_gpu = device.type == "cuda"
        self._events: list[torch.cuda.Event] = []
        self._times: list[float] = []
        self.mark()

    def mark(self) -> None:
        """Notes the moment at which all work so far is done."""
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            self._events.append(event)
        else:
            self._times.append(time.perf_counter())

    def wait_for(self, mark: int) -> None:
        """Waits until the work before a mark is done; the first mark, of the beginning, is 0."""
        if self._on_gpu:
            self._events[mark].synchronize()

    def seconds(self) -> list[float]:
        """The times between consecutive marks; waits until the work before the last is done."""
        if self._on_gpu:
            self._events[-1].synchronize()
            pairs = zip(self._events, self._events[1:], strict=False)
            return [begin.elapsed_time(end) / 1000 for begin, end in pairs]
        return [end - begin for begin, end in zip(self._times, self._times[1:], strict=False)]


def synchronize(device: torch.device) -> None:
    """Waits until a device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
