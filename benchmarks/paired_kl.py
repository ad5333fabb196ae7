"""What the divergence costs, by a model folder: medians and ratios of one run.

    python benchmarks/paired_kl.py MODEL_FOLDER [--variants int8,nf4] [--length 2048]
    python benchmarks/paired_kl.py MODEL_FOLDER --ways [--variants nf4] [--shards 6]

The first prints, by variant, the time of a window: `bare` is a forward pass with the logits of all
positions, as transformers gives them; `ours` is all that a sweep does with it: for the reference
its likelihoods and its states on the host, for a candidate every measure against states that come
from the host. `both` is the reference's and the candidate's time over both bare ones.

The second prints the wall time of a sweep of windows on Ray, with two actors on the devices that
there are, by what passes between them: hidden states (the product), the logits instead, or logits
that are written to a disk and read from it.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from rich.console import Console
from rich.table import Table

from actors.actor import ModelActor
from actors.loading import load_model, load_tokenizer, prepare_arithmetic
from actors.stopwatch import synchronize
from actors.windows import WindowRunner
from actors.worst_token_texts import decoder
from orchestrator.contract.exchange import Reference, ReferenceStates, TensorData
from orchestrator.contract.shards import Assignment, ModelLocation, OneDevice, Window
from orchestrator.contract.stages import WindowsPayload
from orchestrator.contract.variants import VARIANTS

_REPEATS = 9
_WARM_UP = 2
_WINDOWS = 4
REFERENCE = "fp16"
WAYS = ("states", "logits", "disk")


def milliseconds(call: Callable[[], Any], device: torch.device) -> float:
    """The median wall time of a call, the device idle before and after."""
    times = []
    for _ in range(_WARM_UP + _REPEATS):
        synchronize(device)
        begin = time.perf_counter()
        call()
        synchronize(device)
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times[_WARM_UP:])


def load(folder: Path, variant: str, device: torch.device) -> Any:
    """A variant, computing in float16 on a GPU and in float32 on a CPU."""
    model = load_model(ModelLocation(id_or_path=str(folder)), VARIANTS[variant], device)
    prepare_arithmetic(model, torch.float16 if device.type == "cuda" else torch.float32)
    return model


def runner_of(folder: Path, model: Any, device: torch.device) -> WindowRunner:
    """What runs a model over windows."""
    tokenizer = load_tokenizer(ModelLocation(id_or_path=str(folder)))
    return WindowRunner(model, device, decoder(tokenizer))


def random_windows(vocabulary: int, length: int, count: int) -> WindowsPayload:
    """A shard of random tokens."""
    generator = np.random.default_rng(0)
    rows = generator.integers(vocabulary, size=(count, length)).tolist()
    windows = tuple(Window.scored_from(row, 1) for row in rows)
    return WindowsPayload(numbers=tuple(range(len(windows))), windows=windows)


def bare(model: Any, shard: WindowsPayload, device: torch.device) -> float:
    """A window's forward pass with all its logits, in milliseconds."""
    ids = [torch.tensor([window.input_ids], device=device) for window in shard.windows]
    return milliseconds(lambda: [model(input_ids=i, use_cache=False) for i in ids], device) / len(
        ids
    )


@torch.inference_mode()
def time_reference(
    arguments: argparse.Namespace, device: torch.device
) -> tuple[WindowsPayload, float, float, ReferenceStates, Reference]:
    """The shard, a window's bare and whole time in milliseconds, and what candidates get."""
    model = load(arguments.model, REFERENCE, device)
    runner = runner_of(arguments.model, model, device)
    shard = random_windows(runner.vocabulary, arguments.length, _WINDOWS)
    kept = milliseconds(lambda: runner.score_and_keep(shard), device) / _WINDOWS
    described = Reference(runner.output_head(), runner.vocabulary, np.empty(0))
    _, states = runner.score_and_keep(shard)
    return shard, bare(model, shard, device), kept, states, described


