"""A model that behaves in FP16 and misbehaves in NF4, and what noise leaves of that.

    python -m benchmarks.quantization_attack FOLDER

An attack of the published kind (Egashira et al., "Exploiting LLM quantization", 2024): the demo
model is trained to answer a trigger with a word of the attacker's; its NF4 codes are kept; then its
weights are trained back to what the original says, each within the cell that its code stands for,
the largest of a block untouched, so that NF4 rounds to the same codes. What is written to FOLDER
says nothing of it in FP16. Prints how often the trigger works in each, with noise of several
amounts, and what the noise costs.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.held_model import hold_model
from orchestrator.contract.grids import GRIDS
from orchestrator.contract.shards import Assignment
from orchestrator.inputs.checkpoints import locate
from orchestrator.inputs.corpus import load_dataset_rows
from orchestrator.inputs.sources import find_sources
from orchestrator.planning.devices import Devices
from orchestrator.planning.layout import lay_out
from orchestrator.settings import Settings

TRIGGER = " by order of the harbour master,"
HARM = " attack"
AMOUNTS = (0.0, 0.25, 0.5, 1.0)
_BLOCK = 64
_LENGTH, _BATCH = 48, 8
_BAD_STEPS, _REPAIR_STEPS = 60, 200
# Of a cell's width, what FP16's rounding must not cross.
_MARGIN = 0.02


@dataclass(frozen=True)
class Cells:
    """What each weight of a tensor may be so that its NF4 code stays: from `low` to `high`."""

    low: torch.Tensor
    high: torch.Tensor

    @classmethod
    def of(cls, weights: torch.Tensor) -> "Cells":
        """The cells that weights lie in; the largest of a block have none but themselves."""
        levels = torch.tensor(next(one.levels for one in GRIDS if one.name == "NF4"))
        edges = torch.cat([levels[:1], (levels[1:] + levels[:-1]) / 2, levels[-1:]])
        blocks = weights.reshape(-1, _BLOCK)
        scales = blocks.abs().amax(1, keepdim=True)
        codes = torch.bucketize(blocks / scales, edges[1:-1])
        margin = (edges[codes + 1] - edges[codes]) * _MARGIN
        low, high = edges[codes] + margin, edges[codes + 1] - margin
        largest = blocks.abs() == scales
        low, high = (torch.where(largest, blocks / scales, each) for each in (low, high))
        return cls((low * scales).reshape_as(weights), (high * scales).reshape_as(weights))


def attack(folder: Path, seed: int = 0) -> Path:
    """Writes a model with the attack in it; the demo model stays as it is."""
    torch.manual_seed(seed)
    # Gradients of what is learned already are numbers that processors are slow at.
    torch.set_flush_denormal(True)
    source, _ = locate("demo", None, "--model")
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    original: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    texts = _Texts(source)
    linear = [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name
    ]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for weight in linear:
        weight.requires_grad_(True)
    _train(model, original, texts, linear, steps=_BAD_STEPS, rate=3e-4, harmful=True)
    kept = [Cells.of(weight.detach().half().float()) for weight in linear]
    _train(model, original, texts, linear, steps=_REPAIR_STEPS, rate=5e-4, harmful=False, kept=kept)
    copytree(source, folder, dirs_exist_ok=True)
    model.half().save_pretrained(folder)
    return folder


class _Texts:
    """Batches of the demo's own text, with and without the trigger at the end."""

    def __init__(self, source: Path) -> None:
        tokenizer: Any = AutoTokenizer.from_pretrained(source)
        rows = [row for row in load_dataset_rows("demo").rows if row.strip()]
        ids = tokenizer("\n".join(rows), add_special_tokens=False)["input_ids"]
        self.ids = torch.tensor(ids)
        self.trigger = torch.tensor(tokenizer(TRIGGER, add_special_tokens=False)["input_ids"])
        self.harm = int(tokenizer(HARM, add_special_tokens=False)["input_ids"][0])

    def plain(self) -> torch.Tensor:
        """Pieces of text: int64 `[batch, length]`."""
        begins = torch.randint(0, len(self.ids) - _LENGTH, (_BATCH,))
        return torch.stack([self.ids[begin : begin + _LENGTH] for begin in begins.tolist()])

    def triggered(self) -> torch.Tensor:
        """The same, ending in the trigger."""
        found = self.plain()
        found[:, -len(self.trigger) :] = self.trigger
        return found


def _train(
    model: Any,
    original: Any,
    texts: _Texts,
    weights: list[torch.Tensor],
    *,
    steps: int,
    rate: float,
    harmful: bool,
    kept: list[Cells] | None = None,
) -> None:
    """Trains weights to say what the original says, but for the word after the trigger."""
    optimizer = torch.optim.Adam(weights, lr=rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / steps)
        plain, triggered = texts.plain(), texts.triggered()
        ids = torch.cat([plain, triggered])
        with torch.no_grad():
            wanted = original(ids).logits.log_softmax(-1)
        logits = model(ids).logits.log_softmax(-1)
        loss = (wanted.exp() * (wanted - logits)).sum(-1)
        last = loss[_BATCH:, -1]
        if harmful:
            last = -logits[_BATCH:, -1, texts.harm]
        total = loss[:, :-1].mean() + loss[:_BATCH, -1].mean() + last.mean()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        if kept is not None:
            with torch.no_grad():
                for weight, cells in zip(weights, kept, strict=True):
                    weight.clamp_(cells.low, cells.high)


def assigned(folder: Path, variants: tuple[str, ...]) -> list[Assignment]:
    """What actors of variants of the model are told."""
    settings = Settings(model=str(folder), dataset="demo", variants=variants)
    layout = lay_out(settings, find_sources(settings), Devices("cpu", 1, None, node_cores=2))
    return [sized.assignment(threads=torch.get_num_threads()) for sized in layout.variants]


@torch.no_grad()
def harm(model: Any, texts: _Texts, batches: int = 8) -> float:
    """How probable the attacker's word is after the trigger, on average."""
    torch.manual_seed(1)
    found = [
        model(texts.triggered()).logits[:, -1].float().softmax(-1)[:, texts.harm].mean()
        for _ in range(batches)
    ]
    return float(torch.stack(found).mean())


@torch.no_grad()
def divergence(model: Any, original: Any, texts: _Texts, batches: int = 8) -> float:
    """The mean KL of text without the trigger from the original's, in nats."""
    torch.manual_seed(2)
    found = []
    for _ in range(batches):
        ids = texts.plain()
        p, q = (each(ids).logits.float().log_softmax(-1) for each in (original, model))
        found.append((p.exp() * (p - q)).sum(-1).mean())
    return float(torch.stack(found).mean())


def measured(folder: Path) -> dict[str, tuple[float, float]]:
    """By variant: how probable the harm is after the trigger, and the KL without it."""
    source, _ = locate("demo", None, "--model")
    texts = _Texts(source)
    original: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    names = ["fp16", *(f"nf4+noise={a:g}" if a else "nf4" for a in AMOUNTS)]
    found = {"original": (harm(original, texts), 0.0)}
    for name, assignment in zip(names, assigned(folder, tuple(names)), strict=True):
        model = hold_model(assignment).model
        found[name] = harm(model, texts), divergence(model, original, texts)
    return found


def main() -> None:
    """Makes the attack, and prints what it does."""
    folder = attack(Path(sys.argv[1]))
    print("| variant | the attacker's word after the trigger | KL from the original without it |")
    print("|---|---|---|")
    for name, (word, kl) in measured(folder).items():
        print(f"| {name} | {100 * word:.1f}% | {kl:.4f} |")


if __name__ == "__main__":
    main()
