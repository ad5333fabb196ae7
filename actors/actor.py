"""The class whose methods Ray calls. It imports no torch, so that a driver can name it."""

import time
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from actors.engine import Engine, make_engine, told_once
from actors.model_files import ModelFiles
from orchestrator.contract.exchange import Computed, Loaded, Reference, ReferenceStates, Span
from orchestrator.contract.file_states import this_machine
from orchestrator.contract.shards import Assignment, Payload, Placement
from orchestrator.contract.stages import ComparedPayload

T = TypeVar("T")


class ModelActor:
    """One variant of a model at a time on one device, in a process of its own.

    Construction does nothing that can fail, since Ray hides why a constructor did; torch and the
    model come later. Calls may come from several threads at once: one works, so that a measured
    answer has the device to itself, while another's result travels.
    """

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._files: ModelFiles | None = None
        self._prepared: Span | None = None
        self._device_in_use = Lock()

    def prepare(self, placement: Placement) -> None:
        """Imports what loading will need, which takes longer than many a model does.

        It needs to know no model, so that it can be called while a driver still cuts its inputs.
        """
        with self._device_in_use:
            self._prepare(placement)

    def load(self, assignment: Assignment, describe: bool) -> Loaded | None:
        """Loads a model, in the place of an earlier one; to be called before any shard.

        The next variant of a sweep finds its libraries imported and its device ready.

        Args:
            describe: whether candidates will be held against this model, and need to know it.

        Returns:
            None where the device did not get back what the earlier model took: what is measured
            here would not be the next one's alone, and the process is of no more use.

        Raises:
            VariantError: the variant cannot be had on this device; the message says why.
        """
        with self._device_in_use:
            prepared = self._prepare(assignment.placement)

            from actors.device_memory import is_free

            began = time.time()
            if self._engine is not None:
                self._engine = None
                if not is_free(assignment.placement.device):
                    return None
            with told_once(assignment):
                self._files = ModelFiles(assignment)
                self._engine = make_engine(assignment)
                return Loaded(
                    state_bytes=self._engine.state_bytes,
                    reference=self._engine.describe() if describe else None,
                    prepared=prepared,
                    span=Span(began, time.time()),
                    machine=this_machine(),
                    files=self._files.loaded(),
                )

    def evaluate(self, payload: Payload) -> Computed:
        """Works on a shard: the rows of its stage, and the environment that they are from."""
        return Computed(*self._timed(lambda engine: engine.evaluate(payload)))

    def evaluate_and_keep(self, payload: ComparedPayload) -> tuple[Computed, ReferenceStates]:
        """Works on a shard, and keeps the states that candidates are held against."""
        (table, states), span = self._timed(lambda engine: engine.evaluate_and_keep(payload))
        return Computed(table, span), states

    def compare(
        self, payload: ComparedPayload, states: ReferenceStates, reference: Reference
    ) -> Computed:
        """Works on a shard of windows, held against the reference's states of the same windows.

        Raises:
            VariantError: the models do not share their tokens; the message says where they differ.
        """
        return Computed(*self._timed(lambda engine: engine.compare(payload, states, reference)))

    def _timed(self, work: Callable[[Engine], T]) -> tuple[T, Span]:
        """What came of it, and when the device was at it, the wait for which does not count."""
        with self._device_in_use:
            engine = self._loaded()
            began = time.time()
            made = work(engine)
            if self._files is not None:
                self._files.check_in_place()
            return made, Span(began, time.time())

    def _loaded(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("a shard came before the model was loaded")
        return self._engine

    def _prepare(self, placement: Placement) -> Span:
        """Gets the process ready, once; when that was."""
        if self._prepared is None:
            began = time.time()

            import actors.transformers_engine  # noqa: F401 - what most variants need
            from actors.device_memory import wake

            wake(placement.device)
            self._prepared = Span(began, time.time())
        return self._prepared
