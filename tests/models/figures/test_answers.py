"""What is said of answers, against tables worked by hand and both models' logits in one process."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from actors.transformers_engine import TransformersEngine
from orchestrator.comparison_schema import Comparison, Generation, Measure
from orchestrator.contract.shards import ModelLocation, Prompt, Window
from orchestrator.contract.stages import STAGES, TeacherForcedPayload
from orchestrator.figures.answers import Answers, generation_of
from orchestrator.figures.degenerate import degenerate_kind
from orchestrator.planning.plan import Plan
from orchestrator.report.tables import formats
from orchestrator.report.terminal import print_comparison
from orchestrator.storage.reduce import join_shards
from orchestrator.storage.results_folder import run_at
from tests import oracle
from tests.pipeline import (
    assignment,
    make_test_plan,
    markdown_of,
    read_comparison,
    run_in_process,
    write_inputs,
)
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model
from tests.token_tables import sample, token_table

CANDIDATES = ("int8", "nf4")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path, Comparison]:
    folder = tmp_path_factory.mktemp("run")
    plan = make_test_plan(
        **write_inputs(folder / "inputs", SAMPLE_ROWS, prompts=5),
        model=str(make_tiny_model(folder / "model")),
        variants=("fp16", *CANDIDATES),
        max_windows=2,
        max_new_tokens=12,
        shard_size=2,
        results=folder,
        run_id="r",
    )
    return plan, folder / "r", run_in_process(plan)


def reference_answers(folder: Path) -> list[list[int]]:
    rows = pq.read_table(folder / "tables" / "generations.parquet").to_pylist()
    return [row["token_ids"] for row in rows if row["variant"] == "fp16"]


def windows_of(plan: Plan, answers: list[list[int]]) -> list[Window]:
    """Each prompt with the answer behind it, but for the last token, which predicts nothing."""
    return [
        Window(
            input_ids=(*prompt.input_ids, *answer[:-1]),
            target_ids=tuple(answer),
            start=len(prompt.input_ids) - 1,
        )
        for prompt, answer in zip(plan.inputs.prompts, answers, strict=True)
    ]


@pytest.mark.parametrize("variant", CANDIDATES)
def test_the_divergence_along_the_reference_s_answers_is_that_of_the_full_logits(
    variant: str, run: tuple[Plan, Path, Comparison]
) -> None:
    plan, folder, comparison = run
    answers = reference_answers(folder)
    windows = windows_of(plan, answers)
    model = Path(plan.settings.model)
    logits = (oracle.scored_logits(model, name, windows) for name in ("fp16", variant))
    expected = [
        oracle.token_measures(p, q, answer) for p, q, answer in zip(*logits, answers, strict=True)
    ]
    table = pq.read_table(
        folder / "tables" / "teacher_forced_tokens.parquet", filters=[("variant", "=", variant)]
    )
    assert table["token"].to_pylist() == [token for answer in answers for token in answer]
    for name in ("kl", "reverse_kl", "same_top_token"):
        values = np.concatenate([part[name] for part in expected])
        np.testing.assert_allclose(table[name].to_numpy(), values, atol=1e-5, err_msg=name)
    generation = comparison.variants[variant].generation
    assert generation.kl_along_reference.value == pytest.approx(
        np.concatenate([part["kl"] for part in expected]).mean(), abs=1e-6
    )
    assert generation.kl_along_reference.n == 5
    for category, numbers in (("A", (0, 2, 4)), ("B", (1, 3))):
        figures = generation.by_category[category]
        kl = np.concatenate([expected[number]["kl"] for number in numbers])
        assert figures.kl_along_reference.value == pytest.approx(kl.mean(), abs=1e-6)
        same = np.concatenate([expected[number]["same_top_token"] for number in numbers])
        assert figures.same_top_token_along_reference.value == pytest.approx(same.mean())


def test_the_reference_is_held_against_nothing_along_its_answers(
    run: tuple[Plan, Path, Comparison],
) -> None:
    generation = run[2].variants["fp16"].generation
    assert generation.kl_along_reference.value is None
    assert generation.identical_answers.value is None
    assert generation.first_difference.value is None
    assert generation.categories_beyond == []


def test_the_report_names_the_categories_beyond_the_threshold(
    run: tuple[Plan, Path, Comparison],
) -> None:
    comparison = run[2]
    for variant in CANDIDATES:
        generation = comparison.variants[variant].generation
        beyond = [
            name
            for name, figures in generation.by_category.items()
            if (figures.kl_along_reference.interval or (0, 0))[0] > generation.kl_threshold
        ]
        assert generation.categories_beyond == beyond
    raised = generation.model_copy(update={"categories_beyond": ["B"]})
    figures = comparison.variants["nf4"].model_copy(update={"generation": raised})
    changed = comparison.model_copy(update={"variants": {**comparison.variants, "nf4": figures}})
    page = markdown_of(changed)
    assert "nf4: its mean KL along fp16's answers is above 0.1 nats in B (0." in page
    few = generation.by_category["A"].prompts
    assert few < 5
    assert f"int8: too few prompts a category to tell (at most {few})." in page
    console = Console(file=io.StringIO(), width=200)
    print_comparison(changed, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "nf4: its mean KL along fp16's answers is above 0.1 nats in B" in printed
    assert "int8: its mean KL" not in printed


@pytest.mark.parametrize(
    ("value", "interval", "expected"),
    [
        (0.417, (0.245, 0.612), "42% [24, 61]"),
        (0.5, None, "50%"),
        (None, None, "–"),
    ],
)
def test_a_share_of_few_is_shown_with_the_interval_that_it_can_have(
    value: float | None, interval: tuple[float, float] | None, expected: str
) -> None:
    figure = Measure(value=value, stderr=None, interval=interval, n=2)
    assert formats.proportion(figure) == expected


def test_other_answers_than_the_reference_s_give_no_divergence(
    run: tuple[Plan, Path, Comparison], tmp_path: Path
) -> None:
    """Such as were scored before the reference had to answer again on another machine."""
    _, folder, _ = run
    answers = read_rows(folder, "fp16")
    other = [[*ids[:-1], ids[-1] ^ 1] for ids in answers.token_ids]
    changed = replace(answers, rows=answers.rows.set_column(*ids_column(answers.rows, other)))
    own = read_rows(folder, "nf4")
    assert generation_of(own, answers).kl_along_reference.value is not None
    assert generation_of(own, changed).kl_along_reference.value is None


def read_rows(folder: Path, variant: str) -> Answers:
    """A variant's answers in a run's folder, as the comparison reads them."""
    tables = join_shards(run_at(folder), run_at(folder).read_manifest())
    rows = tables.stages["generations"]
    chosen = pc.field("variant") == variant
    return Answers(
        rows.filter(chosen),
        tables.records["timings"].filter(chosen),
        sample(tables.tokens["teacher_forced"][variant]),
    )


def ids_column(rows: pa.Table, ids: list[list[int]]) -> tuple[int, pa.Field, pa.Array]:
    place = rows.schema.get_field_index("token_ids")
    field = rows.schema.field(place)
    return place, field, pa.array(ids, field.type)


@pytest.mark.parametrize("variant", ["fp16", "int8", "nf4"])
def test_an_answer_without_a_token_is_scored_as_nothing(variant: str, tmp_path: Path) -> None:
    location = ModelLocation(id_or_path=str(make_tiny_model(tmp_path)))
    reference = TransformersEngine(assignment(location, "fp16"))
    candidate = TransformersEngine(assignment(location, variant))
    prompts = tuple(
        Prompt(id=str(n), category="c", input_ids=tuple(range(40 + n, 50))) for n in range(3)
    )
    payload = TeacherForcedPayload(first_item=4, prompts=prompts, max_new_tokens=5)
    assert payload.scored_positions == 15
    for answers in ([[], [60, 61, 62], [63]], [[70], [], []], [[], [], []]):
        whole = payload.with_answers(answers)
        assert whole.scored_positions == sum(map(len, answers))
        table, states = reference.evaluate_and_keep(whole)
        assert table.schema.equals(STAGES["teacher_forced"].schema)
        compared = candidate.compare(whole, states, reference.describe())
        assert compared.schema.equals(STAGES["teacher_forced"].schema)
        assert compared["window"].to_pylist() == [4, 5, 6]
        tokens = compared["tokens"].to_pylist()
        assert [[token["token"] for token in part] for part in tokens] == answers
        assert all(math.isfinite(token["kl"]) for part in tokens for token in part)


def rows_of(answers: list[list[int]], categories: str, texts: list[str] | None = None) -> pa.Table:
    """A table `generations` of answers."""
    return pa.Table.from_pylist(
        [
            {
                "variant": "v",
                "prompt": number,
                "prompt_id": str(number),
                "category": categories[number],
                "prompt_tokens": 5,
                "new_tokens": len(ids),
                "seconds": 1.0,
                "finish_reason": "length",
                "text": texts[number] if texts else "words",
                "token_ids": ids,
                "success": True,
            }
            for number, ids in enumerate(answers)
        ],
        schema=STAGES["generations"].table_schema,
    )


def generation(
    folder: Path, own: list[list[int]], reference: list[list[int]], categories: str, **options: Any
) -> Generation:
    """The figures of answers, the reference's scored with a KL that is the token's own number."""
    windows: list[Any] = [
        {"token": ids, "kl": [float(token) for token in ids]} for ids in reference
    ]
    forced = sample(token_table(folder, windows))
    timings = STAGES["generations"].rows_schema("timings").empty_table()
    base_forced = sample(token_table(folder, windows, variant="fp16"))
    base = Answers(rows_of(reference, categories), timings, base_forced)
    return generation_of(Answers(rows_of(own, categories, **options), timings, forced), base)


def test_agreement_worked_by_hand(tmp_path: Path) -> None:
    found = generation(
        tmp_path,
        own=[[1, 2, 3], [1, 2, 4], [5], [7, 8, 9, 9]],
        reference=[[1, 2, 3], [1, 2, 3], [6, 6], [7, 8, 9]],
        categories="AABB",
    )
    assert found.identical_answers.value == 0.25
    assert found.identical_answers.n == 4
    # The second parts behind two tokens, the third at once, the fourth goes on behind three.
    assert found.first_difference.value == pytest.approx(5 / 3)
    assert found.first_difference.n == 3
    assert found.by_category["A"].identical_answers.value == 0.5
    assert found.by_category["A"].first_difference.value == 2
    assert found.by_category["B"].first_difference.value == 1.5
    # All tokens of the reference's answers weigh the same, whatever answer they are in.
    assert found.kl_along_reference.value == pytest.approx((6 + 6 + 12 + 24) / 11)
    assert found.kl_along_reference.n == 4
    assert found.by_category["B"].kl_along_reference.value == pytest.approx((12 + 24) / 5)
    # Of A's two answers the KL is 2 of every token; of B's it is 6 and 8, which may be any.
    assert found.by_category["A"].kl_along_reference.interval == pytest.approx((2, 2))
    assert found.by_category["B"].kl_along_reference.interval[0] == 0
    assert found.categories_beyond == ["A"]


def test_answers_that_are_all_the_same_have_no_first_difference(tmp_path: Path) -> None:
    answers = [[1, 2], [3]]
    found = generation(tmp_path, answers, answers, "AB")
    assert found.identical_answers.value == 1
    low, high = found.identical_answers.interval or (0, 0)
    # Of two answers hardly anything is known.
    assert 0.01 < low < 0.02
    assert high == 1
    assert found.first_difference.model_dump() == {
        "value": None,
        "stderr": None,
        "interval": None,
        "n": 0,
    }


def test_degenerate_answers_are_counted_by_kind(tmp_path: Path) -> None:
    found = generation(
        tmp_path,
        own=[[1], [2] * 30, [3], [4]],
        reference=[[1], [2], [3], [4]],
        categories="AAAB",
        texts=["  \n", "no no", "half a �", "fine"],
    )
    assert found.degenerate == 3
    assert found.degenerate_by_kind == {"broken_text": 1, "empty": 1, "loop": 1}
    assert found.by_category["B"].degenerate == 0


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (list(range(100)), None),
        ([7] * 19, None),
        ([7] * 20, "loop"),
        ([1, 2, 3, 4, 5, 6, 7] * 3, None),
        ([1, 2, 3, 4, 5, 6, 7] * 4, "loop"),
        # A table's line, and words that come again, are meant.
        ([*range(50), *[90, 91] * 5, *range(50, 60)], None),
        ([*range(40), *[90, 91, 92] * 9, *range(40, 60)], "loop"),
        ([*range(30), *list(range(100, 133)) * 4], None),
    ],
)
def test_a_loop_is_the_same_tokens_four_times_in_a_row(ids: list[int], expected: str) -> None:
    assert degenerate_kind(ids, "text") == expected


@given(
    stretch=st.lists(st.integers(0, 9), min_size=1, max_size=32),
    before=st.lists(st.integers(10, 99), max_size=40, unique=True),
    after=st.lists(st.integers(10, 99), max_size=40, unique=True),
)
def test_a_loop_is_found_wherever_it_is(
    stretch: list[int], before: list[int], after: list[int]
) -> None:
    copies = max(4, math.ceil(20 / len(stretch)))
    assert degenerate_kind([*before, *stretch * copies, *after], "text") == "loop"


@given(st.lists(st.integers(0, 999), max_size=120, unique=True))
def test_what_never_repeats_is_no_loop(ids: list[int]) -> None:
    assert degenerate_kind(ids, "text") is None


def test_a_damaged_shard_of_answers_is_made_again_and_the_figures_stay(tmp_path: Path) -> None:
    plan = make_test_plan(
        **write_inputs(tmp_path / "inputs", SAMPLE_ROWS),
        model=str(make_tiny_model(tmp_path / "model")),
        variants=("fp16", "nf4"),
        max_windows=0,
        max_new_tokens=6,
        results=tmp_path,
        run_id="r",
    )
    before = run_in_process(plan)
    for shard in plan.shards:
        if shard.record.stage in ("generations", "teacher_forced"):
            run_at(tmp_path / "r").shard_path(shard.record).unlink()
    assert not read_comparison(tmp_path / "r").complete
    after = run_in_process(plan)
    for variant in ("fp16", "nf4"):
        one, other = (found.variants[variant].generation for found in (before, after))
        assert one.kl_along_reference == other.kl_along_reference
        assert one.identical_answers == other.identical_answers
    assert json.loads(after.model_dump_json())["complete"]
