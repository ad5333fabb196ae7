"""The divergence kernel on CUDA: plain operations and the fused kernel, in one run.

Prints, by vocabulary, the median time of a chunk as ratio to the fused kernel's, and how far each
is from float64. The chunk is the one that a sweep would take at that vocabulary.

    python benchmarks/divergence_kernel.py
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from actors.fused_divergence import compare_logits_fused
from actors.token_divergence import chunks, compare_logits
from actors.token_measures import TokenMeasures

Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], TokenMeasures]

_VOCABULARIES = (32_000, 151_936, 262_144)
_REPEATS = 50


def milliseconds(call: Callable[[], Any]) -> float:
    """The median time of a call by the device's own clock, after warm-up."""
    times = []
    for number in range(_REPEATS + 5):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        if number >= 5:
            times.append(begin.elapsed_time(end))
    return statistics.median(times)


def kl_in_float64(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """The definition."""
    log_p, log_q = (torch.log_softmax(logits.double(), dim=1) for logits in (p, q))
    return (log_p.exp() * (log_p - log_q)).sum(1)


def main() -> None:
    """Times the kernels on random logits, fresh ones for each vocabulary."""
    kernels: dict[str, Kernel] = {
        "fused": compare_logits_fused,
        "plain operations": compare_logits,
    }
    table = Table(title=torch.cuda.get_device_name())
    for column in ("vocabulary", "positions", "kernel", "ms", "to fused", "KL from float64"):
        table.add_column(column, justify="left" if column == "kernel" else "right")
    for vocabulary in _VOCABULARIES:
        # Both models' logits in float16.
        chunk = next(chunks(10_000, vocabulary, 2 * 2))
        positions = chunk.stop - chunk.start
        p = 4 * torch.randn(positions, vocabulary, device="cuda")
        q = (p + 0.05 * torch.randn_like(p)).half()
        p = p.half()
        targets = torch.randint(vocabulary, (positions,), device="cuda")
        expected = kl_in_float64(p, q)
        fused = None
        for name, kernel in kernels.items():
            error = float((kernel(p, q, targets).kl.double() - expected).abs().max())
            taken = milliseconds(partial(kernel, p, q, targets))
            fused = fused or taken
            table.add_row(
                f"{vocabulary}",
                f"{positions}",
                name,
                f"{taken:.3f}",
                f"{taken / fused:.2f}",
                f"{error:.1e}",
            )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
