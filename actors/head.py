"""A model's output head: what goes into it, and logits made from that a few positions at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import linear

from actors.transfer import token_ids
from orchestrator.contract.shards import Window

Steps = tuple[tuple[str, float], ...]

# How far a head's logits may be from the model's, as a share of the largest: the rounding of the
# dtype apart, since a matrix product may add in another order.
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2**-7, torch.bfloat16: 2**-4}

# Enough tokens to tell a head from another one; few enough to cost nothing.
_PROBE_TOKENS = 16

# What follows the head, by the names that transformers' configurations use.
_STEPS = (
    ("multiply", "logit_scale"),  # Cohere
    ("divide", "logits_scaling"),  # Granite
    ("softcap", "final_logit_softcapping"),  # Gemma 2 and later: c · tanh(logits / c)
)


@dataclass(frozen=True)
class Head:
    """A head on a device.

    Attributes:
        weight: `[vocabulary, hidden]`.
        bias: `[vocabulary]` or None.
        steps: what the architecture does to the logits afterwards, in order: `multiply`, `divide`
            or `softcap`, each with its constant.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    steps: Steps

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[positions, hidden]` → `[positions, vocabulary]`, in the head's dtype.

        The operations are the model's own, in its dtype: what is measured is what users run.
        """
        logits = linear(hidden, self.weight, self.bias)
        for name, constant in self.steps:
            match name:
                case "multiply":
                    logits = logits * constant
                case "divide":
                    logits = logits / constant
                case "softcap":
                    logits = torch.tanh(logits / constant) * constant
        return logits

    def over(self, tokens: int) -> "Head":
        """The same head over the first tokens alone."""
        bias = None if self.bias is None else self.bias[:tokens]
        return Head(self.weight[:tokens], bias, self.steps)

    @property
    def logit_bytes(self) -> int:
        """What making a logit takes: itself, and what a step reads and writes."""
        return self.weight.itemsize * (3 if self.steps else 1)

    def equals(self, other: "Head") -> bool:
        """Whether both make the same logits of the same states, bit for bit."""
        pairs = ((self.weight, other.weight), (self.bias, other.bias))
        return self.steps == other.steps and all(
            (one is None) == (two is None)
            and (one is None or two is None or (one.dtype == two.dtype and torch.equal(one, two)))
            for one, two in pairs
        )


@dataclass(frozen=True)
class States:
    """What the logits of a window's scored positions are made of.

    Attributes:
        values: `[scored positions, hidden]`, or `[scored positions, vocabulary]` where `head` is
            None: those are the logits.
    """

    values: torch.Tensor
    head: Head | None

    @property
    def vocabulary(self) -> int:
        """How many tokens a position's logits are over."""
        return int(self.values.shape[1] if self.head is None else self.head.weight.shape[0])

    @property
    def logit_bytes(self) -> int:
        """What making a logit takes; nothing where they are there."""
        return 0 if self.head is None else self.head.logit_bytes

    def over(self, tokens: int) -> "States":
        """The same positions, their logits over the first tokens alone."""
        if tokens == self.vocabulary:
            return self
        if self.head is None:
            return States(self.values[:, :tokens].contiguous(), None)
        return States(self.values, self.head.over(tokens))

    def logits(self, positions: slice) -> torch.Tensor:
        """The logits of some of the scored positions: `[positions, vocabulary]`."""
        chosen = self.values[positions]
        return chosen if self.head is None else self.head.logits(chosen)


class StateReader:
    """Runs a model over windows without making the logits of a whole one, where it can.

    Args:
        model: a causal language model of transformers.
        device: where its inputs go.

    Attributes:
        head: what makes logits of its states; None where it and the known steps after it do not
            give the model's own logits, so that states are logits.
        device: where states are: of a model that is on several devices, its head's.
        vocabulary: how many tokens its logits are over.
        width, dtype: of the states of one position.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model
        self._device = device
        embeddings = model.get_input_embeddings().weight.shape[0]
        probe = tuple(number * embeddings // _PROBE_TOKENS for number in range(_PROBE_TOKENS))
        head = head_of(model)
        fits = head is not None and reproduces(model, head, torch.tensor([probe], device=device))
        self.head = head if fits else None
        self.device = device if self.head is None else self.head.weight.device
        states = self.states(Window.scored_from(probe, _PROBE_TOKENS - 1))
        self.vocabulary = states.vocabulary
        self.width, self.dtype = states.values.shape[1], states.values.dtype

    def states(self, window: Window, copies: int = 1) -> States:
        """One forward pass over a window: the states of its scored positions.

        Args:
            copies: how often the window is in the batch; the first one's states are returned.
        """
        return self.states_of([window] * copies)[0]

    @torch.inference_mode()
    def states_of(self, windows: Sequence[Window]) -> list[States]:
        """One forward pass over windows of one length: the states of their scored positions."""
        inputs = torch.stack([token_ids(window.input_ids, self._device) for window in windows])
        if self.head is None:
            values = self._model(input_ids=inputs, use_cache=False).logits
        else:
            with _head_inputs(self._model, logits_wanted=False) as seen:
                self._model(input_ids=inputs, use_cache=False)
            values = seen[0].to(self.device)
        return [
            States(values[row, window.start : window.start + len(window.target_ids)], self.head)
            for row, window in enumerate(windows)
        ]


def head_of(model: Any) -> Head | None:
    """A model's head, as its parts describe it; None where it is not a plain linear layer."""
    module = model.get_output_embeddings()
    if type(module) is not torch.nn.Linear or module.weight.dtype not in _TOLERANCE:
        return None
    config = model.config.get_text_config()
    constants = ((name, getattr(config, key, None)) for name, key in _STEPS)
    return Head(
        weight=module.weight,
        bias=module.bias,
        # MPT may say it in words; whether it is done is tried.
        steps=tuple((n, float(value)) for n, value in constants if isinstance(value, int | float)),
    )


@torch.inference_mode()
def reproduces(model: Any, head: Head, inputs: torch.Tensor) -> bool:
    """Whether a head turns what goes into a model's own into the model's logits.

    Args:
        inputs: int64 `[1, length]`, tokens to try it on.
    """
    with _head_inputs(model, logits_wanted=True) as seen:
        expected = model(input_ids=inputs, use_cache=False).logits[0].float()
    # A model may call its head on other shapes, or more than once.
    if len(seen) != 1 or seen[0].shape[:2] != inputs.shape:
        return False
    found = head.logits(seen[0][0].to(head.weight.device)).float().to(expected.device)
    if found.shape != expected.shape:
        return False
    bound = _TOLERANCE[head.weight.dtype] * expected.abs().max()
    # Written so that a difference that is not a number fails: such a model shows its own logits.
    return bool((found - expected).abs().max() <= bound)


@contextmanager
def _head_inputs(model: Any, *, logits_wanted: bool) -> Iterator[list[torch.Tensor]]:
    """What goes into a model's head while the context is open: `[batch, length, hidden]` a call.

    Where its logits are not wanted, the head is left the last position alone: the logits of a
    whole window would take more memory than all else.
    """
    seen: list[torch.Tensor] = []

    def look(_: torch.nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        seen.append(arguments[0])
        return None if logits_wanted else (arguments[0][:, -1:], *arguments[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(look)
    try:
        yield seen
    finally:
        handle.remove()
