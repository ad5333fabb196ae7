"""Models whose weights were quantized and expanded again, or changed otherwise."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmarks.once_quantized import WAYS

Tensors = dict[str, torch.Tensor]


def changed(model: Path, folder: Path, change: Callable[[Tensors], None]) -> Path:
    """A model's folder with other weights."""
    folder.mkdir(parents=True)
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "model.safetensors")
    return folder


def is_linear(name: str) -> bool:
    return name.endswith("proj.weight")


def expanded(way: str, *, only: str = "") -> Callable[[Tensors], None]:
    """Quantizes the linear weights, or one, and expands them again."""

    def change(tensors: Tensors) -> None:
        for name in filter(is_linear, list(tensors)):
            if only in name:
                weights = WAYS[way].make(tensors[name].float().numpy())
                tensors[name] = torch.from_numpy(np.ascontiguousarray(weights)).half()

    return change
