"""Times of answers → figures, worked by hand; and the times of a real engine."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.transformers_engine import TransformersEngine
from orchestrator.comparison_schema import Latency
from orchestrator.contract.shards import ModelLocation, Prompt
from orchestrator.contract.stages import STAGES, GenerationsPayload
from orchestrator.figures.answers import Answers, generation_of
from orchestrator.figures.latency import NO_READS, Reads, latency_of
from orchestrator.figures.sample import Units
from tests.pipeline import assignment, make_test_plan, markdown_of, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model
from tests.token_tables import sample, token_table

# Seconds of each token, by prompt and repeat.
Times = list[list[list[float]]]


def generations(lengths: list[int]) -> pa.Table:
    """The table `generations` of prompts of so many tokens."""
    return pa.Table.from_pylist(
        [
            {
                "variant": "v",
                "prompt": number,
                "prompt_id": str(number),
                "category": "c",
                "prompt_tokens": length,
                "new_tokens": 1,
                "seconds": 1.0,
                "finish_reason": "length",
                "text": "words",
                "token_ids": [1],
                "success": True,
            }
            for number, length in enumerate(lengths)
        ],
        schema=STAGES["generations"].table_schema,
    )


def timings(answers: Times, decoding: str = "eager", same: bool = True) -> pa.Table:
    """The table `timings` of answers."""
    return pa.Table.from_pylist(
        [
            {
                "variant": "v",
                "prompt": number,
                "decoding": decoding,
                "repeat": repeat,
                "new_tokens": len(seconds),
                "seconds": sum(seconds),
                "time_to_first_token_seconds": next(iter(seconds), None),
                "token_seconds": seconds[1:],
                "same_tokens": same,
            }
            for number, repeats in enumerate(answers)
            for repeat, seconds in enumerate(repeats)
        ],
        schema=STAGES["generations"].rows_schema("timings"),
    )


def figures(
    answers: Times, base: Times | None = None, reads: Reads = NO_READS, lengths: Any = None
) -> Latency:
    """The figures of eager answers, held against others to the same prompts."""
    rows = generations(lengths or [5] * len(answers))
    others = None if base is None else timings(base)
    everything = np.ones(len(answers), dtype=np.bool_)
    return latency_of(rows, timings(answers), reads, others, everything, Units(0.95))["eager"]


def test_figures_worked_by_hand() -> None:
    found = figures([[[0.5, 0.1, 0.1]], [[0.7, 0.2]], [[0.6]]])
    assert found.answers == 3
    assert found.seconds.value == pytest.approx((0.7 + 0.9 + 0.6) / 3)
    assert found.time_to_first_token_seconds.value == pytest.approx(0.6)
    assert found.time_per_output_token_seconds.value == pytest.approx(0.4 / 3)
    assert found.tokens_per_second.value == pytest.approx(6 / 2.2)
    assert found.token_seconds_percentiles
    assert found.token_seconds_percentiles["50"] == pytest.approx(0.1)
    assert found.seconds.stderr_repeats is None


def test_a_change_is_against_the_same_prompts_of_the_reference() -> None:
    slow, fast = [[[0.4, 0.2]], [[0.6, 0.4]]], [[[0.2, 0.1]], [[0.3, 0.2]]]
    found = figures(fast, slow)
    for figure in (
        found.seconds,
        found.time_to_first_token_seconds,
        found.time_per_output_token_seconds,
    ):
        assert figure.delta_pct == pytest.approx(-50)
    assert found.tokens_per_second.delta_pct == pytest.approx(100)
    # One of the reference's prompts failed before its first token.
    assert figures(fast, [[[0.4, 0.2]], [[]]]).seconds.delta_pct is None


def test_answers_of_a_single_token_have_no_time_per_token() -> None:
    found = figures([[[0.5]], [[0.7]]], [[[0.5]], [[0.7]]])
    assert found.time_per_output_token_seconds.value is None
    assert found.token_seconds_percentiles is None
    assert found.memory_bandwidth_share.value is None
    assert found.time_to_first_token_seconds.value == pytest.approx(0.6)


def test_the_machine_s_uncertainty_is_that_of_repeats_alone() -> None:
    """However unlike prompts are; simulated, since a figure over prompts would not show it."""
    generator = np.random.default_rng(1)
    firsts, errors = [], []
    for _ in range(400):
        seconds = np.asarray([[1.0], [2.0], [9.0]]) + generator.normal(0, 0.1, (3, 4))
        found = figures([[[s, 0.5] for s in row] for row in seconds.tolist()]).seconds
        assert found.value is not None
        assert found.stderr_repeats is not None
        firsts.append(found.value)
        errors.append(found.stderr_repeats)
    # Of a mean over three prompts of means over four repeats.
    assert np.mean(errors) == pytest.approx(0.1 / math.sqrt(12), rel=0.1)
    assert np.std(firsts) == pytest.approx(np.mean(errors), rel=0.15)


@given(
    st.lists(
        st.lists(st.lists(st.floats(0.01, 9), min_size=3, max_size=3), min_size=2, max_size=2),
        min_size=2,
        max_size=5,
    )
)
def test_what_repeats_leave_is_of_one_piece(answers: Times) -> None:
    """Seconds and tokens per second are of the same sum: their relative errors are one."""
    found = figures(answers)
    seconds, speed = found.seconds, found.tokens_per_second
    assert seconds.stderr_repeats is not None
    assert speed.stderr_repeats is not None
    assert speed.stderr_repeats / (speed.value or 1) == pytest.approx(
        seconds.stderr_repeats / (seconds.value or 1)
    )


def test_the_share_of_the_memory_s_speed_worked_by_hand() -> None:
    reads = Reads(weights_bytes=1000, cache_bytes=10, copy_bytes_per_second=1e5)
    # The second token reads the cache of the prompt and the first, the third one more.
    found = figures([[[9.0, 0.02, 0.03]]], reads=reads, lengths=[7])
    read = 1000 + 10 * 8 + 1000 + 10 * 9
    assert found.read_bytes_per_token == pytest.approx(read / 2)
    assert found.memory_bandwidth_share.value == pytest.approx(read / 0.05 / 1e5)
    unknown = Reads(weights_bytes=None, cache_bytes=10, copy_bytes_per_second=1e5)
    assert figures([[[9.0, 0.02]]], reads=unknown).memory_bandwidth_share.value is None


def test_ways_of_decoding_are_told_apart() -> None:
    both = pa.concat_tables(
        [timings([[[1.0, 0.5]]]), timings([[[1.0, 0.1]]], decoding="graph", same=False)]
    )
    found = latency_of(generations([4]), both, NO_READS, None, np.asarray([True]), Units(0.95))
    assert list(found) == ["eager", "graph"]
    assert found["graph"].time_per_output_token_seconds.value == pytest.approx(0.1)
    assert (found["eager"].same_tokens, found["graph"].same_tokens) == (1, 0)


def test_unlike_ways_of_decoding_are_not_compared(tmp_path: Path) -> None:
    """With `--decoding graph` what no graph holds is answered eagerly all the same."""
    rows = generations([4, 4])
    forced = token_table(tmp_path, [{"token": [1]}, {"token": [1]}])
    times = [[[1.0, 0.5]], [[1.0, 0.6]]]
    graph = Answers(rows, timings(times, decoding="graph"), sample(forced))
    eager = Answers(rows, timings(times), sample(forced))
    assert generation_of(eager, eager).seconds.delta_pct == pytest.approx(0)
    assert generation_of(eager, eager).tokens_per_second.delta_pct == pytest.approx(0)
    found = generation_of(eager, graph)
    assert found.seconds.delta_pct is None
    assert found.tokens_per_second.delta_pct is None
    assert found.new_tokens.delta_pct == pytest.approx(0)
    assert found.latency["eager"].seconds.delta_pct is None


def test_the_times_of_an_answer_add_up_and_are_there_for_each_token(tmp_path: Path) -> None:
    location = ModelLocation(id_or_path=str(make_tiny_model(tmp_path)))
    engine = TransformersEngine(assignment(location, "fp16"))
    prompts = tuple(
        Prompt(id=str(n), category="c", input_ids=tuple(range(40, 50 + n))) for n in range(2)
    )
    payload = GenerationsPayload(first_item=0, prompts=prompts, max_new_tokens=6, repeats=3)
    table = engine.evaluate(payload)
    assert table.schema.equals(STAGES["generations"].schema)
    for row in table.to_pylist():
        assert [timing["repeat"] for timing in row["timings"]] == [0, 1, 2]
        for timing in row["timings"]:
            assert timing["decoding"] == "eager"
            assert timing["new_tokens"] == row["new_tokens"] == len(timing["token_seconds"]) + 1
            parts = [timing["time_to_first_token_seconds"], *timing["token_seconds"]]
            assert min(parts) > 0
            assert timing["seconds"] == pytest.approx(sum(parts), rel=1e-9)
            assert timing["same_tokens"]
        means = np.mean([timing["seconds"] for timing in row["timings"]])
        assert row["seconds"] == pytest.approx(means)


def test_a_run_with_repeats_shows_the_machine_s_uncertainty(tmp_path: Path) -> None:
    plan = make_test_plan(
        **write_inputs(tmp_path, SAMPLE_ROWS),
        model=str(make_tiny_model(tmp_path / "model")),
        variants=("fp16",),
        max_windows=1,
        max_new_tokens=4,
        repeats=2,
        results=tmp_path,
    )
    comparison = run_in_process(plan)
    assert comparison.provenance.repeats == 2
    assert comparison.provenance.decodings == ["eager"]
    generation = comparison.variants["fp16"].generation
    latency = generation.latency["eager"]
    assert latency.seconds.stderr_repeats is not None
    assert latency.seconds.value == pytest.approx(generation.seconds.value)
    assert latency.tokens_per_second.value == pytest.approx(generation.tokens_per_second.value)
    page = markdown_of(comparison)
    assert "Standard errors that the repeats leave" in page
    assert "each 2 times" in page
