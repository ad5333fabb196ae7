"""The stages of a sweep: what is measured, each in one entry that all others follow.

A stage is a payload and the table that actors make of it. Planning, dispatch, store, reduction,
timeline and publishing read the rest here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import Field

from orchestrator.contract.shards import DecodingName, Payload, Prompt, Window
from orchestrator.contract.tables import (
    GENERATIONS_SCHEMA,
    LOADING_SCHEMA,
    NOISE_SCHEMA,
    TEACHER_FORCED_SCHEMA,
    THROUGHPUT_SCHEMA,
    WINDOWS_SCHEMA,
    answers_in,
    is_record_list,
)

# Raised when loading or the arithmetic changes a number of any stage, so that no older shard is
# taken for a new one.
SCORING_VERSION = 6

# What a device is at while it works on a stage.
Phase = Literal["loading", "scoring", "answering"]


# Where a model lives, as `orchestrator.contract.shards.Placement.text` says it.
ON_A_DEVICE, STREAMED = "device", "stream"
# Unsaid of a single device: what was planned before there were others keeps its fingerprint.
SaidPlace = Annotated[str, Field(exclude_if=lambda said: said == ON_A_DEVICE)]


class LoadingPayload(Payload):
    """Loading itself: what the weights take, which an actor measured before its first shard.

    Attributes:
        placement: where the model lives.
    """

    stage: Literal["loading"] = "loading"
    placement: SaidPlace = ON_A_DEVICE

    @property
    def items(self) -> int:
        """One row: a model is loaded once."""
        return 1

    @property
    def timed_tokens(self) -> int:
        """Next to nothing: the model was loaded before."""
        return 1


class WindowsPayload(Payload):
    """Windows, in the order in which they are taken.

    Attributes:
        numbers: of the windows in the text.
        batch: so many may be run at once, by variants whose arithmetic of a token does not depend
            on others: those of one length whose places here give the same whole part divided by
            it.
    """

    stage: Literal["windows"] = "windows"
    numbers: tuple[int, ...]
    windows: tuple[Window, ...]
    batch: int = 1

    @property
    def items(self) -> int:
        """The windows."""
        return len(self.windows)

    @property
    def timed_tokens(self) -> int:
        """The tokens read."""
        return sum(len(window.input_ids) for window in self.windows)

    @property
    def item_numbers(self) -> tuple[int, ...]:
        """The windows' numbers in the text."""
        return self.numbers

    @property
    def scored_positions(self) -> int:
        """The tokens that are scored in all of its windows."""
        return sum(len(window.target_ids) for window in self.windows)


class NoisePayload(Payload):
    """Windows that the reference runs twice, the second time in another order of its arithmetic.

    Attributes:
        numbers: of the windows in the text that they are the first tokens of.
    """

    stage: Literal["noise"] = "noise"
    numbers: tuple[int, ...]
    windows: tuple[Window, ...]

    @property
    def items(self) -> int:
        """The windows."""
        return len(self.windows)

    @property
    def timed_tokens(self) -> int:
        """The tokens read, twice."""
        return 2 * sum(len(window.input_ids) for window in self.windows)

    @property
    def item_numbers(self) -> tuple[int, ...]:
        """The windows' numbers in the text."""
        return self.numbers


class GenerationsPayload(Payload):
    """Contiguous prompts, the first of which has the number `first_item` in the suite.

    Attributes:
        decodings: the ways to answer them, of which the first one's answers are kept.
        repeats: how often each prompt is answered each way, for its time.
        placement: where the model lives. Streamed, it answers all at once, untimed.
    """

    stage: Literal["generations"] = "generations"
    first_item: int
    prompts: tuple[Prompt, ...]
    max_new_tokens: int
    decodings: tuple[DecodingName, ...] = ("eager",)
    repeats: int = 1
    placement: SaidPlace = ON_A_DEVICE

    @property
    def together(self) -> bool:
        """Whether all prompts are answered at once."""
        return self.placement == STREAMED

    @property
    def items(self) -> int:
        """The prompts."""
        return len(self.prompts)

    @property
    def timed_tokens(self) -> int:
        """The most steps that all its answers take."""
        if self.together:
            return self.max_new_tokens
        answers = len(self.prompts) * len(self.decodings) * self.repeats
        return answers * self.max_new_tokens

    @property
    def item_numbers(self) -> tuple[int, ...]:
        """The prompts' numbers in the suite."""
        return tuple(range(self.first_item, self.first_item + len(self.prompts)))


