"""One model on one device: payloads in, Arrow tables out."""

import time
from typing import Any

import pyarrow as pa
import torch

from actors.generation import answer_prompt, warm_up
from actors.loading import load_model, load_tokenizer, prepare_arithmetic
from actors.memory import peak_bytes, weights_bytes
from actors.provenance import environment_of_device
from actors.scoring import score_window
from orchestrator.contract.environment import with_environment
from orchestrator.contract.shards import (
    LoadingPayload,
    ModelLocation,
    Payload,
    PromptsPayload,
    WindowsPayload,
)
from orchestrator.contract.tables import STAGE_SCHEMAS
from orchestrator.contract.variants import DtypeName, Variant

# By column of the stage's table, the variant's name apart.
Row = dict[str, Any]


class Engine:
    """Holds one variant of a model and works on its shards.

    Args:
        location: where the weights are.
        variant: how to hold them.
        compute_dtype: the dtype of the arithmetic.
        device: `cuda` or `cpu`.
        threads: processor threads to compute with.

    Raises:
        CannotLoadError: the variant cannot be had on this device; the message says why.
    """

    def __init__(
        self,
        location: ModelLocation,
        variant: Variant,
        compute_dtype: DtypeName,
        device: str,
        threads: int,
    ) -> None:
        torch.set_num_threads(threads)
        begin = time.perf_counter()
        self._device = torch.device(device)
        self._variant = variant
        self._model = load_model(location, variant, self._device)
        measured = weights_bytes(self._model)
        prepare_arithmetic(self._model, getattr(torch, compute_dtype))
        self._tokenizer = load_tokenizer(location)
        on_gpu = self._device.type == "cuda"
        self._loading: Row = {
            "weights_bytes": measured,
            "device_allocated_bytes": torch.cuda.memory_allocated() if on_gpu else None,
            "device_reserved_bytes": torch.cuda.memory_reserved() if on_gpu else None,
            "device_peak_bytes": peak_bytes(self._device),
            "load_seconds": time.perf_counter() - begin,
        }
        self._environment = environment_of_device(self._device)
        self._warm = False

    def evaluate(self, payload: Payload) -> pa.Table:
        """Works on a shard.

        Returns:
            The rows of the payload's stage, by the schema in `orchestrator.contract.tables`,
            with the environment that they were computed in.
        """
        match payload:
            case LoadingPayload():
                rows = [self._loading]
            case WindowsPayload():
                rows = self._score(payload)
            case PromptsPayload():
                rows = self._answer(payload)
        named = [{"variant": self._variant.name, **row} for row in rows]
        table = pa.Table.from_pylist(named, schema=STAGE_SCHEMAS[payload.stage])
        return with_environment(table, self._environment)

    def _score(self, payload: WindowsPayload) -> list[Row]:
        rows: list[Row] = []
        for number, window in enumerate(payload.windows, start=payload.first_item):
            begin = time.perf_counter()
            likelihoods = score_window(self._model, window, self._device)
            rows.append(
                {
                    "window": number,
                    "scored_tokens": len(likelihoods),
                    "negative_log_likelihood": float(likelihoods.sum()),
                    "seconds": time.perf_counter() - begin,
                    "device_peak_bytes": peak_bytes(self._device),
                }
            )
        return rows

    def _answer(self, payload: PromptsPayload) -> list[Row]:
        limit = payload.max_new_tokens
        if not self._warm:
            warm_up(self._model, self._tokenizer, payload.prompts[0], limit, self._device)
            self._warm = True
        rows: list[Row] = []
        for number, prompt in enumerate(payload.prompts, start=payload.first_item):
            answer = answer_prompt(self._model, self._tokenizer, prompt, limit, self._device)
            rows.append(
                {
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
        return rows
