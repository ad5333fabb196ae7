"""The class whose methods Ray calls. It imports no torch, so that a driver can name it."""

from threading import Lock
from typing import TYPE_CHECKING

import pyarrow as pa

from orchestrator.contract.exchange import Loaded, Reference, ReferenceStates
from orchestrator.contract.shards import Assignment, ComparedPayload, Payload

if TYPE_CHECKING:
    from actors.engine import Engine


class ModelActor:
    """One variant of a model on one device, in a process of its own.

    Construction does nothing that can fail, since Ray hides why a constructor did; torch and the
    model come with `load`. Calls may come from several threads at once: one works, so that a
    measured answer has the device to itself, while another's result travels.
    """

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._engine: Engine | None = None
        self._device_in_use = Lock()

    def load(self, describe: bool) -> Loaded:
        """Loads the model; to be called first.

        Args:
            describe: whether candidates will be held against this model, and need to know it.

        Raises:
            VariantError: the variant cannot be had on this device; the message says why.
        """
        from actors.engine import Engine

        with self._device_in_use:
            self._engine = Engine(self._assignment)
            return Loaded(
                state_bytes=self._engine.state_bytes,
                reference=self._engine.describe() if describe else None,
            )

    def evaluate(self, payload: Payload) -> pa.Table:
        """Works on a shard: the rows of its stage, and the environment that they are from."""
        with self._device_in_use:
            return self._loaded().evaluate(payload)

    def evaluate_and_keep(self, payload: ComparedPayload) -> tuple[pa.Table, ReferenceStates]:
        """The same, and the states that candidates are held against."""
        with self._device_in_use:
            return self._loaded().evaluate_and_keep(payload)

    def compare(
        self, payload: ComparedPayload, states: ReferenceStates, reference: Reference
    ) -> pa.Table:
        """Works on a shard of windows, held against the reference's states of the same windows.

        Raises:
            VariantError: the models do not share their tokens; the message says where they differ.
        """
        with self._device_in_use:
            return self._loaded().compare(payload, states, reference)

    def _loaded(self) -> "Engine":
        if self._engine is None:
            raise RuntimeError("a shard came before the model was loaded")
        return self._engine
