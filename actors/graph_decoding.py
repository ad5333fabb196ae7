"""Greedy decoding as fast as the device allows: one decoding step, captured as a CUDA graph.

`generate` launches some thousand kernels a token from Python, which takes longer than a GPU needs
for them. Captured once, over a cache of fixed place and length, a step is one launch. The prompt
itself is processed as `generate` does it, so that the first token and its time are the same.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, StaticLayer

from actors.decoding import Decoded, end_tokens, synchronize
from actors.stopwatch import Stopwatch
from actors.transfer import host_tensor
from orchestrator.contract.errors import first_line
from orchestrator.contract.shards import DecodingName

# A cache is as long as the longest answer needs, rounded up to this: few captures serve all.
_LENGTH_STEP = 256
# Before a capture: libraries choose and load their kernels when they are first used.
_WARM_UP_STEPS = 3


class CannotCaptureError(Exception):
    """A model's decoding step cannot be captured; the message says why."""


def plain_cache(model: Any) -> Any:
    """An empty cache of a model; None where it is not of keys and values alone."""
    cache = DynamicCache(config=model.config)
    kinds = {type(layer) for layer in cache.layers}
    return cache if kinds and kinds <= {DynamicLayer, DynamicSlidingWindowLayer} else None


class GraphDecoder:
    """Replays a captured step. To be prepared for the longest answer before it is used.

    Args:
        model: one that `actors.decoding.prepare_generation` has seen.
        capture: whether to replay a graph; tests without CUDA run the step itself.

    Raises:
        CannotCaptureError: it is known beforehand that the model's step cannot be captured.
    """

    name: DecodingName = "graph"

    def __init__(self, model: Any, device: torch.device, *, capture: bool = True) -> None:
        self._model = model
        self._device = device
        self._capture = capture
        self._ends = end_tokens(model)
        parameters = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in parameters
        self._last_logits = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self._length = 0
        self._cache: Any = Cache(layers=[])
        self._replay: Callable[[], None] = self._step
        if any(hasattr(getattr(m, "state", None), "threshold") for m in model.modules()):
            raise CannotCaptureError("LLM.int8 chooses columns by their values, at each step anew")
        if plain_cache(model) is None:
            raise CannotCaptureError("its cache is not of keys and values alone")

    @torch.inference_mode()
    def prepare(self, length: int) -> None:
        """Captures the step for prompts with their answers of up to `length` tokens.

        Raises:
            CannotCaptureError: it does something that a graph cannot hold, or memory is short.
        """
        if length <= self._length:
            return
        self._length = -(-length // _LENGTH_STEP) * _LENGTH_STEP
        # What the earlier graph holds is freed first.
        self._replay = self._step
        layers = len(DynamicCache(config=self._model.config).layers)
        # Of full length also where a window slides: the mask leaves out what is outside of it.
        self._cache = Cache(layers=[StaticLayer(self._length) for _ in range(layers)])
        self._token, self._position = (
            torch.zeros((1, 1), dtype=torch.int64, device=self._device) for _ in range(2)
        )
        self._broken = torch.zeros((), dtype=torch.bool, device=self._device)
        if not self._capture:
            self._step()
            return
        try:
            self._replay = self._captured()
        except RuntimeError as error:
            self._length = 0
            self._cache = Cache(layers=[])
            raise CannotCaptureError(first_line(error)) from None

    @torch.inference_mode()
    def decode(self, prompt: Sequence[int], max_new_tokens: int) -> Decoded:
        """Answers a prompt of token ids, the device idle before and after.

        A step is launched before the token of the one before it is looked at, so that the device
        need not wait for the host; the last answer's surplus step is not counted.
        """
        inputs = torch.tensor([prompt], device=self._device)
        tokens = host_tensor((max_new_tokens,), torch.int64, self._device)
        cache = DynamicCache(config=self._model.config)
        self._cache.reset()
        synchronize(self._device)
        clock = Stopwatch(self._device)
        output = self._model(
            input_ids=inputs, past_key_values=cache, use_cache=True, **self._last_logits
        )
        self._broken.zero_()
        self._choose(output.logits)
        self._keep(tokens, 0, clock)
        self._continue(cache, len(prompt))
        count = 1
        while True:
            if count < max_new_tokens:
                self._replay()
                self._keep(tokens, count, clock)
            clock.wait_for(count)
            if count == max_new_tokens or int(tokens[count - 1]) in self._ends:
                break
            count += 1
        return Decoded(tokens[:count].tolist(), clock.seconds()[:count], bool(self._broken))

    def _keep(self, tokens: torch.Tensor, place: int, clock: Stopwatch) -> None:
        tokens[place : place + 1].copy_(self._token.view(1), non_blocking=True)
        clock.mark()

    def _continue(self, cache: Any, length: int) -> None:
        """Has the next step go on behind a prompt: its keys and values at their places."""
        targets, sources = [], []
        for layer, own in zip(cache.layers, self._cache.layers, strict=True):
            # A sliding layer holds the last ones alone, and no other are looked at.
            held = layer.keys.shape[-2]
            for target, source in ((own.keys, layer.keys), (own.values, layer.values)):
                targets.append(target[:, :, length - held : length])
                sources.append(source)
            own.cumulative_length.fill_(length)
        torch._foreach_copy_(targets, sources)
        self._position.fill_(length)

    def _step(self) -> None:
        """One token further, in place."""
        positions = {"position_ids": self._position} if self._takes_positions else {}
        output = self._model(
            input_ids=self._token, past_key_values=self._cache, use_cache=True, **positions
        )
        self._choose(output.logits)
        self._position.add_(1)

    def _choose(self, logits: torch.Tensor) -> None:
        """The likeliest token, as `generate` takes it: from float32, of equal ones the first."""
        last = logits[:, -1].float()
        self._broken |= ~last.amax().isfinite()
        self._token.copy_(last.argmax(dim=-1, keepdim=True))

    def _captured(self) -> Callable[[], None]:
        aside = torch.cuda.Stream(self._device)
        aside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP_STEPS):
                self._step()
        torch.cuda.current_stream(self._device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        replay: Callable[[], None] = graph.replay
        return replay
