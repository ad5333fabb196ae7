"""What an actor asks of whatever runs its model, and who that is. Imports no model library."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import pyarrow as pa

from orchestrator.contract.exchange import Reference, ReferenceStates
from orchestrator.contract.shards import Assignment, Payload
from orchestrator.contract.stages import ComparedPayload
from orchestrator.contract.variant_errors import CannotLoadError, VariantError, loading_problem
from orchestrator.contract.variants import VariantKind


class Engine(Protocol):
    """Holds one variant of a model and works on its shards.

    Tables are by the schema of the payload's stage, with the environment that they were computed
    in.
    """

    @property
    def state_bytes(self) -> int:
        """What the states of one scored position take."""
        ...

    def describe(self) -> Reference:
        """What candidates must know of this model, beside its states."""
        ...

    def evaluate(self, payload: Payload) -> pa.Table:
        """Works on a shard."""
        ...

    def evaluate_and_keep(self, payload: ComparedPayload) -> tuple[pa.Table, ReferenceStates]:
        """Works on a shard of windows, and keeps the states that candidates are held against."""
        ...

    def compare(
        self, payload: ComparedPayload, states: ReferenceStates, reference: Reference
    ) -> pa.Table:
        """Works on a shard of windows, held against the reference's states of the same windows.

        Raises:
            IncomparableError: the models do not share their tokens.
        """
        ...


def _with_transformers(assignment: Assignment) -> Engine:
    from actors.transformers_engine import TransformersEngine

    return TransformersEngine(assignment)


# By kind of variant. An engine's libraries are imported once one is made.
ENGINES: dict[VariantKind, Callable[[Assignment], Engine]] = {
    "plain": _with_transformers,
    "llm-int8": _with_transformers,
    "4-bit": _with_transformers,
    "torchao": _with_transformers,
    "torchao-tile": _with_transformers,
    "format": _with_transformers,
    "checkpoint": _with_transformers,
    "adapter": _with_transformers,
    "gguf": _with_transformers,
}


def make_engine(assignment: Assignment) -> Engine:
    """Loads a model as its assignment says.

    Raises:
        CannotLoadError: the variant cannot be had in its place; the message says why.
    """
    return ENGINES[assignment.variant.kind](assignment)


@contextmanager
def told_once(assignment: Assignment) -> Iterator[None]:
    """Makes of whatever a library raises while a model is made ready a refusal in one line.

    Another try would end the same way. What ends or silences the process is another matter.

    Raises:
        CannotLoadError: the variant cannot be had in its place; the message says why.
    """
    try:
        yield
    except VariantError:
        raise
    except Exception as error:
        raise CannotLoadError(
            f"variant {assignment.variant.name} of {assignment.location.name} cannot be made "
            f"ready ({loading_problem(error)}); leave it out, or take other versions of the "
            "libraries"
        ) from error
