"""Long windows: time and memory by length, of a reference and of a variant held against it.

    python -m benchmarks.long_windows --model MODEL [--variant nf4] [--lengths 2048,8192,32768]

One random window of each length, over the whole vocabulary; both models are on the device. Printed
are seconds, medians of three, and what tensors took at most beside the weights.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import TypeVar

import torch
from rich.console import Console
from rich.table import Table

from actors.device_memory import give_back, peak_bytes
from actors.stopwatch import Stopwatch
from actors.transformers_engine import TransformersEngine
from orchestrator.contract.shards import Assignment, ModelLocation, OneDevice, Window
from orchestrator.contract.stages import WindowsPayload
from orchestrator.contract.variants import VARIANTS
from orchestrator.units import binary_size

T = TypeVar("T")
_TIMES = 3


def engine_of(model: str, variant: str, device: torch.device) -> TransformersEngine:
    """A variant of a model on a device."""
    on_gpu = device.type == "cuda"
    return TransformersEngine(
        Assignment(
            location=ModelLocation(id_or_path=model),
            variant=VARIANTS[variant],
            compute_dtype=VARIANTS[variant].weights_dtype if on_gpu else "float32",
            placement=OneDevice(device="cuda" if on_gpu else "cpu"),
            threads=torch.get_num_threads(),
        )
    )


def measured(work: Callable[[], T], device: torch.device) -> tuple[T, float, int | None]:
    """What it made; seconds; and the bytes that it took at most beside what was there."""
    seconds: list[float] = []
    made = work()
    give_back(device)
    before = peak_bytes(device)
    for _ in range(_TIMES):
        clock = Stopwatch(device)
        made = work()
        clock.mark()
        seconds += clock.seconds()
    most = peak_bytes(device)
    beside = None if most is None or before is None else most - before
    return made, statistics.median(seconds), beside


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--variant", default="nf4")
    parser.add_argument("--lengths", default="2048,8192,16384,32768")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    reference = engine_of(arguments.model, "fp16", device)
    candidate = engine_of(arguments.model, arguments.variant, device)
    described = reference.describe()
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    table = Table(title=f"{name}, one window, fp16 and {arguments.variant} held against it")
    for column in ("tokens", "fp16, s", "beside it", f"{arguments.variant}, s", "beside it"):
        table.add_column(column, justify="right")
    for length in map(int, arguments.lengths.split(",")):
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(0, reference.held.windows.vocabulary, (length,), generator=generator)
        windows = (Window.scored_from(ids.tolist(), 1),)
        payload = WindowsPayload(numbers=(0,), windows=windows)
        kept, *of_reference = measured(lambda p=payload: reference.evaluate_and_keep(p), device)
        _, *of_candidate = measured(
            lambda p=payload, s=kept[1]: candidate.compare(p, s, described), device
        )
        cells = [f"{length:,}"]
        for seconds, beside in (of_reference, of_candidate):
            cells += [f"{seconds:.2f}", "–" if beside is None else binary_size(beside)]
        table.add_row(*cells)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
