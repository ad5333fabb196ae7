"""What is sent to an actor: the model to hold, and shards with their payloads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import Field, field_validator

from orchestrator.contract.frozen import Frozen
from orchestrator.contract.names import Name, VariantName
from orchestrator.contract.variants import DtypeName, Variant


class Location(Frozen):
    """Where an actor finds files of one folder.

    Attributes:
        id_or_path: a folder, or a hub id.
        revision: the commit to take of a hub id.
        files: the names there of those that change a number.
    """

    id_or_path: str
    revision: str | None = None
    files: tuple[str, ...] = ()

    def name_of(self, file: str) -> str:
        """What messages call one of its files."""
        return f"{self.id_or_path}/{file}"


class AdapterLocation(Location):
    """Where an actor finds an adapter, as of a model."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.id_or_path + ("" if self.revision is None else f" @ {self.revision}")


class ModelLocation(Location):
    """Where an actor finds the weights.

    Attributes:
        gguf_file: the name of the file there that holds all; None for a folder of transformers.
        configuration: what the model is by that file, JSON for transformers' `AutoConfig`; None
            where its own files say so, or transformers reads the file as it is.
        adapter: what is merged into these weights, if anything is.
    """

    gguf_file: str | None = None
    configuration: str | None = None
    adapter: AdapterLocation | None = None

    @property
    def parts(self) -> tuple[Location, ...]:
        """The model's own place, then that of the adapter."""
        return (self,) if self.adapter is None else (self, self.adapter)

    @property
    def file_names(self) -> tuple[str, ...]:
        """What messages call its files, then those of the adapter."""
        return tuple(part.name_of(file) for part in self.parts for file in part.files)

    @property
    def name(self) -> str:
        """What messages call it."""
        if self.adapter is not None:
            return f"{self.id_or_path} with {self.adapter.name}"
        return self.id_or_path + ("" if self.gguf_file is None else f"/{self.gguf_file}")


DeviceKind = Literal["cuda", "cpu"]
# As a user says it: `auto` leaves the kind to what there is.
DeviceChoice = Literal["auto", DeviceKind]


class _AtOneDevice(Frozen):
    kind: str
    device: DeviceKind

    @property
    def text(self) -> str:
        """The place as a user says it, and as files have it."""
        return self.kind

    @property
    def gpus(self) -> int:
        """How many an actor must have."""
        return 1 if self.device == "cuda" else 0


class OneDevice(_AtOneDevice):
    """Where a model lives: whole, on one device."""

    kind: Literal["device"] = "device"


class SeveralDevices(Frozen):
    """Where a model lives: its layers over several GPUs of one node."""

    kind: Literal["devices"] = "devices"
    device: Literal["cuda"] = "cuda"
    gpus: int = Field(ge=2)

    @property
    def text(self) -> str:
        """The place as a user says it, and as files have it."""
        return f"{self.kind}:{self.gpus}"


# Of a streamed model: so many layers are on the device at once, and where a parameter may begin in
# a layer's memory, in bytes, as the allocator of a GPU aligns tensors.
STREAM_SLOTS = 2
SLAB_ALIGNMENT = 512


class Streamed(_AtOneDevice):
    """Where a model lives: in the host's memory, its layers on a device while they compute.

    What a device does not hold is not timed on it.
    """

    kind: Literal["stream"] = "stream"


Placement = Annotated[OneDevice | SeveralDevices | Streamed, Field(discriminator="kind")]


class Assignment(Frozen):
    """The model that an actor holds, and how it computes.

    Attributes:
        location: where the weights are.
        variant: how to hold them.
        compute_dtype: the dtype of the arithmetic.
        placement: where to hold them.
        threads: processor threads to compute with.
        noisy: the names of the tensors that the variant's noise goes into: the weights that a
            quantizer takes; none without noise.
    """

    location: ModelLocation
    variant: Variant
    compute_dtype: DtypeName
    placement: Placement
    threads: int
    noisy: tuple[str, ...] = ()


class Window(Frozen):
    """A piece of text that the model sees at once, in tokens, and what is scored of it.

    The logits at `input_ids` positions `start`, `start + 1`, ... predict `target_ids` in order.
    """

    input_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    start: int

    @classmethod
    def scored_from(cls, ids: Sequence[int], position: int) -> "Window":
        """A window that scores its own tokens from a position (at least 1) on."""
        return cls(input_ids=tuple(ids), target_ids=tuple(ids[position:]), start=position - 1)


class Prompt(Frozen):
    """A prompt as the model gets it: the chat template applied, in tokens."""

    id: str
    category: str
    input_ids: tuple[int, ...]


# Ways to generate, timed token by token: `generate` of transformers, and its decoding step as a
# CUDA graph.
DecodingName = Literal["eager", "graph"]


class Payload(Frozen):
    """What an actor is given of a shard; a class a stage, in `orchestrator.contract.stages`.

    Attributes:
        stage: the name of the stage, the same for all of a class.
    """

    stage: str

    @property
    def items(self) -> int:
        """The rows that its table will have."""
        raise NotImplementedError

    @property
    def timed_tokens(self) -> int:
        """What its time goes by, at least 1: tokens read, or the steps in which they are made."""
        raise NotImplementedError

    @property
    def item_numbers(self) -> tuple[int, ...]:
        """The items' numbers in the corpus or the suite; none where they are of neither."""
        return ()

    @property
    def scored_positions(self) -> int:
        """The positions whose states the reference may leave, as far as one can tell by now."""
        return 0

    def completed(self, tables: Sequence[pa.Table]) -> "Payload":
        """The same with what it takes from the tables of the shards that its record `reads`."""
        return self


class ShardRecord(Frozen):
    """A unit of work for one variant, identified by the content behind it.

    Attributes:
        stage: which table it makes rows of, a key of `orchestrator.contract.stages.STAGES`.
        index: its number within the variant and the stage, from 0.
        items: the rows that its table will have.
        needs: the fingerprint of the reference's shard whose states it is held against; None for
            most. States are not stored: where that shard is finished, they may still have to be
            made again.
        reads: the fingerprints of the shards whose tables complete the payload; most need none.
        look: of windows, the look at the text that they belong to, from 0.
    """

    variant: VariantName
    stage: Name
    index: int = Field(ge=0, lt=2**31)
    items: int = Field(ge=0, lt=2**31)
    fingerprint: Name
    needs: str | None = None
    reads: tuple[str, ...] = ()
    look: int | None = None

    @field_validator("reads", mode="before")
    @classmethod
    def _several(cls, reads: object) -> object:
        # Once it was a single one, or null.
        return () if reads is None else (reads,) if isinstance(reads, str) else reads

    def is_after(self, look: int) -> bool:
        """Whether it is of windows that a later look than this adds."""
        return self.look is not None and self.look > look

    @property
    def name(self) -> str:
        """What the shard is called in messages and, with an ending, on disk."""
        return f"{self.variant}/{self.stage}-{self.index:05d}-{self.fingerprint[:16]}"


def stage_of(name: str) -> str:
    """The stage of a shard that is called so."""
    return name.rpartition("/")[2].rsplit("-", 2)[0]


@dataclass(frozen=True)
class Shard:
    """A shard with what an actor needs to work on it, as far as it is known beforehand."""

    record: ShardRecord
    payload: Payload
