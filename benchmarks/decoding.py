"""What measuring costs: answers timed by the product, and by a plain loop, over the same model.

For each variant and way of decoding, in turns: the product's decoder, and `generate` (or replays of
a captured step) with nothing around it but a clock. Prints the medians and their ratio, which is
to be within 3% on an idle machine.

    python benchmarks/decoding.py MODEL --variants fp16,nf4 --device cuda --new-tokens 64
"""

import argparse
import statistics
import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import GenerationConfig, StaticCache

from actors.decoding import Decoder, EagerDecoder, prepare_generation
from actors.graph_decoding import CannotCaptureError, GraphDecoder
from actors.loading import load_model, load_tokenizer, prepare_arithmetic
from actors.stopwatch import synchronize
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variants import VARIANTS

_PROMPT_TOKENS = 64


def plain_eager(model: Any, inputs: torch.Tensor, tokens: int) -> float:
    """Seconds of `generate`, greedy, so many tokens whatever they are."""
    greedy = GenerationConfig(do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens)
    greedy.pad_token_id = 0
    synchronize(inputs.device)
    begin = time.perf_counter()
    model.generate(
        input_ids=inputs, attention_mask=torch.ones_like(inputs), generation_config=greedy
    )
    synchronize(inputs.device)
    return time.perf_counter() - begin


class PlainGraph:
    """A captured step over transformers' own static cache, written down as the guides do it."""

    def __init__(self, model: Any, inputs: torch.Tensor, tokens: int) -> None:
        self._model, self._inputs = model, inputs
        length = inputs.shape[1]
        # As long as the product's, which rounds up: attention reads all of it.
        self._cache = StaticCache(model.config, max_cache_len=-(-(length + tokens) // 256) * 256)
        self._token = torch.zeros((1, 1), dtype=torch.int64, device=inputs.device)
        self._position = torch.full_like(self._token, length)
        self._prefill()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._step()

    def _prefill(self) -> None:
        output = self._model(
            input_ids=self._inputs, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        self._token.copy_(output.logits[:, -1].argmax(-1, keepdim=True))

    def _step(self) -> None:
        output = self._model(
            input_ids=self._token,
            position_ids=self._position,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._token.copy_(output.logits[:, -1].argmax(-1, keepdim=True))
        self._position.add_(1)

    def seconds(self, tokens: int) -> float:
        """Of a prompt and so many tokens."""
        self._cache.reset()
        self._position.fill_(self._inputs.shape[1])
        torch.cuda.synchronize()
        begin = time.perf_counter()
        self._prefill()
        for _ in range(tokens - 1):
            self._graph.replay()
        torch.cuda.synchronize()
        return time.perf_counter() - begin


@torch.inference_mode()
def compare(decoder: Decoder, model: Any, inputs: torch.Tensor, tokens: int, repeats: int) -> Any:
    """Seconds by the product and by the plain loop, in turns: two lists."""
    graph = PlainGraph(model, inputs, tokens) if decoder.name == "graph" else None
    ours, plain = [], []
    for number in range(repeats + 1):
        own = sum(decoder.decode(inputs[0].tolist(), tokens).token_seconds)
        other = graph.seconds(tokens) if graph else plain_eager(model, inputs, tokens)
        if number:
            ours.append(own)
            plain.append(other)
    return ours, plain


def main() -> None:
    """Times every variant both ways."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--variants", default="fp16,nf4")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    device, tokens = torch.device(arguments.device), arguments.new_tokens
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    table = Table(title=f"{arguments.model} on {name}, {_PROMPT_TOKENS} + {tokens} tokens")
    for column in ("variant", "decoding", "ours, s", "plain loop, s", "ours to plain", "tokens/s"):
        table.add_column(column, justify="right")
    location = ModelLocation(id_or_path=arguments.model)
    for variant in arguments.variants.split(","):
        model = load_model(location, VARIANTS[variant], device)
        dtype = VARIANTS[variant].weights_dtype if device.type == "cuda" else "float32"
        prepare_arithmetic(model, getattr(torch, dtype))
        prepare_generation(model, load_tokenizer(location))
        model.generation_config.eos_token_id = None
        decoders: list[Decoder] = [EagerDecoder(model, device)]
        if device.type == "cuda":
            try:
                graph = GraphDecoder(model, device)
                graph.prepare(_PROMPT_TOKENS + tokens)
                decoders.append(graph)
            except CannotCaptureError as error:
                print(f"{variant}: {error}")
        inputs = torch.arange(100, 100 + _PROMPT_TOKENS, device=device).unsqueeze(0)
        for decoder in decoders:
            ours, plain = compare(decoder, model, inputs, tokens, arguments.repeats)
            own, other = statistics.median(ours), statistics.median(plain)
            ratio = statistics.median(a / b for a, b in zip(ours, plain, strict=True))
            figures = (f"{own:.4f}", f"{other:.4f}", f"{ratio:.3f}", f"{tokens / own:.1f}")
            table.add_row(variant, decoder.name, *figures)
        del model, decoders
        if device.type == "cuda":
            torch.cuda.empty_cache()
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
