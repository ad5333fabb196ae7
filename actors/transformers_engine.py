"""The engine of what transformers loads: one model on one device, payloads in, tables out."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import torch

from actors.device_memory import give_back
from actors.held_model import hold_model
from actors.loading import origin_of
from actors.stage_work import WORK
from actors.versions import environment_of_device
from actors.vocabulary import check_vocabulary, tokens_by_id
from orchestrator.contract.environment import with_environment
from orchestrator.contract.exchange import Reference, ReferenceStates
from orchestrator.contract.packages import needed_modules
from orchestrator.contract.shards import Assignment, Payload
from orchestrator.contract.stages import STAGES, ComparedPayload
from orchestrator.contract.variant_errors import CannotLoadError, NoMemoryError, first_line


class TransformersEngine:
    """An `actors.engine.Engine`.

    Attributes:
        held: the model, with what works on its shards.

    Raises:
        CannotLoadError: the variant cannot be had on this device, or is no causal language model;
            the message says why.
    """

    def __init__(self, assignment: Assignment) -> None:
        try:
            self.held = hold_model(assignment)
        except torch.cuda.OutOfMemoryError as error:
            raise CannotLoadError(
                f"{origin_of(assignment.location, assignment.variant)} does not fit the device: "
                f"{first_line(error)}"
            ) from None
        modules = needed_modules(assignment.variant, assignment.location)
        self._environment = environment_of_device(self.held.device, modules, self.held.linear)
        self._met_reference = False
        # The one that it is at; loading has just ended.
        self._stage = "loading"

    @property
    def state_bytes(self) -> int:
        """What the states of one scored position take."""
        return self.held.windows.state_bytes

    def describe(self) -> Reference:
        """What candidates must know of this model, beside its states."""
        return Reference(
            head=self.held.windows.output_head(),
            vocabulary=self.held.windows.vocabulary,
            tokens=tokens_by_id(self.held.tokenizer),
        )

    def evaluate(self, payload: Payload) -> pa.Table:
        """Works on a shard."""
        with self._at(payload.stage):
            return self._signed(WORK[payload.stage](self.held, payload), payload)

    def evaluate_and_keep(self, payload: ComparedPayload) -> tuple[pa.Table, ReferenceStates]:
        """Works on a shard of windows, and keeps the states that candidates are held against."""
        with self._at(payload.stage):
            rows, states = self.held.windows.score_and_keep(payload)
            return self._signed(rows, payload), states

    def compare(
        self, payload: ComparedPayload, states: ReferenceStates, reference: Reference
    ) -> pa.Table:
        """Works on a shard of windows, held against the reference's states of the same windows.

        Raises:
            IncomparableError: the models do not share their tokens.
        """
        windows = self.held.windows
        if not self._met_reference:
            tokens = tokens_by_id(self.held.tokenizer)
            check_vocabulary(self.held.variant.name, reference, windows.vocabulary, tokens)
            self._met_reference = True
        with self._at(payload.stage):
            return self._signed(windows.compare(payload, states, reference.head), payload)

    @contextmanager
    def _at(self, stage: str) -> Iterator[None]:
        """Has a stage begin without the memory of the one before it, whose peak is not its own.

        Raises:
            NoMemoryError: the device has none for it.
        """
        if stage != self._stage:
            give_back(self.held.device)
            self._stage = stage
        try:
            yield
        except torch.cuda.OutOfMemoryError as error:
            # What the attempt took is of no more use, and the next one needs it.
            give_back(self.held.device)
            raise NoMemoryError(
                f"{first_line(error)} Lower --batch-tokens, or end what else is on the device"
            ) from None

    def _signed(self, rows: pa.Table, payload: Payload) -> pa.Table:
        """The rows with the variant's name and the environment."""
        names = pa.array([self.held.variant.name] * len(rows), pa.string())
        table = rows.add_column(0, STAGES[payload.stage].schema.field("variant"), names)
        return with_environment(table, self._environment)
