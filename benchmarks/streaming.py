"""Streamed weights beside the same on the device: tokens a second and memory, by tokens at once.

    python -m benchmarks.streaming --model MODEL [--tokens 2048,4096,8192] [--length 2048]

Both score the same random windows, in turns; printed are medians, the ratio, and whether all that
was measured of every token is equal.
"""

import argparse
import statistics
import time

import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table

from actors.device_memory import forget_peaks, peak_bytes
from actors.transformers_engine import TransformersEngine
from orchestrator.contract.shards import Assignment, ModelLocation, OneDevice, Streamed, Window
from orchestrator.contract.stages import WindowsPayload
from orchestrator.contract.variants import VARIANTS
from orchestrator.units import binary_size

_BATCHES, _TIMES = 4, 5


def engine_of(model: str, placement: OneDevice | Streamed) -> tuple[TransformersEngine, float]:
    """FP16 of a model in a place, and how long loading it took."""
    began = time.perf_counter()
    engine = TransformersEngine(
        Assignment(
            location=ModelLocation(id_or_path=model),
            variant=VARIANTS["fp16"],
            compute_dtype="float16",
            placement=placement,
            threads=1,
        )
    )
    return engine, time.perf_counter() - began


def windows_of(vocabulary: int, length: int, count: int, batch: int) -> WindowsPayload:
    """Random windows."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (count, length), generator=generator).tolist()
    windows = tuple(Window.scored_from(row, 1) for row in ids)
    return WindowsPayload(numbers=tuple(range(count)), windows=windows, batch=batch)


def timed(engine: TransformersEngine, payload: WindowsPayload) -> tuple[float, pa.Table]:
    """The seconds of a shard, and its rows."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    rows = engine.evaluate(payload)
    return time.perf_counter() - began, rows


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokens", default="2048,4096,8192")
    parser.add_argument("--length", type=int, default=2048)
    arguments = parser.parse_args()
    places = {"device": OneDevice(device="cuda"), "stream": Streamed(device="cuda")}
    made = {name: engine_of(arguments.model, place) for name, place in places.items()}
    table = Table(title=f"{torch.cuda.get_device_name()}, windows of {arguments.length}")
    for column in ("tokens at once", "placement", "tokens/s", "to device", "peak", "equal"):
        table.add_column(column, justify="right")
    device = torch.device("cuda")
    for tokens in map(int, arguments.tokens.split(",")):
        batch = max(1, tokens // arguments.length)
        vocabulary = made["device"][0].held.windows.vocabulary
        payload = windows_of(vocabulary, arguments.length, _BATCHES * batch, batch)
        seconds: dict[str, list[float]] = {name: [] for name in places}
        peaks, rows = {}, {}
        for _ in range(_TIMES):
            for name, (engine, _) in made.items():
                before = torch.cuda.memory_allocated()
                forget_peaks(device)
                taken, rows[name] = timed(engine, payload)
                seconds[name].append(taken)
                peaks[name] = (peak_bytes(device) or 0) - before
        count = payload.timed_tokens
        base = statistics.median(seconds["device"])
        equal = rows["device"]["tokens"] == rows["stream"]["tokens"]
        for name in places:
            median = statistics.median(seconds[name])
            row = (tokens, name, f"{count / median:,.0f}", f"{base / median:.3f}")
            table.add_row(*map(str, row), binary_size(peaks[name]), str(equal))
    console = Console(width=100)
    console.print(table)
    for name, (_, loading) in made.items():
        console.print(f"{name}: loaded in {loading:.1f} s")


if __name__ == "__main__":
    main()
