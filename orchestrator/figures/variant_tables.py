"""A run's tables → those of one variant."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.contract.stages import STREAMED
from orchestrator.figures.answers import Answers
from orchestrator.figures.divergence import finite_windows
from orchestrator.figures.latency import NO_READS, Reads
from orchestrator.figures.sample import Sample, Units
from orchestrator.storage.reduce import Tables


@dataclass(frozen=True)
class VariantTables:
    """The rows of one variant.

    Attributes:
        linear: what its linear layers were, all that shards were computed with.
    """

    row: dict[str, Any]
    loadings: pa.Table
    windows: pa.Table
    sample: Sample
    worst_tokens: pa.Table
    answers: Answers
    throughput: pa.Table
    linear: str | None

    @property
    def name(self) -> str:
        """What the user calls it."""
        return str(self.row["variant"])

    @property
    def method(self) -> str | None:
        """How its checkpoint is quantized already; None for original weights."""
        found = json.loads(self.row["options"]).get("method")
        return None if found is None else str(found)

    @property
    def is_streamed(self) -> bool:
        """Whether a device has but some of its weights at a time."""
        return bool(self.row["placement"] == STREAMED)

    @cached_property
    def loading(self) -> dict[str, Any]:
        """Its row of the table `loading`; empty where it is not loaded yet."""
        rows = self.loadings.to_pylist()
        return dict(rows[0]) if rows else {}

    @cached_property
    def comparable(self) -> NDArray[np.bool_]:
        """Whether each window's divergence from the reference is a number: bool `[windows]`."""
        return finite_windows(self.sample.tokens)

    @property
    def is_comparable(self) -> bool:
        """Whether there are windows, and all of their divergences are numbers."""
        return bool(len(self.comparable) and self.comparable.all())


def tables_of_variant(row: dict[str, Any], tables: Tables, units: Units) -> VariantTables:
    """The rows of one variant.

    Args:
        row: of the table `variants`.
        units: of its windows.
    """
    chosen = pc.field("variant") == row["variant"]
    stages = {stage: table.filter(chosen) for stage, table in tables.stages.items()}
    loading = stages["loading"].to_pylist()
    linear = pc.unique(tables.shards.filter(chosen)["linear"]).drop_null().to_pylist()
    return VariantTables(
        row=row,
        loadings=stages["loading"],
        windows=stages["windows"],
        sample=Sample(tables.tokens["windows"][row["variant"]], units),
        worst_tokens=tables.records["worst_tokens"].filter(chosen),
        answers=Answers(
            rows=stages["generations"],
            timings=tables.records["timings"].filter(chosen),
            teacher_forced=Sample(
                tables.tokens["teacher_forced"][row["variant"]], Units.of_prompts(units.confidence)
            ),
            reads=Reads.of_loading(loading[0]) if loading else NO_READS,
            is_timed=row["placement"] != STREAMED,
        ),
        throughput=stages["throughput"],
        linear=", ".join(sorted(linear)) or None,
    )
