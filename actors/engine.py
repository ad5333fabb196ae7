"""One model on one device: shards in, Arrow tables out."""

import time
from typing import Any

import pyarrow as pa
import torch

from actors.generation import answer_prompt, warm_up
from actors.loading import load_model, load_tokenizer, prepare_arithmetic
from actors.memory import peak_bytes, weights_bytes
from actors.provenance import describe_device, library_versions
from actors.scoring import score_window
from orchestrator.shards import ModelLocation, PromptShard, WindowShard
from orchestrator.tables import GENERATIONS, MEMORY, WINDOWS
from orchestrator.variants import Variant


class Engine:
    """Holds one variant of a model and works on its shards; call `load` before anything else.

    Args:
        location: where the weights are.
        variant: how to hold them.
        compute_dtype: the dtype of the arithmetic.
        device: `cuda` or `cpu`.
        threads: processor threads to compute with.
    """

    def __init__(
        self,
        location: ModelLocation,
        variant: Variant,
        compute_dtype: str,
        device: str,
        threads: int,
    ) -> None:
        self._location = location
        self._variant = variant
        self._compute_dtype: torch.dtype = getattr(torch, compute_dtype)
        self._device = torch.device(device)
        self._threads = threads
        self._model: Any = None
        self._tokenizer: Any = None
        self._warm = False

    def load(self) -> pa.Table:
        """Loads the model and measures it.

        Returns:
            One row of the table `memory`.

        Raises:
            CannotLoadError: the variant cannot be had on this device; the message says why.
        """
        torch.set_num_threads(self._threads)
        begin = time.perf_counter()
        model = load_model(self._location, self._variant, self._device)
        measured = weights_bytes(model)
        prepare_arithmetic(model, self._compute_dtype)
        self._model = model
        self._tokenizer = load_tokenizer(self._location)
        on_gpu = self._device.type == "cuda"
        row = {
            "variant": self._variant.name,
            "weights_bytes": measured,
            "device_allocated_bytes": torch.cuda.memory_allocated() if on_gpu else None,
            "device_reserved_bytes": torch.cuda.memory_reserved() if on_gpu else None,
            "device_peak_bytes": peak_bytes(self._device),
            "load_seconds": time.perf_counter() - begin,
            **describe_device(self._device),
            **library_versions(),
        }
        return pa.Table.from_pylist([row], schema=MEMORY)

    def evaluate(self, work: WindowShard | PromptShard) -> pa.Table:
        """Works on a shard.

        Returns:
            The rows of the shard's stage, by the schema that `orchestrator.tables` declares.
        """
        if isinstance(work, WindowShard):
            return self._score(work)
        return self._answer(work)

    def _score(self, work: WindowShard) -> pa.Table:
        rows = []
        for number, window in enumerate(work.windows, start=work.first):
            begin = time.perf_counter()
            likelihoods = score_window(self._model, window, self._device)
            rows.append(
                {
                    "variant": self._variant.name,
                    "window": number,
                    "scored_tokens": len(likelihoods),
                    "negative_log_likelihood": float(likelihoods.sum()),
                    "seconds": time.perf_counter() - begin,
                    "device_peak_bytes": peak_bytes(self._device),
                }
            )
        return pa.Table.from_pylist(rows, schema=WINDOWS)

    def _answer(self, work: PromptShard) -> pa.Table:
        if not self._warm:
            warm_up(
                self._model, self._tokenizer, work.prompts[0], work.max_new_tokens, self._device
            )
            self._warm = True
        rows = []
        for number, prompt in enumerate(work.prompts, start=work.first):
            answer = answer_prompt(
                self._model, self._tokenizer, prompt, work.max_new_tokens, self._device
            )
            rows.append(
                {
                    "variant": self._variant.name,
                    "prompt": number,
                    "prompt_id": prompt.id,
                    "category": prompt.category,
                    "prompt_tokens": len(prompt.input_ids),
                    "new_tokens": answer.new_tokens,
                    "seconds": answer.seconds,
                    "finish_reason": answer.finish_reason,
                    "text": answer.text,
                    "success": answer.success,
                    "error": answer.error,
                    "device_peak_bytes": peak_bytes(self._device),
                }
            )
        return pa.Table.from_pylist(rows, schema=GENERATIONS)