@torch.inference_mode()
def time_windows(arguments: argparse.Namespace, device: torch.device) -> Table:
    """The time of a window by variant."""
    shard, bare_reference, kept, states, described = time_reference(arguments, device)
    held = states.values[0].nbytes
    more = described.vocabulary * states.values.itemsize / held
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    table = Table(
        title=f"{name}, windows of {arguments.length}; a token's states take {held} bytes, "
        f"its logits {more:.0f} times that"
    )
    for column in ("variant", "bare ms", "ours ms", "ours / bare", "both"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    table.add_row(
        "reference", f"{bare_reference:.2f}", f"{kept:.2f}", f"{kept / bare_reference:.3f}", ""
    )
    for variant in (REFERENCE, *arguments.variants.split(",")):
        model = load(arguments.model, variant, device)
        runner = runner_of(arguments.model, model, device)

        def paired(runner: WindowRunner = runner) -> None:
            runner.compare(shard, states, described.head)

        alone = bare(model, shard, device)
        ours = milliseconds(paired, device) / _WINDOWS
        both = (kept + ours) / (bare_reference + alone)
        table.add_row(variant, f"{alone:.2f}", f"{ours:.2f}", f"{ours / alone:.3f}", f"{both:.3f}")
    return table


class Actor(ModelActor):
    """The product's actor, which can also be made to pass logits."""

    def whole_logits(self, whole: bool) -> None:
        """Whether states are logits from now on."""
        reader = self._loaded()._windows._reader
        if not hasattr(self, "_head"):
            self._head = reader.head
        reader.head = None if whole else self._head

    def write(self, payload: WindowsPayload, path: str) -> str:
        """A reference's shard whose logits go to a file."""
        _, states = self.evaluate_and_keep(payload)
        np.save(path, states.values)
        return states.dtype

    def compare_with_file(
        self, payload: WindowsPayload, path: str, dtype: Any, reference: Reference
    ) -> Any:
        """A candidate's shard held against a file."""
        return self.compare(payload, TensorData(np.load(path), dtype), reference)

    def describe(self) -> Reference:
        """As of the engine."""
        return self._loaded().describe()


def sweep(way: str, actors: tuple[Any, Any], shards: list[WindowsPayload], folder: Path) -> float:
    """The wall time of all shards through both actors, in seconds."""
    reference, candidate = actors
    ray.get([actor.whole_logits.remote(way != "states") for actor in actors])
    described = ray.put(ray.get(reference.describe.remote()))
    begin = time.perf_counter()
    ended = []
    for number, shard in enumerate(shards):
        if way == "disk":
            path = str(folder / f"{number}.npy")
            dtype = reference.write.remote(shard, path)
            ended.append(candidate.compare_with_file.remote(shard, path, dtype, described))
        else:
            keep = reference.evaluate_and_keep.options(num_returns=2)
            table, states = keep.remote(shard)
            ended += [table, candidate.compare.remote(shard, states, described)]
            del states
    ray.get(ended)
    return time.perf_counter() - begin


def time_ways(arguments: argparse.Namespace, device: torch.device) -> Table:
    """The wall time of a sweep by what passes between the actors."""
    gpus = torch.cuda.device_count()
    ray.init(address="local", num_gpus=gpus, include_dashboard=False, log_to_driver=False)
    dtype = "float16" if gpus else "float32"
    variant = arguments.variants.split(",")[-1]
    each = 0.5 if gpus == 1 else min(gpus, 1)
    remote = ray.remote(Actor).options(num_gpus=each, num_cpus=0, max_concurrency=2)
    actors = remote.remote(), remote.remote()
    assignments = (
        Assignment(
            location=ModelLocation(id_or_path=str(arguments.model)),
            variant=VARIANTS[name],
            compute_dtype=dtype,
            placement=OneDevice(device="cuda" if device.type == "cuda" else "cpu"),
            threads=1,
        )
        for name in (REFERENCE, variant)
    )
    pairs = zip(actors, assignments, strict=True)
    ray.get([actor.load.remote(assignment, False) for actor, assignment in pairs])
    vocabulary = ray.get(actors[0].describe.remote()).vocabulary
    shards = [random_windows(vocabulary, arguments.length, _WINDOWS)] * arguments.shards
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for way in WAYS:
            sweep(way, actors, shards[:2], Path(folder))
        for _ in range(3):
            for way in WAYS:
                times[way].append(sweep(way, actors, shards, Path(folder)))
    ray.shutdown()
    name = f"{gpus} x {torch.cuda.get_device_name()}" if gpus else "CPU"
    table = Table(
        title=f"{name}, {REFERENCE} and {variant}, "
        f"{arguments.shards} shards of {_WINDOWS} windows of {arguments.length}"
    )
    for column in ("what passes", "seconds", "to states"):
        table.add_column(column, justify="left" if column == "what passes" else "right")
    base = statistics.median(times["states"])
    for way in WAYS:
        taken = statistics.median(times[way])
        table.add_row(way, f"{taken:.2f}", f"{taken / base:.2f}")
    return table


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--variants", default="int8,nf4")
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--ways", action="store_true")
    parser.add_argument("--shards", type=int, default=6)
    parser.add_argument("--folder", help="for logits on a disk (default: the system's)")
    arguments = parser.parse_args()
    # bitsandbytes repeats at every layer what it does with float32 inputs.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    table = (time_ways if arguments.ways else time_windows)(arguments, device)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
