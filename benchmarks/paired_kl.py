"""What the divergence costs a candidate's window: by a model folder, medians of one run.

    python benchmarks/paired_kl.py MODEL_FOLDER [--variants int8,nf4] [--length 2048]

`bare` is a forward pass with the logits of all positions, as transformers gives them; `states` one
without them; `paired` has the states and every measure against the reference's, which lie on the
device already. `bytes` is what a token's states take, and how much more its logits would.
"""

import argparse
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from actors.divergence import compare_positions
from actors.head import StateReader
from actors.loading import load_model, prepare_arithmetic
from orchestrator.contract.shards import ModelLocation, Window
from orchestrator.contract.variants import VARIANTS

_REPEATS = 15
_WARM_UP = 3
REFERENCE = "fp16"


def milliseconds(call: Callable[[], Any], device: torch.device) -> float:
    """The median wall time of a call, the device idle before and after."""
    times = []
    for _ in range(_WARM_UP + _REPEATS):
        _synchronize(device)
        begin = time.perf_counter()
        call()
        _synchronize(device)
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times[_WARM_UP:])


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def load(folder: Path, variant: str, device: torch.device) -> Any:
    """A variant, computing in float16 on a GPU and in float32 on a CPU."""
    model = load_model(ModelLocation(id_or_path=str(folder)), VARIANTS[variant], device)
    prepare_arithmetic(model, torch.float16 if device.type == "cuda" else torch.float32)
    return model


@torch.inference_mode()
def main() -> None:
    """Measures each variant beside the reference, and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--variants", default="int8,nf4")
    parser.add_argument("--length", type=int, default=2048)
    arguments = parser.parse_args()
    # bitsandbytes repeats at every layer what it does with float32 inputs.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    model = load(arguments.model, REFERENCE, device)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (arguments.length,), generator=generator).tolist()
    window = Window.scored_from(ids, 1)
    inputs = torch.tensor([ids], device=device)
    targets = torch.tensor(window.target_ids, device=device)
    reference = StateReader(model, device).states(window)
    held = reference.values[0].nbytes
    more = vocabulary * reference.values.itemsize / held
    del model

    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    table = Table(
        title=f"{name}, a window of {arguments.length}, a token's states {held} bytes, "
        f"its logits {more:.0f} times that"
    )
    for column in ("variant", "bare ms", "states ms", "paired ms", "paired / bare"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for variant in (REFERENCE, *arguments.variants.split(",")):
        candidate = load(arguments.model, variant, device)
        reader = StateReader(candidate, device)

        def paired(reader: StateReader = reader) -> None:
            own = reader.states(window)
            size = own.values.itemsize
            compare_positions(reference.logits, own.logits, targets, own.vocabulary, size)

        bare = milliseconds(lambda: candidate(input_ids=inputs, use_cache=False), device)  # noqa: B023
        states = milliseconds(lambda: reader.states(window), device)  # noqa: B023
        both = milliseconds(paired, device)
        table.add_row(variant, f"{bare:.1f}", f"{states:.1f}", f"{both:.1f}", f"{both / bare:.3f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
