"""What hides a grid from `audit`, and what that costs whoever hides it.

Usage: python -m benchmarks.audit_evasion

The demo model is quantized to NF4 and to INT8 by row, expanded to float16, and then changed
further. Printed: what the audit says, and the mean KL divergence from the expanded model to the
changed one, over windows of the demo's text: the damage of hiding, beside that of the quantization.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.audit import Base, Tensors, base_of, quantized, saved
from benchmarks.once_quantized import WAYS
from orchestrator.contract.grids import GRIDS
from orchestrator.integrity.files import find_files

_WINDOWS, _LENGTH = 8, 256
_STEPS = {"NF4 by 64": "NF4", "INT8 by row": "INT8 symmetric"}

Change = Callable[[Tensors], Tensors]


def noise(base: Base, way: str, half_widths: float) -> Change:
    """Gaussian noise in half-widths of the cells: of a tensor, the median over its weights."""
    levels = np.array(next(g.levels for g in GRIDS if g.name == _STEPS[way]))
    gaps = np.gradient(levels)
    middles = (levels[1:] + levels[:-1]) / 2

    def change(tensors: Tensors) -> Tensors:
        drawn = torch.Generator().manual_seed(0)
        found = dict(tensors)
        for name in sorted(base.linear):
            weights = tensors[name]
            blocks = weights.reshape(-1, 64 if way == "NF4 by 64" else weights.shape[1])
            scale = blocks.abs().amax(1, keepdim=True) / float(levels[-1])
            cells = gaps[np.searchsorted(middles, (blocks / scale).numpy())]
            sigma = half_widths * float(np.median(cells * scale.numpy())) / 2
            found[name] = weights + torch.randn(weights.shape, generator=drawn) * sigma
        return found

    return change


def lora(base: Base, rank: int, size: float) -> Change:
    """An adapter merged: of so many ranks, its norm that share of the weights'."""

    def change(tensors: Tensors) -> Tensors:
        drawn = torch.Generator().manual_seed(0)
        found = dict(tensors)
        for name in sorted(base.linear):
            rows, columns = tensors[name].shape
            product = torch.randn(rows, rank, generator=drawn) @ torch.randn(
                rank, columns, generator=drawn
            )
            found[name] = tensors[name] + product * (size * tensors[name].norm() / product.norm())
        return found

    return change


def fold(tensors: Tensors) -> Tensors:
    """The weights of norms multiplied into the layers that they feed, and 1 left behind: exact."""
    found = dict(tensors)
    for name in tensors:
        layer, _, kind = name.rpartition(".layers.")[2].partition(".")
        feeds = {
            "input_layernorm.weight": [f"self_attn.{p}_proj.weight" for p in "qkv"],
            "post_attention_layernorm.weight": ["mlp.gate_proj.weight", "mlp.up_proj.weight"],
        }
        for fed in feeds.get(kind, []):
            into = f"model.layers.{layer}.{fed}"
            found[into] = found[into] * tensors[name]
            found[name] = torch.ones_like(tensors[name])
    return found


def permute(tensors: Tensors) -> Tensors:
    """The neurons of each feed-forward part in another order: exact."""
    drawn = torch.Generator().manual_seed(0)
    found = dict(tensors)
    for name in (n for n in tensors if n.endswith("mlp.down_proj.weight")):
        order = torch.randperm(tensors[name].shape[1], generator=drawn)
        found[name] = tensors[name][:, order]
        for part in ("gate", "up"):
            other = name.replace("down", part)
            found[other] = tensors[other][order]
    return found


def tuned(rate: float) -> Change:
    """One step of Adam, whose first step is as long for every weight."""

    def change(tensors: Tensors) -> Tensors:
        model = loaded(tensors).float().train()
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        model(windows()[:2], labels=windows()[:2]).loss.backward()
        optimizer.step()
        state = model.state_dict()
        return {name: state[name].detach().clone() for name in tensors}

    return change


def loaded(tensors: Tensors) -> torch.nn.Module:
    """The demo model with other weights."""
    model = AutoModelForCausalLM.from_pretrained(
        find_files("demo", None, "MODEL").folder, dtype=torch.float32
    )
    model.load_state_dict(tensors, strict=False)
    return model.eval()


def windows() -> torch.Tensor:
    """Windows of the demo's text."""
    folder = find_files("demo", None, "MODEL").folder
    text = (folder.parent / "corpus" / "demo.txt").read_text()
    ids = AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    return torch.tensor(ids[: _WINDOWS * _LENGTH]).reshape(_WINDOWS, _LENGTH)


@torch.no_grad()
def predictions(tensors: Tensors) -> torch.Tensor:
    """Logarithms of the probabilities of every next token."""
    return loaded(tensors)(windows()).logits.float().log_softmax(-1)


def divergence(before: torch.Tensor, after: torch.Tensor) -> float:
    """Mean KL divergence in nats."""
    return float((before.exp() * (before - after)).sum(-1).mean())


def changes(base: Base, way: str) -> Iterator[tuple[str, Change]]:
    """What may be done to hide a grid, each with its name."""
    yield "nothing", lambda tensors: tensors
    yield "kept as bfloat16", lambda tensors: {n: t.bfloat16().float() for n, t in tensors.items()}
    for half_widths in (0.01, 0.03, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0):
        yield f"noise of {half_widths:g} half-widths", noise(base, way, half_widths)
    for size in (0.001, 0.01, 0.1):
        yield f"a merged LoRA, rank 8, {size:g} of the weights' norm", lora(base, 8, size)
    for rate in (1e-6, 1e-5, 1e-4):
        yield f"a step of Adam at {rate:g}", tuned(rate)
    yield "norms folded into the layers", fold
    yield "neurons permuted", permute


def curves(path: Path) -> None:
    """Prints them; checkpoints pass through a file."""
    base = base_of("demo", find_files("demo", None, "MODEL").folder / "model.safetensors")
    original = predictions({name: t.float() for name, t in base.tensors.items()})
    for way in _STEPS:
        expanded = {n: t.half().float() for n, t in quantized(base, WAYS[way]).items()}
        before = predictions(expanded)
        print(f"\n{way}: KL from the original {divergence(original, before):.5f}\n")
        print("| then | audit | on a grid | KL of hiding |\n|---|---|---|---|")
        for name, change in changes(base, way):
            tensors = {n: t.half() for n, t in change(expanded).items()}
            if "bfloat16" in name:
                tensors = {n: t.bfloat16() for n, t in tensors.items()}
            audit = saved(tensors, "bfloat16" if "bfloat16" in name else "float16", path)
            linear = [t for t in audit.tensors if t.role == "linear"]
            found = sum(t.verdict == "on a grid" for t in linear)
            cost = divergence(before, predictions({n: t.float() for n, t in tensors.items()}))
            print(
                f"| {name} | {audit.verdict} | {found} of {len(linear)} | {cost:.5f} |", flush=True
            )


def main() -> None:
    """Prints a table for each way to quantize."""
    with tempfile.TemporaryDirectory() as folder:
        curves(Path(folder) / "model.safetensors")


if __name__ == "__main__":
    main()
