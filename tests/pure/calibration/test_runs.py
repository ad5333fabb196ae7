"""Runs that texts have in common, held against a plain search; and what rows have in common."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.calibration.measure import divergence_bits
from orchestrator.calibration.runs import Held, hashes_of
from orchestrator.calibration.texts import Duplicates, HeldPrompts, Sample, near_duplicates

# Of few numbers, so that runs meet.
TEXTS = st.lists(st.lists(st.integers(0, 3), max_size=40), min_size=1, max_size=5)


def runs_of(text: list[int], length: int) -> set[tuple[int, ...]]:
    return {tuple(text[n : n + length]) for n in range(len(text) - length + 1)}


@given(TEXTS, TEXTS, st.integers(1, 8))
def test_a_text_is_held_where_a_run_of_it_occurs(
    texts: list[list[int]], others: list[list[int]], length: int
) -> None:
    held = Held([np.array(text, np.int64) for text in texts], length)
    for other in others:
        held.look_in(np.array(other, np.int64))
    there = set().union(*(runs_of(other, length) for other in others))
    assert held.numbers == [n for n, text in enumerate(texts) if runs_of(text, length) & there]


def test_runs_of_small_numbers_have_hashes_of_their_own() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 50, 200_000)
    found = len(np.unique(hashes_of(numbers, 5)))
    assert found == len(np.unique(np.lib.stride_tricks.sliding_window_view(numbers, 5), axis=0))


@given(st.lists(st.integers(0, 50), min_size=2, max_size=20), st.integers(1, 9))
def test_the_divergence_is_none_of_like_frequencies_and_one_of_unlike(
    counts: list[int], times: int
) -> None:
    one = np.array([*counts, 1], np.int64)
    assert divergence_bits(one, one * times) == pytest.approx(0, abs=1e-12)
    apart = np.concatenate([one, np.zeros_like(one)])
    assert divergence_bits(apart, apart[::-1]) == pytest.approx(1)
    assert 0 <= divergence_bits(one, one[::-1]) <= 1


def test_the_divergence_is_scipys() -> None:
    from scipy.spatial.distance import jensenshannon

    one, other = np.array([5, 3, 0, 2]), np.array([1, 1, 7, 1])
    expected = jensenshannon(one / one.sum(), other / other.sum(), base=2) ** 2
    assert divergence_bits(one, other) == pytest.approx(float(expected))


def test_rows_are_duplicates_whatever_their_case_and_spaces() -> None:
    duplicates = Duplicates()
    for row in ("A b  c", "a B c\n", "a b d", "A B C"):
        duplicates.add(row)
    assert duplicates.count == 2


def test_rows_of_nearly_the_same_words_are_near_duplicates() -> None:
    pytest.importorskip("datasketch")
    rng = random.Random(0)
    words = [f"w{n}" for n in range(2000)]
    rows = [" ".join(rng.choices(words, k=200)) for _ in range(30)]
    near = rows[3].replace(rows[3].split()[100], "other", 1)
    assert near_duplicates(rows) == 0
    assert near_duplicates([*rows, near, rows[5] + " more"]) == 2


def test_prompts_are_held_by_their_words() -> None:
    prompts = [
        "Say it in one word",
        "one",
        " ".join(f"word{n}" for n in range(40)),
        "What is the capital of France?",
    ]
    held = HeldPrompts(prompts)
    held.look_in("… one, word12 " + " ".join(f"WORD{n}," for n in range(5, 18)))
    held.look_in("what is the CAPITAL of france")
    held.look_in("say it in one")
    assert held.numbers == [2, 3]


def test_a_sample_is_as_large_as_it_may_be_and_the_same_each_time() -> None:
    samples = []
    for _ in range(2):
        sample = Sample(10)
        for n in range(1000):
            sample.add(str(n))
        samples.append(sample.rows)
    assert samples[0] == samples[1]
    assert len(set(samples[0])) == 10
    assert max(map(int, samples[0])) > 500
