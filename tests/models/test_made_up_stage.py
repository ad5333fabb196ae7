"""A stage that nobody has heard of: one entry, an actor's function, its pieces, and all follow."""

import json
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.held_model import HeldModel
from actors.stage_work import WORK
from orchestrator.contract.shards import Payload, Prompt
from orchestrator.contract.stages import STAGES, Stage
from orchestrator.contract.tables import less, make_table
from orchestrator.planning.pieces import PAYLOADS, Cut
from orchestrator.publish import publish
from orchestrator.storage.results_folder import run_at
from tests.pipeline import make_test_plan, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

SPELLING_SCHEMA = pa.schema(
    [
        pa.field("variant", pa.string(), nullable=False),
        pa.field("prompt", pa.int32(), nullable=False),
        pa.field("characters", pa.int32(), nullable=False),
        pa.field(
            "pieces",
            pa.list_(pa.struct([pa.field("text", pa.string(), nullable=False)])),
        ),
    ]
)


class SpellingPayload(Payload):
    stage: Literal["spelling"] = "spelling"
    first_item: int
    prompts: tuple[Prompt, ...]

    @property
    def items(self) -> int:
        return len(self.prompts)

    @property
    def timed_tokens(self) -> int:
        return sum(len(prompt.input_ids) for prompt in self.prompts)


def spell(held: HeldModel, payload: SpellingPayload) -> pa.Table:
    rows = [
        {
            "prompt": number,
            "characters": len(held.tokenizer.decode(prompt.input_ids)),
            "pieces": [{"text": held.tokenizer.decode([token])} for token in prompt.input_ids],
        }
        for number, prompt in enumerate(payload.prompts, payload.first_item)
    ]
    return make_table(rows, less(SPELLING_SCHEMA, "variant"))


def cut(source: Cut) -> list[SpellingPayload]:
    return [
        SpellingPayload(first_item=number, prompts=(prompt,))
        for number, prompt in enumerate(source.inputs.prompts)
    ]


@pytest.fixture
def spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(
        "spelling",
        1,
        SpellingPayload,
        SPELLING_SCHEMA,
        phase="answering",
        lists={"pieces": "spelled_pieces"},
    )
    monkeypatch.setitem(STAGES, "spelling", stage)
    monkeypatch.setitem(WORK, "spelling", spell)
    monkeypatch.setitem(PAYLOADS, "spelling", cut)


def test_it_goes_all_the_way_from_the_plan_to_the_published_files(
    spelling: None, tmp_path: Path
) -> None:
    plan = make_test_plan(
        **write_inputs(tmp_path, SAMPLE_ROWS, prompts=3),
        model=str(make_tiny_model(tmp_path / "model")),
        variants=("fp16", "nf4"),
        max_windows=2,
        max_new_tokens=2,
        results=tmp_path,
        run_id="r",
    )
    run_in_process(plan)
    published = publish(run_at(tmp_path / "r"))
    assert published.run.comparison.complete
    for variant in ("fp16", "nf4"):
        progress = published.run.comparison.progress[variant]["spelling"]
        assert (progress.finished, progress.planned) == (3, 3)
    tables = tmp_path / "r" / "tables"
    rows = pq.read_table(tables / "spelling.parquet").to_pylist()
    assert [(row["variant"], row["prompt"]) for row in rows] == [
        (variant, prompt) for variant in ("fp16", "nf4") for prompt in range(3)
    ]
    assert all(row["characters"] > 0 for row in rows)
    pieces = pq.read_table(tables / "spelled_pieces.parquet")
    assert pieces.column_names == ["variant", "prompt", "text"]
    counted = [len(prompt.input_ids) for prompt in plan.inputs.prompts]
    assert len(pieces) == 2 * sum(counted)
    trace = json.loads((tmp_path / "r" / "trace.json").read_text())["traceEvents"]
    shards = [each for each in trace if "spelling" in str(each.get("args", {}).get("shard"))]
    assert {each["cat"] for each in shards} >= {"answering"}
    # And it is kept like any other.
    assert run_in_process(plan).progress == published.run.comparison.progress
