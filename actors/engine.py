"""One model on one device: payloads in, Arrow tables out."""

import time
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import torch

from actors.checks import check_causal
from actors.device_memory import context_bytes, device_bytes, give_back
from actors.generation import Answer, Generator
from actors.loading import load_model, load_tokenizer, origin_of, prepare_arithmetic
from actors.roofline import cache_bytes_per_token, copy_bytes_per_second, read_weights_bytes
from actors.throughput import BatchRunner
from actors.versions import environment_of_device
from actors.vocabulary import check_vocabulary, tokens_by_id
from actors.weights import weight_bytes
from actors.windows import WindowRunner
from actors.worst_token_texts import decoder
from orchestrator.contract.environment import with_environment
from orchestrator.contract.exchange import Reference, ReferenceStates
from orchestrator.contract.shards import (
    Assignment,
    ComparedPayload,
    LoadingPayload,
    NoisePayload,
    Payload,
    PromptsPayload,
    TeacherForcedPayload,
    ThroughputPayload,
    WindowsPayload,
)
from orchestrator.contract.tables import LOADING_SCHEMA, STAGE_SCHEMAS

# By column of the stage's table, the variant's name apart.
Row = dict[str, Any]


class Engine:
    """Holds one variant of a model and works on its shards.

    Raises:
        CannotLoadError: the variant cannot be had on this device, or is no causal language model;
            the message says why.
    """

    def __init__(self, assignment: Assignment) -> None:
        torch.set_num_threads(assignment.threads)
        begin = time.perf_counter()
        self._device = torch.device(assignment.device)
        self._variant = assignment.variant
        self._model = load_model(assignment.location, assignment.variant, self._device)
        measured = weight_bytes(self._model)
        prepare_arithmetic(self._model, getattr(torch, assignment.compute_dtype))
        self._tokenizer = load_tokenizer(assignment.location)
        self._generator = Generator(self._model, self._tokenizer, self._device)
        self._loading: Row = {
            "weights_bytes": measured.total,
            **{f"{kind}_weights_bytes": count for kind, count in asdict(measured).items()},
            **device_bytes(self._device),
            "load_seconds": time.perf_counter() - begin,
        }
        self._environment = environment_of_device(self._device)
        # Only now: what has run once is held in another way by LLM.int8.
        origin = origin_of(assignment.location, assignment.variant)
        check_causal(origin, self._model, self._device)
        self._loading["running_weights_bytes"] = weight_bytes(self._model).total
        self._loading["read_weights_bytes"] = read_weights_bytes(self._model)
        cache_bytes = cache_bytes_per_token(self._model, self._device)
        self._loading["cache_bytes_per_token"] = cache_bytes
        self._loading["device_copy_bytes_per_second"] = copy_bytes_per_second(self._device)
        self._windows = WindowRunner(
            self._model,
            self._device,
            decoder(self._tokenizer),
            at_once=self._variant.tokens_are_independent,
        )
        self._batches = BatchRunner(self._generator, self._device, cache_bytes)
        # What the context takes grows with the kernels that have run.
        self._loading["device_context_bytes"] = context_bytes(self._device)
        self._met_reference = False
        self._stage: str = LoadingPayload().stage

    @property
    def state_bytes(self) -> int:
        """What the states of one scored position take."""
        return self._windows.state_bytes

    def describe(self) -> Reference:
        """What candidates must know of this model, beside its states."""
        return Reference(
            head=self._windows.output_head(),
            vocabulary=self._windows.vocabulary,
            tokens=tokens_by_id(self._tokenizer),
        )

    def evaluate(self, payload: Payload) -> pa.Table:
        """Works on a shard.

        Returns:
            The rows of the payload's stage, by the schema in `orchestrator.contract.tables`,
            with the environment that they were computed in.
        """
        self._enter(payload.stage)
        match payload:
            case LoadingPayload():
                rows = _table([self._loading], LOADING_SCHEMA)
            case WindowsPayload() | TeacherForcedPayload():
                rows = self._windows.score(payload)
            case NoisePayload():
                rows = self._windows.noise(payload)
            case ThroughputPayload():
                rows = _table(self._batches.rows(payload), STAGE_SCHEMAS[payload.stage])
            case PromptsPayload():
                rows = _table(self._answers(payload), STAGE_SCHEMAS[payload.stage])
        return self._signed(rows, payload)

    def evaluate_and_keep(self, payload: ComparedPayload) -> tuple[pa.Table, ReferenceStates]:
        """Works on a shard of windows, and keeps the states that candidates are held against."""
        self._enter(payload.stage)
        rows, states = self._windows.score_and_keep(payload)
        return self._signed(rows, payload), states

    def compare(
        self, payload: ComparedPayload, states: ReferenceStates, reference: Reference
    ) -> pa.Table:
        """Works on a shard of windows, held against the reference's states of the same windows.

        Raises:
            IncomparableError: the models do not share their tokens.
        """
        self._enter(payload.stage)
        if not self._met_reference:
            tokens = tokens_by_id(self._tokenizer)
            check_vocabulary(self._variant.name, reference, self._windows.vocabulary, tokens)
            self._met_reference = True
        return self._signed(self._windows.compare(payload, states, reference.head), payload)

    def _enter(self, stage: str) -> None:
        """Has a stage begin without the memory of the one before it, whose peak is not its own."""
        if stage != self._stage:
            give_back(self._device)
            self._stage = stage

    def _signed(self, rows: pa.Table, payload: Payload) -> pa.Table:
        """The rows with the variant's name and the environment."""
        schema = STAGE_SCHEMAS[payload.stage]
        names = pa.array([self._variant.name] * len(rows), pa.string())
        table = rows.add_column(0, schema.field("variant"), names)
        return with_environment(table, self._environment)

    def _answers(self, payload: PromptsPayload) -> list[Row]:
        prompts = enumerate(payload.prompts, start=payload.first_item)
        answers = self._generator.answers(payload)
        return [
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
                "graph_refusal": self._generator.graph_refusal,
                **device_bytes(self._device),
                "timings": _timings(answer),
            }
            for (number, prompt), answer in zip(prompts, answers, strict=True)
        ]


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


def _table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """Rows by a stage's schema less `variant`."""
    return pa.Table.from_pylist(rows, schema=schema.remove(schema.get_field_index("variant")))
