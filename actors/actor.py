"""The class whose methods Ray calls. It imports no torch, so that a driver can name it."""

from threading import Lock
from typing import TYPE_CHECKING

import pyarrow as pa

from orchestrator.contract.exchange import Loaded, Reference, ReferenceStates
from orchestrator.contract.shards import Assignment, ComparedPayload, Payload

if TYPE_CHECKING:
    from actors.engine import Engine


class ModelActor:
    """One variant of a model at a time on one device, in a process of its own.

    Construction does nothing that can fail, since Ray hides why a constructor did; torch and the
    model come with `load`. Calls may come from several threads at once: one works, so that a
    measured answer has the device to itself, while another's result travels.
    """

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._device_in_use = Lock()

    def load(self, assignment: Assignment, describe: bool) -> Loaded | None:
        """Loads a model, in the place of an earlier one; to be called first.

        The next variant of a sweep finds its libraries imported and its device ready, which takes
        longer than many a model does.

        Args:
            describe: whether candidates will be held against this model, and need to know it.

        Returns:
            None where the device did not get back what the earlier model took: what is measured
            here would not be the next one's alone, and the process is of no more use.

        Raises:
            VariantError: the variant cannot be had on this device; the message says why.
        """
        from actors.engine import Engine
        from actors.memory import is_free

        with self._device_in_use:
            if self._engine is not None:
                self._engine = None
                if not is_free(assignment.device):
                    return None
            self._engine = Engine(assignment)
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