class TeacherForcedPayload(Payload):
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
        """The prompts."""
        return len(self.prompts)

    @property
    def timed_tokens(self) -> int:
        """The tokens read; before the answers are there, the most that may be."""
        return sum(len(prompt.input_ids) for prompt in self.prompts) + self.scored_positions

    @property
    def item_numbers(self) -> tuple[int, ...]:
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
    def scored_positions(self) -> int:
        """The tokens that are scored; before the answers are there, the most that may be."""
        if self.answers is None:
            return len(self.prompts) * self.max_new_tokens
        return sum(map(len, self.answers))

    def completed(self, tables: Sequence[pa.Table]) -> "TeacherForcedPayload":
        """The same once the reference has answered.

        Args:
            tables: of the stage `generations`; they may have other prompts, too.
        """
        found = {
            prompt: ids
            for table in tables
            for prompt, ids in zip(table["prompt"].to_pylist(), answers_in(table), strict=True)
        }
        return self.with_answers([found[number] for number in self.item_numbers])

    def with_answers(self, answers: Sequence[Sequence[int]]) -> "TeacherForcedPayload":
        """The same with the reference's answers, as token ids by prompt."""
        return self.model_copy(update={"answers": tuple(map(tuple, answers))})


class ThroughputPayload(Payload):
    """A batch of prompts of one length, whose answers all get the same number of tokens.

    Attributes:
        prompts: token ids.
        new_tokens: for each prompt, whatever would end an answer.
        decodings: the ways to decode it.
        repeats: how often each way.
        placement: where the model lives.
    """

    stage: Literal["throughput"] = "throughput"
    prompts: tuple[tuple[int, ...], ...]
    new_tokens: int
    decodings: tuple[DecodingName, ...]
    repeats: int
    placement: SaidPlace = ON_A_DEVICE

    @property
    def items(self) -> int:
        """The times that it is decoded."""
        return len(self.decodings) * self.repeats

    @property
    def timed_tokens(self) -> int:
        """The steps, each a token for every prompt."""
        return self.items * self.new_tokens


# Those whose shards are held against the reference's states: they have windows.
ComparedPayload = WindowsPayload | TeacherForcedPayload


@dataclass(frozen=True)
class Stage:
    """A measurement that a variant has shards of.

    Attributes:
        version: enters the fingerprints of its shards, and of those that read them. Raised when a
            column of its table changes its meaning.
        payload: what an actor is given of a shard.
        schema: of the table that it makes, a row an item. Its second column tells items apart.
        phase: what a device is at meanwhile.
        items: what progress calls its items; empty where their speed says nothing.
        lists: the columns that hold a list of records a row, each with the name of the run's table
            that has a row a record.
        is_compared: whether the reference's shards leave states behind, against which those of the
            others are held.
        reads: the stage of the reference whose tables complete a payload, item by item.
        of_reference: whether the reference alone has shards of it.
        for_candidates: whether it is of no use without another variant than the reference.
    """

    name: str
    version: int
    payload: type[Payload]
    schema: pa.Schema
    phase: Phase
    items: str = ""
    lists: Mapping[str, str] = field(default_factory=dict)
    is_compared: bool = False
    reads: str | None = None
    of_reference: bool = False
    for_candidates: bool = False

    def __post_init__(self) -> None:
        records = {one.name for one in self.schema if is_record_list(one)}
        if records != self.lists.keys():
            raise ValueError(f"stage {self.name} has lists {sorted(records)}, not {self.lists}")
        if self.is_compared != issubclass(self.payload, ComparedPayload):
            raise ValueError(f"stage {self.name}: what is compared has a ComparedPayload")

    @cached_property
    def table_schema(self) -> pa.Schema:
        """Of the run's table of the stage: less the lists of records."""
        return pa.schema([one for one in self.schema if not is_record_list(one)])

    def rows_schema(self, column: str) -> pa.Schema:
        """Of the run's table with a row a record of a column's lists: variant, item, its fields."""
        records = self.schema.field(column).type.value_type
        return pa.schema([self.schema.field(0), self.schema.field(1), *records])


# In the order in which a variant's shards come: what the others need is made as soon as it can be.
STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("loading", 10, LoadingPayload, LOADING_SCHEMA, phase="loading"),
        Stage(
            "windows",
            8,
            WindowsPayload,
            WINDOWS_SCHEMA,
            phase="scoring",
            items="windows",
            lists={"tokens": "tokens", "worst_tokens": "worst_tokens"},
            is_compared=True,
        ),
        Stage(
            "noise",
            8,
            NoisePayload,
            NOISE_SCHEMA,
            phase="scoring",
            items="windows",
            lists={"tokens": "noise_tokens"},
            of_reference=True,
        ),
        Stage(
            "teacher_forced",
            8,
            TeacherForcedPayload,
            TEACHER_FORCED_SCHEMA,
            phase="scoring",
            items="scored answers",
            lists={"tokens": "teacher_forced_tokens"},
            is_compared=True,
            reads="generations",
            for_candidates=True,
        ),
        Stage(
            "generations",
            8,
            GenerationsPayload,
            GENERATIONS_SCHEMA,
            phase="answering",
            items="answers",
            lists={"timings": "timings"},
        ),
        Stage("throughput", 8, ThroughputPayload, THROUGHPUT_SCHEMA, phase="answering"),
    )
}
