"""Greedy decoding as fast as the device allows: one decoding step, captured as a CUDA graph.

`generate` launches some thousand kernels a token from Python, which takes longer than a GPU needs
for them. Captured once, over a cache of fixed place and length, a step is one launch. The prompt
itself is processed as `generate` does it, so that the first token and its time are the same.
"""

import inspect
from collections.abc import Collection, Sequence
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, StaticLayer

from actors.decoding import BatchDecoded, Decoded, LogitsWatch, end_tokens
from actors.spreading import is_spread
from actors.stopwatch import Stopwatch, synchronize
from actors.transfer import host_tensor
from orchestrator.contract.shards import DecodingName
from orchestrator.contract.variant_errors import first_line

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
        self._last_logits = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self._step: _Step | None = None
        if any(hasattr(getattr(m, "state", None), "threshold") for m in model.modules()):
            raise CannotCaptureError("LLM.int8 chooses columns by their values, at each step anew")
        if is_spread(model):
            raise CannotCaptureError("its layers are on several devices")
        if plain_cache(model) is None:
            raise CannotCaptureError("its cache is not of keys and values alone")

    def prepare(self, length: int, batch: int = 1) -> None:
        """Captures the step for prompts with their answers of up to `length` tokens.

        Args:
            batch: how many prompts at once.

        Raises:
            CannotCaptureError: it does something that a graph cannot hold, or memory is short.
        """
        if self._step and self._step.batch == batch and length <= self._step.length:
            return
        # What the earlier graph holds is freed first.
        self._step = None
        rounded = -(-length // _LENGTH_STEP) * _LENGTH_STEP
        step = _Step(self._model, batch, rounded, self._device)
        try:
            step.prepare(capture=self._capture)
        except RuntimeError as error:
            raise CannotCaptureError(first_line(error)) from None
        self._step = step

    def decode(self, prompt: Sequence[int], max_new_tokens: int) -> Decoded:
        """Answers a prompt of token ids, the device idle before and after."""
        tokens, seconds, broken = self._run([prompt], max_new_tokens, self._ends)
        return Decoded([token for (token,) in tokens], seconds, broken)

    def decode_batch(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> BatchDecoded:
        """Answers prompts of one length at once, whatever would end an answer."""
        tokens, seconds, _ = self._run(prompts, new_tokens, ())
        return BatchDecoded([list(row) for row in zip(*tokens, strict=True)], seconds)

    @torch.inference_mode()
    def _run(
        self, prompts: Sequence[Sequence[int]], limit: int, ends: Collection[int]
    ) -> tuple[list[list[int]], list[float], bool]:
        """Answers prompts of one length until the first one ends, or to the limit.

        A step is launched before the token of the one before it is looked at, so that the device
        need not wait for the host; the surplus step behind an end is not counted.

        Returns:
            The tokens by step and prompt; the seconds of each step; whether logits were broken.
        """
        step = self._step
        assert step is not None and step.batch == len(prompts)
        inputs = torch.tensor(prompts, device=self._device)
        tokens = host_tensor((limit, len(prompts)), torch.int64, self._device)
        cache = DynamicCache(config=self._model.config)
        step.clear()
        synchronize(self._device)
        clock = Stopwatch(self._device)

        def keep(place: int) -> None:
            tokens[place].copy_(step.token[:, 0], non_blocking=True)
            clock.mark()

        output = self._model(
            input_ids=inputs, past_key_values=cache, use_cache=True, **self._last_logits
        )
        step.choose(output.logits)
        keep(0)
        step.follow(cache, inputs.shape[1])
        count = 1
        while True:
            if count < limit:
                step.replay()
                keep(count)
            clock.wait_for(count)
            if count == limit or int(tokens[count - 1, 0]) in ends:
                break
            count += 1
        return tokens[:count].tolist(), clock.seconds()[:count], step.watch.broken


class _Step:
    """A decoding step over a cache of fixed place and length: a token further for each prompt.

    Attributes:
        batch: how many prompts.
        length: tokens that the cache holds.
        token: int64 `[batch, 1]`, the last one of each prompt's answer.
        watch: of all logits since `clear`.
    """

    @torch.inference_mode()
    def __init__(self, model: Any, batch: int, length: int, device: torch.device) -> None:
        self.batch = batch
        self.length = length
        self.watch = LogitsWatch(device, batch)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._model = model
        self._device = device
        layers = len(DynamicCache(config=model.config).layers)
        # Of full length also where a window slides: the mask leaves out what is outside of it.
        self._cache: Any = Cache(layers=[StaticLayer(length) for _ in range(layers)])
        self.token = torch.zeros((batch, 1), dtype=torch.int64, device=device)
        self._position = torch.zeros((1, 1), dtype=torch.int64, device=device)
        takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        self._positions = {"position_ids": self._position} if takes_positions else {}

    @torch.inference_mode()
    def prepare(self, *, capture: bool) -> None:
        """Makes the cache, and captures the step."""
        if not capture:
            self._run()
            return
        current = torch.cuda.current_stream(self._device)
        aside = torch.cuda.Stream(self._device)
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP_STEPS):
                self._run()
        current.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._run()
        # What products scribble on is kept by stream, and would stay with those of the capture;
        # the graph has its own in its pool.
        torch._C._cuda_clearCublasWorkspaces()
        self._graph = graph

    def replay(self) -> None:
        """Runs the step."""
        if self._graph is None:
            self._run()
        else:
            self._graph.replay()

    def clear(self) -> None:
        """Forgets all answers: what is not a number would show through any mask."""
        self._cache.reset()
        self.watch.clear()

    def follow(self, cache: Any, length: int) -> None:
        """Goes on behind prompts of a length: their keys and values to their places."""
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

    def choose(self, logits: torch.Tensor) -> None:
        """The likeliest token, as `generate` takes it: from float32, of equal ones the first."""
        last = logits[:, -1].float()
        self.watch.look(last)
        self.token.copy_(last.argmax(dim=-1, keepdim=True))

    def _run(self) -> None:
        output = self._model(
            input_ids=self.token, past_key_values=self._cache, use_cache=True, **self._positions
        )
        self.choose(output.logits)
        self._position.add_(1)
