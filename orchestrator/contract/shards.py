"""What is sent to an actor: the model to hold, and the payloads of its shards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, field_validator

from orchestrator.contract.frozen import Frozen
from orchestrator.contract.variants import DtypeName, Variant


class ModelLocation(Frozen):
    """Where an actor finds the weights.

    Attributes:
        id_or_path: a folder, or a hub id.
        revision: the commit to take of a hub id.
        gguf_file: the name of the file there that holds all; None for a folder of transformers.
    """

    id_or_path: str
    revision: str | None = None
    gguf_file: str | None = None


class Assignment(Frozen):
    """The model that an actor holds, and how it computes.

    Attributes:
        location: where the weights are.
        variant: how to hold them.
        compute_dtype: the dtype of the arithmetic.
        device: `cuda` or `cpu`.
        threads: processor threads to compute with.
    """

    location: ModelLocation
    variant: Variant
    compute_dtype: DtypeName
    device: str
    threads: int


class Window(Frozen):
    """A stretch of tokens that the model sees at once, and what is scored of it.

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


class LoadingPayload(Frozen):
    """Loading itself: what the weights take, which an actor measured before its first shard."""

    stage: Literal["loading"] = "loading"

    @property
    def items(self) -> int:
        """The rows that its table will have."""
        return 1


class WindowsPayload(Frozen):
    """Contiguous windows, the first of which has the number `first_item` in the corpus.

    Attributes:
        batch: so many may be run at once, by variants whose arithmetic of a token does not depend
            on others: those of one length whose numbers give the same whole part divided by it.
    """

    stage: Literal["windows"] = "windows"
    first_item: int
    windows: tuple[Window, ...]
    batch: int = 1

    @property
    def items(self) -> int:
        """The rows that its table will have."""
        return len(self.windows)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The windows' numbers in the corpus."""
        return tuple(range(self.first_item, self.first_item + len(self.windows)))

    @property
    def scored_tokens(self) -> int:
        """The tokens that are scored in all of its windows."""
        return sum(len(window.target_ids) for window in self.windows)


class NoisePayload(Frozen):
    """Windows that the reference runs twice, the second time in another order of its arithmetic.

    Attributes:
        numbers: of the windows in the corpus that they are the first tokens of.
    """

    stage: Literal["noise"] = "noise"
    numbers: tuple[int, ...]
    windows: tuple[Window, ...]

    @property
    def items(self) -> int:
        """The rows that its table will have."""
        return len(self.windows)


# Ways to generate: `generate` of transformers, and its decoding step as a CUDA graph.
DecodingName = Literal["eager", "graph"]


class PromptsPayload(Frozen):
    """Contiguous prompts, the first of which has the number `first_item` in the suite.

    Attributes:
        decodings: the ways to answer them, of which the first one's answers are kept.
        repeats: how often each prompt is answered each way, for its time.
    """

    stage: Literal["generations"] = "generations"
    first_item: int
    prompts: tuple[Prompt, ...]
    max_new_tokens: int
    decodings: tuple[DecodingName, ...] = ("eager",)
    repeats: int = 1

    @property
    def items(self) -> int:
        """The rows that its table will have."""
        return len(self.prompts)


class TeacherForcedPayload(Frozen):
    """Prompts with the reference's answers to them, which every variant scores.

    Attributes:
        first_item: the first prompt's number in the suite; they are contiguous.
        answers: token ids by prompt, none where it failed; None until the reference has answered.
    """

    stage: Literal["teacher_forced"] = "teacher_forced"
    first_item: int
    prompts: tuple[Prompt, ...]
    max_new_tokens: int
    answers: tuple[tuple[int, ...], ...] | None = None

    @property
    def items(self) -> int:
        """The rows that its table will have."""
        return len(self.prompts)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The prompts' numbers in the suite."""
        return tuple(range(self.first_item, self.first_item + len(self.prompts)))

    @property
    def windows(self) -> tuple[Window, ...]:
        """A window a prompt, of which the answer is scored.

        Raises:
            ValueError: there are no answers yet.
        """
        if self.answers is None:
            raise ValueError("the reference has not answered these prompts")
        pairs = zip(self.prompts, self.answers, strict=True)
        return tuple(
            Window(
                # The model need not see the last token, behind which nothing is scored.
                input_ids=(*prompt.input_ids, *answer[:-1]),
                target_ids=answer,
                start=len(prompt.input_ids) - 1,
            )
            for prompt, answer in pairs
        )

    @property
    def scored_tokens(self) -> int:
        """The tokens that are scored; before the answers are there, the most that may be."""
        if self.answers is None:
            return len(self.prompts) * self.max_new_tokens
        return sum(map(len, self.answers))

    def with_answers(self, answers: Sequence[Sequence[int]]) -> "TeacherForcedPayload":
        """The same once the reference has answered."""
        return self.model_copy(update={"answers": tuple(map(tuple, answers))})


class ThroughputPayload(Frozen):
    """A batch of prompts of one length, whose answers all get the same number of tokens.

    Attributes:
        prompts: token ids.
        new_tokens: for each prompt, whatever would end an answer.
        decodings: the ways to decode it.
        repeats: how often each way.
    """

    stage: Literal["throughput"] = "throughput"
    prompts: tuple[tuple[int, ...], ...]
    new_tokens: int
    decodings: tuple[DecodingName, ...]
    repeats: int

    @property
    def items(self) -> int:
        """The rows that its table will have."""
        return len(self.decodings) * self.repeats


Payload = Annotated[
    LoadingPayload
    | WindowsPayload
    | NoisePayload
    | PromptsPayload
    | TeacherForcedPayload
    | ThroughputPayload,
    Field(discriminator="stage"),
]
# Those whose shards the reference leaves its states of.
ComparedPayload = WindowsPayload | TeacherForcedPayload


class ShardRecord(Frozen):
    """A unit of work for one variant, identified by the content behind it.

    Attributes:
        stage: which table it makes rows of, a key of `orchestrator.contract.tables.STAGE_SCHEMAS`.
        index: its number within the variant and the stage, from 0.
        items: the rows that its table will have.
        needs: the fingerprint of the reference's shard whose states it is held against; None for
            most. States are not stored: where that shard is finished, they may still have to be
            made again.
        reads: the fingerprints of the shards whose tables complete the payload; most need none.
    """

    variant: str
    stage: str
    index: int
    items: int
    fingerprint: str
    needs: str | None = None
    reads: tuple[str, ...] = ()

    @field_validator("reads", mode="before")
    @classmethod
    def _several(cls, reads: object) -> object:
        # Once it was a single one, or null.
        return () if reads is None else (reads,) if isinstance(reads, str) else reads

    @property
    def name(self) -> str:
        """What it is called in messages and, with an ending, on disk."""
        return f"{self.variant}/{self.stage}-{self.index:05d}-{self.fingerprint[:16]}"


def stage_of(name: str) -> str:
    """The stage of a shard that is called so."""
    return name.rpartition("/")[2].rsplit("-", 2)[0]


@dataclass(frozen=True)
class Shard:
    """A shard with what an actor needs to work on it, as far as it is known beforehand."""

    record: ShardRecord
    payload: Payload
