"""Batches of prompts → tokens a second and memory, by batch size."""

from typing import Any

import torch

from actors.decoding import Decoder
from actors.device_memory import forget_peaks, give_back, peak_bytes
from actors.generation import Generator
from actors.graph_decoding import CannotCaptureError
from orchestrator.contract.shards import DecodingName
from orchestrator.contract.stages import ThroughputPayload

# By column of the table `throughput`, the variant's name apart.
Row = dict[str, Any]

_NOTHING: Row = dict.fromkeys(
    ("seconds", "time_to_first_token_seconds", "cache_bytes", "device_peak_bytes")
)


class BatchRunner:
    """Decodes batches with one model.

    Args:
        cache_bytes_per_token: what it keeps of each token; None where that is not known.
    """

    def __init__(
        self, generator: Generator, device: torch.device, cache_bytes_per_token: int | None
    ) -> None:
        self._generator = generator
        self._device = device
        self._cache_bytes = cache_bytes_per_token

    def rows(self, payload: ThroughputPayload) -> list[Row]:
        """The rows of a batch, by way of decoding and repeat; a problem of a way is in its rows."""
        found: list[Row] = []
        for decoding in payload.decodings:
            try:
                measured = self._measured(decoding, payload)
            except (CannotCaptureError, torch.cuda.OutOfMemoryError) as error:
                short = isinstance(error, torch.cuda.OutOfMemoryError)
                problem = "the device's memory does not hold it" if short else str(error)
                measured = [{**_NOTHING, "problem": problem}] * payload.repeats
            found += [
                {
                    "batch_size": len(payload.prompts),
                    "decoding": decoding,
                    "repeat": repeat,
                    "prompt_tokens": len(payload.prompts[0]),
                    "new_tokens": payload.new_tokens,
                    **row,
                }
                for repeat, row in enumerate(measured)
            ]
            # A batch's memory is not that of the answers to single prompts.
            give_back(self._device)
        return found

    def _measured(self, decoding: DecodingName, payload: ThroughputPayload) -> list[Row]:
        batch, length = len(payload.prompts), len(payload.prompts[0]) + payload.new_tokens
        forget_peaks(self._device)
        decoder = self._generator.batch_decoder(decoding, length, batch)
        # Unmeasured: a batch's shapes have kernels of their own, which are loaded when needed.
        self._once(decoder, payload)
        return [self._once(decoder, payload) for _ in range(payload.repeats)]

    def _once(self, decoder: Decoder, payload: ThroughputPayload) -> Row:
        seconds = decoder.decode_batch(payload.prompts, payload.new_tokens).step_seconds
        # Behind the last token nothing is kept of it.
        tokens = len(payload.prompts) * (len(payload.prompts[0]) + payload.new_tokens - 1)
        return {
            "seconds": sum(seconds),
            "time_to_first_token_seconds": seconds[0],
            "cache_bytes": None if self._cache_bytes is None else tokens * self._cache_bytes,
            "device_peak_bytes": peak_bytes(self._device),
            "problem": None,
        }
