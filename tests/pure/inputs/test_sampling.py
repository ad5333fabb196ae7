"""Which windows are taken, and which of them make one unit."""

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.sampling import spread, stretches_of


@given(st.integers(0, 300), st.integers(0, 300))
def test_what_is_spread_lies_evenly(n: int, count: int) -> None:
    count = min(n, count)
    places = spread(n, count)
    assert len(set(places)) == count
    assert list(places) == sorted(places)
    assert all(0 <= place < n for place in places)
    gaps = {after - before for before, after in pairwise(places)}
    assert len(gaps) <= 2 and (not gaps or max(gaps) - min(gaps) <= 1)


@given(st.integers(1, 300), st.integers(1, 150))
def test_twice_as_many_hold_those_that_were_taken_before(n: int, count: int) -> None:
    if 2 * count <= n:
        assert set(spread(n, count)) <= set(spread(n, 2 * count))


def test_all_are_all() -> None:
    assert spread(7, 7) == tuple(range(7))


@pytest.mark.parametrize(
    ("windows", "length", "expected"),
    [
        (1, 2048, 1),
        (2, 2048, 2),
        # 12 neighbours are a text of 24,576 tokens.
        (12, 2048, 3),
        (24, 2048, 3),
        (40, 2048, 5),
        (149, 2048, 12),
        (596, 512, 12),
    ],
)
def test_there_is_a_stretch_for_16384_tokens_but_3_to_12_and_no_more_than_windows(
    windows: int, length: int, expected: int
) -> None:
    found = stretches_of(range(windows), [length] * windows)
    assert len(found) == expected
    sizes = [b - a for a, b in pairwise([*found, windows])]
    assert max(sizes) - min(sizes) <= 1


def test_the_span_of_windows_that_are_spread_is_that_of_the_text_between_them() -> None:
    tokens = [2048] * 149
    assert len(stretches_of(spread(149, 12), tokens)) == 12
    assert len(stretches_of(range(12), tokens)) == 3


def test_no_window_is_in_no_stretch() -> None:
    assert stretches_of((), [2048] * 4) == ()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.data())
def test_a_stretch_splits_no_article_where_there_are_three(
    articles: list[int], data: st.DataObject
) -> None:
    n = sum(articles)
    begins = [0, *accumulate(articles)][:-1]
    taken = sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1)))
    found = stretches_of(taken, [4096] * n, begins)
    assert found[0] == taken[0]
    assert list(found) == sorted(set(found))
    assert set(found) <= set(taken)
    article_of = [article for article, size in enumerate(articles) for _ in range(size)]
    held = {article_of[number] for number in taken}
    if len(held) >= 3:
        firsts = {min(n for n in taken if article_of[n] == article) for article in held}
        assert set(found) <= firsts
        assert len(found) >= 3


def test_of_fewer_than_three_articles_a_stretch_may_be_a_part() -> None:
    assert stretches_of(range(90), [2048] * 90, [0, 40]) == spread(90, 11)
