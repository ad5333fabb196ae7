"""What comes back from actors: times, tables, and what passes from one to another."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.contract.file_states import FileState
from orchestrator.contract.variants import DtypeName


@dataclass(frozen=True)
class Span:
    """When something was done, in seconds since the epoch by the clock of the actor's machine."""

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long it took; 0 where the clock was set back meanwhile."""
        return max(0.0, self.ended - self.began)


@dataclass(frozen=True)
class Computed:
    """A shard's table, and when an actor worked on it."""

    table: pa.Table
    span: Span

    def __reduce__(self) -> tuple[Any, ...]:
        # As one Arrow stream: Ray takes tables apart column by column, in several times the time.
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as writer:
            writer.write_table(self.table)
        return _computed, (sink.getvalue().to_pybytes(), self.span)


def _computed(stream: bytes, span: Span) -> Computed:
    return Computed(pa.ipc.open_stream(stream).read_all(), span)


@dataclass(frozen=True)
class TensorData:
    """A tensor's numbers on the host, in a form that passes from process to process uncopied.

    Attributes:
        values: the numbers; bfloat16 by their bits as int16, since numpy has no such type.
        dtype: what they are.
    """

    values: NDArray[Any]
    dtype: DtypeName


# `[scored positions, width]` of a shard's windows, one after another: what goes into the
# reference's output head, or its logits where it has no head that reproduces them.
ReferenceStates = TensorData


@dataclass(frozen=True)
class OutputHead:
    """The last step of a reference, which makes logits of its states.

    Attributes:
        weight: `[vocabulary, hidden]`.
        bias: `[vocabulary]`, where there is one.
        steps: what the architecture does to the logits afterwards, as of `actors.head.Head`.
    """

    weight: TensorData
    bias: TensorData | None
    steps: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Reference:
    """What a candidate must know of the reference beside its states; the same for all windows.

    Attributes:
        head: None where the states are logits.
        vocabulary: how many tokens its logits are over.
        tokens: uint8, the JSON list of its tokenizer's tokens by id. In bytes, since a candidate
            gets it with every shard and reads it once.
    """

    head: OutputHead | None
    vocabulary: int
    tokens: NDArray[Any]


@dataclass(frozen=True)
class Loaded:
    """What an actor knows once its model is there.

    Attributes:
        state_bytes: what the states of one scored position take.
        reference: where it was asked for.
        prepared: when its process imported its libraries and woke its device.
        span: when it loaded the model, after that.
        machine: a name of its own for the one that the actor is on.
        files: those that the model was loaded from, by their names in the location.
    """

    state_bytes: int
    reference: Reference | None
    prepared: Span
    span: Span
    machine: str
    files: Mapping[str, FileState]
