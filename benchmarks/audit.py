"""Does `audit` accuse the innocent, and does it name what was done? Over whole checkpoints.

Usage: python -m benchmarks.audit [--genuine FILE.safetensors ...] [--part K/N]

Checkpoints of four architectures, the demo model's trained weights and random ones, are quantized
by every way of `actors/ways_to_quantize.py`, expanded, and saved in one of three dtypes; the
genuine ones are saved as they are, with the matrices of `genuine_weights`, and with the weights of
files that are named. A tensor whose rows a way does not divide is quantized by row in 8 bits, as
converters do otherwise, too. Prints the table of `docs/integrity.md`.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    PreTrainedConfig,
    Qwen2Config,
)

from actors.ways_to_quantize import DTYPES, Matrix, Way
from benchmarks.genuine_weights import genuine
from benchmarks.once_quantized import WAYS, turned
from orchestrator.inputs.tensor_roles import role_of
from orchestrator.inputs.weight_files import read_header
from orchestrator.integrity.audit import audit_files
from orchestrator.integrity.files import AuditedFiles, find_files
from orchestrator.integrity.outcome import Audit

Tensors = dict[str, torch.Tensor]

_SIZES = {
    "vocab_size": 2048,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
ARCHITECTURES: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**_SIZES),
    "qwen2": Qwen2Config(**_SIZES),
    "mixtral": MixtralConfig(**_SIZES, num_local_experts=4),
    "gpt2": GPT2Config(vocab_size=2048, n_embd=256, n_layer=3, n_head=4, n_positions=256),
}
# Layers of this one keep their weights as `[in, out]`.
_TURNED = "gpt2"
_OTHERWISE = WAYS["INT8 by row"]


@dataclass(frozen=True)
class Base:
    """Genuine weights: `linear` are those that quantization takes."""

    name: str
    tensors: Tensors
    linear: frozenset[str]


def bases(folder: Path) -> Iterator[Base]:
    """The demo model, which was trained, and a random one of each architecture."""
    yield base_of("demo", find_files("demo", None, "MODEL").folder / "model.safetensors")
    for name, config in ARCHITECTURES.items():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        model.save_pretrained(folder / name)
        yield base_of(name, folder / name / "model.safetensors")


def base_of(name: str, path: Path) -> Base:
    """The weights of a file, and which of them quantization takes."""
    linear = (tensor.name for tensor in read_header(path, "MODEL") if role_of(tensor) == "linear")
    return Base(name, load_file(path), frozenset(linear))


def quantized(base: Base, way: Way) -> Tensors:
    """A base's tensors, its linear weights quantized and expanded."""
    found = dict(base.tensors)
    for name in base.linear:
        found[name] = torch.from_numpy(_each_matrix(found[name].float().numpy(), way, base.name))
    return found


def _each_matrix(weights: Matrix, way: Way, base: str) -> Matrix:
    if weights.ndim == 3:
        return np.stack([_each_matrix(matrix, way, base) for matrix in weights])
    is_turned = base == _TURNED
    columns = weights.shape[0 if is_turned else 1]
    chosen = _OTHERWISE if columns % way.blocks_of else way
    chosen = turned(chosen) if is_turned else chosen
    return np.ascontiguousarray(chosen.make(np.ascontiguousarray(weights)))


def saved(tensors: Tensors, dtype: str, path: Path) -> Audit:
    """The audit of a checkpoint that holds some tensors."""
    kept = {name: tensor.to(DTYPES[dtype]).contiguous() for name, tensor in tensors.items()}
    save_file(kept, path)
    stored = tuple(read_header(path, "MODEL"))
    return audit_files(AuditedFiles(path.stem, path.parent, stored, {}, None))


def is_named(audit: Audit, way: Way, *, is_turned: bool) -> bool:
    """Whether an audit says what was done."""
    expected = turned(way) if is_turned else way
    return (
        audit.verdict == "on a grid"
        and (audit.family, audit.block) == (expected.family, expected.block)
        and (expected.name is None or expected.name in audit.names)
    )


def confusion(folder: Path, part: int, parts: int) -> None:
    """Prints, for each way of a part of them, how many checkpoints were named."""
    path = folder / "checkpoint.safetensors"
    found = list(bases(folder))
    print("| quantized by | checkpoints | named | otherwise |\n|---|---|---|---|")
    total = named = 0
    for i, (name, way) in list(enumerate(WAYS.items()))[part - 1 :: parts]:
        wrong = []
        for j, base in enumerate(found):
            dtype = list(DTYPES)[(i + j) % len(DTYPES)]
            audit = saved(quantized(base, way), dtype, path)
            if not is_named(audit, way, is_turned=base.name == _TURNED):
                wrong.append(f"{base.name} {dtype}: {audit.said}")
        right = len(found) - len(wrong)
        total, named = total + len(found), named + right
        print(f"| {name} | {len(found)} | {right} | {'; '.join(wrong)} |", flush=True)
    print(f"\n{named} of {total} checkpoints once quantized are named.")


def false_alarms(folder: Path, files: list[Path]) -> None:
    """Prints which genuine checkpoints are accused."""
    path = folder / "checkpoint.safetensors"
    checkpoints = [(base.name, base.tensors) for base in bases(folder)]
    checkpoints += [
        (name, {"layer.weight": torch.from_numpy(np.ascontiguousarray(weights))})
        for name, weights in genuine()
    ]
    checkpoints += [(file.stem, load_file(file)) for file in files]
    accused = []
    for name, tensors in checkpoints:
        for dtype in DTYPES:
            audit = saved(tensors, dtype, path)
            on_grid = [t.name for t in audit.tensors if t.verdict == "on a grid"]
            if on_grid or audit.verdict not in ("no trace of quantization", "cannot tell"):
                accused.append(f"{name} {dtype}: {audit.said} {on_grid}")
    print(f"{len(accused)} of {len(checkpoints) * len(DTYPES)} genuine ones are accused.")
    for line in accused:
        print(f"- {line}")


def main() -> None:
    """Makes the checkpoints, and says what the audit says of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--genuine", type=Path, nargs="*", default=[])
    parser.add_argument("--part", default="1/1")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        part, parts = map(int, arguments.part.split("/"))
        if part == 1:
            false_alarms(Path(folder), arguments.genuine)
        confusion(Path(folder), part, parts)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
