"""What a held model does of each stage: a payload → the stage's table, less `variant`."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from actors.device_memory import device_bytes
from actors.generation import Answer
from actors.held_model import HeldModel
from orchestrator.contract.shards import Payload
from orchestrator.contract.stages import (
    STAGES,
    ComparedPayload,
    GenerationsPayload,
    LoadingPayload,
    NoisePayload,
    ThroughputPayload,
)
from orchestrator.contract.tables import less, make_table

# By column.
Row = dict[str, Any]


def _loading(held: HeldModel, payload: LoadingPayload) -> pa.Table:
    return _table([held.loading], payload)


def _windows(held: HeldModel, payload: ComparedPayload) -> pa.Table:
    return held.windows.score(payload)


def _noise(held: HeldModel, payload: NoisePayload) -> pa.Table:
    return held.windows.noise(payload)


def _generations(held: HeldModel, payload: GenerationsPayload) -> pa.Table:
    answers = held.generator.answers(payload)
    pairs = zip(payload.item_numbers, payload.prompts, answers, strict=True)
    rows = [
        {
            "prompt": number,
            "prompt_id": prompt.id,
            "category": prompt.category,
            "prompt_tokens": len(prompt.input_ids),
            "new_tokens": len(answer.token_ids),
            "seconds": answer.seconds,
            "finish_reason": answer.finish_reason,
            "text": answer.text,
            "token_ids": answer.token_ids,
            "success": answer.success,
            "error": answer.error,
            "graph_refusal": held.generator.graph_refusal,
            **device_bytes(held.device),
            "timings": _timings(answer),
        }
        for number, prompt, answer in pairs
    ]
    return _table(rows, payload)


def _timings(answer: Answer) -> list[Row]:
    return [
        {
            "decoding": timing.decoding,
            "repeat": timing.repeat,
            "new_tokens": len(timing.token_seconds),
            "seconds": timing.seconds,
            "time_to_first_token_seconds": next(iter(timing.token_seconds), None),
            "token_seconds": timing.token_seconds[1:],
            "same_tokens": timing.same_tokens,
        }
        for timing in answer.timings
    ]


def _throughput(held: HeldModel, payload: ThroughputPayload) -> pa.Table:
    return _table(held.batches.rows(payload), payload)


def _table(rows: list[Row], payload: Payload) -> pa.Table:
    return make_table(rows, less(STAGES[payload.stage].schema, "variant"))


WORK: dict[str, Callable[[HeldModel, Any], pa.Table]] = {
    "loading": _loading,
    "windows": _windows,
    "noise": _noise,
    "teacher_forced": _windows,
    "generations": _generations,
    "throughput": _throughput,
}
