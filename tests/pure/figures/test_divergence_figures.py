"""A variant's tokens → figures, against tables worked out by hand and plain numpy."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from orchestrator.comparison_schema import KLDivergence, NoiseFloor, Pair
from orchestrator.contract.stages import STAGES
from orchestrator.figures import estimates
from orchestrator.figures.buckets import by_confidence, by_position
from orchestrator.figures.divergence import divergence_of, noise_floor_of, same_top_effect
from orchestrator.figures.pairs import pairs_of
from orchestrator.storage.tokens import TokenTable
from tests.token_tables import Window, sample, token_table


def texts_of(tokens: TokenTable) -> pa.Table:
    """A text for every token."""
    windows = np.repeat(tokens.windows, tokens.counts)
    rows = [
        {
            "variant": tokens.variant,
            "window": window,
            "position": position,
            "context": "before",
            "token_text": f"{window}:{position}",
            "reference_top_token_text": "p",
            "top_token_text": "q",
        }
        for window, position in zip(windows.tolist(), tokens.positions.tolist(), strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=STAGES["windows"].rows_schema("worst_tokens"))


def pairs(tables: dict[str, TokenTable], confidence: float = 0.95) -> list[Pair]:
    return pairs_of({name: sample(table) for name, table in tables.items()}, confidence)


def kl_of(tokens: TokenTable, noise_floor: NoiseFloor | None = None) -> KLDivergence:
    kl = divergence_of(sample(tokens), texts_of(tokens), noise_floor)["kl"]
    assert kl is not None
    return kl


def test_two_windows_worked_by_hand(tmp_path: Path) -> None:
    tokens = token_table(
        tmp_path,
        [
            {"kl": [0.5, 0.25], "same_top_token": [False, True]},
            {"kl": [0.0, 1.0, 0.25, 0.0], "same_top_token": [True, False, True, True]},
        ],
    )
    kl = kl_of(tokens)
    assert kl.mean.value == pytest.approx(1 / 3)
    # Windows' sums less the mean's share: 0.75 - 2/3 = 1/12, and the same below; over 6 tokens.
    stderr = np.sqrt(2 / 1 * 2 * (1 / 12 / 6) ** 2)
    assert kl.mean.stderr == pytest.approx(stderr)
    half = 12.7062 * stderr
    # No mean KL is below 0.
    assert kl.mean.interval == pytest.approx((0.0, 1 / 3 + half), rel=1e-4)
    # Squares of 0.5, 0.25, 0, 1, 0.25, 0 about their mean of 1/3 sum to 17/24; over 5, over 6.
    assert kl.mean.stderr_tokens == pytest.approx(np.sqrt(17 / 24 / 5 / 6))
    assert kl.mean.n == 2
    assert (kl.maximum, kl.percentiles["50"], kl.percentiles["75"]) == (1.0, 0.25, 0.4375)
    same = divergence_of(sample(tokens), texts_of(tokens), None)["same_top_token"]
    assert same
    assert same.value == pytest.approx(4 / 6)
    assert [(token.token, token.kl) for token in kl.worst_tokens] == [
        ("1:2", 1.0),
        ("0:1", 0.5),
        ("0:2", 0.25),
        ("1:3", 0.25),
        ("1:1", 0.0),
        ("1:4", 0.0),
    ]


def test_stretches_are_units_whatever_the_order_of_their_windows(tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    values = np.float32(generator.gamma(0.3, 1, (7, 5)))
    hits = generator.uniform(0, 1, (7, 5)) < 0.7
    # As taken by one look after another; 40 is of the last stretch.
    numbers = [0, 20, 40, 5, 25, 9, 19]
    parts = [[0, 3, 5], [6, 1, 4], [2]]
    tokens = token_table(
        tmp_path,
        [{"kl": kl, "same_top_token": same} for kl, same in zip(values, hits, strict=True)],
        numbers=numbers,
    )
    found = divergence_of(sample(tokens, (0, 10, 30)), texts_of(tokens), None)
    sums = np.array([values[part].astype(float).sum() for part in parts])
    counts = np.array([5.0 * len(part) for part in parts])
    expected = estimates.ratio(sums, counts)
    kl, same = found["kl"], found["same_top_token"]
    assert kl and same
    assert (kl.mean.n, kl.mean.windows, same.n, same.windows) == (3, 7, 3, 7)
    assert kl.mean.stderr == pytest.approx(expected.stderr)
    top = np.array([float(hits[part].sum()) for part in parts])
    assert same.interval == pytest.approx(estimates.share(top, counts, 7).interval(0.95))
    # Three units are too few to be drawn from.
    assert kl.percentiles_interval is None


def test_a_share_of_all_takes_the_design_effect_of_another_candidate(tmp_path: Path) -> None:
    hits = [[True] * 40, [False] * 20 + [True] * 20, [True] * 40]
    some = sample(token_table(tmp_path, [{"same_top_token": each} for each in hits], variant="a"))
    effect = same_top_effect(some)
    assert effect and effect > 10
    windows = [{"kl": [1e-3] * 40, "same_top_token": [True] * 40}] * 3
    tokens = token_table(tmp_path, windows, variant="b")
    assert same_top_effect(sample(tokens)) is None
    found = divergence_of(sample(tokens), texts_of(tokens), None, effect)
    same, kl = found["same_top_token"], found["kl"]
    counts = np.full(3, 40.0)
    expected = estimates.share(counts, counts, 3, effect).interval(0.95)
    assert same and kl
    assert same.interval == pytest.approx(expected)
    assert kl.by_position[1].same_top_token.interval == pytest.approx(
        estimates.share(np.full(3, 25.0), np.full(3, 25.0), 3, effect).interval(0.95)
    )


def test_a_candidate_without_any_divergence_is_identical_and_its_intervals_are_exact(
    tmp_path: Path,
) -> None:
    tokens = token_table(tmp_path, [{"kl": [0.0, 0.0]}, {"kl": [0.0]}])
    found = divergence_of(sample(tokens, (0,)), texts_of(tokens), None)
    kl, same, change = found["kl"], found["same_top_token"], found["probability_change"]
    assert kl and same and change
    assert kl.identical
    assert kl.mean.interval == (0.0, 0.0)
    assert same.interval == (1.0, 1.0)
    assert kl.percentiles_interval
    assert set(kl.percentiles_interval.values()) == {(0.0, 0.0)}
    # A hair of a single token, and it is not.
    other = token_table(tmp_path, [{"kl": [0.0, -1e-8]}, {"kl": [0.0]}], variant="w")
    found = divergence_of(sample(other, (0, 1)), texts_of(other), None)
    kl, same = found["kl"], found["same_top_token"]
    assert kl and same and same.interval
    assert not kl.identical
    assert same.interval[0] < 1.0


def test_buckets_of_confidence_worked_by_hand(tmp_path: Path) -> None:
    tokens = token_table(
        tmp_path,
        [
            {
                "reference_top_probability": [0.1, 0.25, 1.0],
                "kl": [3.0, 0.5, 0.125],
                "same_top_token": [False, True, True],
            },
            {"reference_top_probability": [0.2], "kl": [1.0], "same_top_token": [False]},
        ],
    )
    found = by_confidence(sample(tokens))
    assert [(b.lower, b.upper, b.share, b.kl.value, b.same_top_token.value) for b in found] == [
        (0.0, 0.25, 0.5, 2.0, 0.0),
        (0.25, 0.5, 0.25, 0.5, 1.0),
        (0.5, 0.75, 0.0, None, None),
        (0.75, 0.9, 0.0, None, None),
        (0.9, 0.99, 0.0, None, None),
        (0.99, 1.0, 0.25, 0.125, 1.0),
    ]
    # Only windows that have such tokens are units.
    assert [bucket.kl.n for bucket in found] == [2, 1, 0, 0, 0, 1]
    assert found[0].kl.stderr == pytest.approx(1.0)
    assert found[1].kl.stderr is None


def test_buckets_of_position_count_the_tokens_before(tmp_path: Path) -> None:
    windows: list[Window] = [{"kl": np.arange(100.0)}]
    found = by_position(sample(token_table(tmp_path, windows, first_position=10)))
    assert [(b.lower, b.upper, b.share, b.kl.value) for b in found] == [
        (0, 16, 0.06, 2.5),
        (16, 64, 0.48, 29.5),
        (64, 256, 0.46, 76.5),
    ]


def test_the_distribution_says_what_share_is_above(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    values = np.float32(10.0 ** generator.uniform(-5, 0.5, 400))
    found = kl_of(token_table(tmp_path, [{"kl": values[:150]}, {"kl": values[150:]}])).distribution
    for point in found:
        assert point.share == np.mean(values > point.kl)
    shares = [point.share for point in found]
    assert shares == sorted(shares, reverse=True)
    assert shares[:2].count(1) == 1
    assert shares[-2:].count(0) == 1
    steps = 8 * np.log10([point.kl for point in found])
    assert np.diff(steps) == pytest.approx(1)
    assert steps == pytest.approx(np.round(steps))


def test_the_distribution_of_no_divergence_at_all_is_one_point(tmp_path: Path) -> None:
    point = kl_of(token_table(tmp_path, [{"kl": [0.0, -1e-9]}])).distribution
    assert [(p.kl, p.share) for p in point] == [(pytest.approx(1e-8), 0)]


@st.composite
def made_windows(draw: st.DrawFn) -> list[Window]:
    """Windows of tokens with a KL, and all that goes with it."""
    counts = draw(st.lists(st.integers(1, 40), min_size=2, max_size=6))
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    return [
        {
            "kl": np.float32(generator.gamma(0.3, 1, count)),
            "probability_change": np.float32(generator.normal(0, 0.2, count)),
            "reference_top_probability": np.float32(generator.uniform(0, 1, count)),
            "same_top_token": generator.uniform(0, 1, count) < 0.7,
            "negative_log_likelihood": np.float32(generator.gamma(2, 1, count)),
        }
        for count in counts
    ]


@settings(max_examples=25, deadline=None)
@given(made_windows(), st.randoms())
def test_the_order_of_windows_never_matters(windows: list[Window], chance: Any) -> None:
    numbers = list(range(len(windows)))
    shuffled = [*numbers]
    chance.shuffle(shuffled)
    found = []
    with TemporaryDirectory() as folder:
        for order in (numbers, shuffled):
            tokens = token_table(Path(folder), [windows[number] for number in order], numbers=order)
            divergence = divergence_of(sample(tokens), texts_of(tokens), None)
            assert divergence["kl"]
            # An interval of percentiles draws windows by their place.
            kl = divergence["kl"].model_dump(exclude={"percentiles_interval"})
            assert divergence["perplexity_ratio"]
            found.append((kl, divergence["perplexity_ratio"].model_dump()))
    assert flat(found[0]) == pytest.approx(flat(found[1]), rel=1e-9, abs=1e-12)


def flat(value: Any) -> list[float]:
    """The numbers in a nested value, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [number for part in value for number in flat(part)]
    return [float(value)] if isinstance(value, int | float) else []


@settings(max_examples=25, deadline=None)
@given(made_windows())
def test_buckets_hold_every_token_once(windows: list[Window]) -> None:
    with TemporaryDirectory() as folder:
        tokens = token_table(Path(folder), windows, first_position=12)
        mean = float(tokens.column("kl").mean())
        for buckets in (by_confidence(sample(tokens)), by_position(sample(tokens))):
            assert sum(bucket.share for bucket in buckets) == pytest.approx(1)
            weighted = sum(bucket.share * (bucket.kl.value or 0) for bucket in buckets)
            assert weighted == pytest.approx(mean)


@settings(max_examples=25, deadline=None)
@given(made_windows())
def test_percentiles_and_token_errors_are_those_of_all_tokens(windows: list[Window]) -> None:
    with TemporaryDirectory() as folder:
        tokens = token_table(Path(folder), windows)
        figures = divergence_of(sample(tokens), texts_of(tokens), None)
        for name, found in (
            ("kl", figures["kl"]),
            ("probability_change", figures["probability_change"]),
        ):
            assert found
            values = np.concatenate([np.float64(window[name]) for window in windows])
            for percent, value in found.percentiles.items():
                assert value == np.percentile(values, float(percent))
            if len(values) > 1:
                assert found.mean.stderr_tokens == pytest.approx(stats.sem(values), abs=1e-12)
        change = figures["probability_change"]
        assert change
        assert change.rms.value == pytest.approx(np.sqrt(np.mean(values**2)))


def test_the_error_of_the_rms_agrees_with_a_bootstrap_over_tokens(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    values = np.float32(generator.normal(0, 0.1, 800))
    tokens = token_table(
        tmp_path, [{"probability_change": part} for part in values.reshape(20, 40)]
    )
    change = divergence_of(sample(tokens), texts_of(tokens), None)["probability_change"]
    assert change
    draws = values[generator.integers(0, 800, (3000, 800))]
    expected = np.sqrt((draws**2).mean(1)).std()
    assert change.rms.stderr_tokens == pytest.approx(expected, rel=0.1)


def test_the_error_of_the_perplexity_ratio_agrees_with_a_bootstrap_over_tokens(
    tmp_path: Path,
) -> None:
    generator = np.random.default_rng(2)
    own = np.float32(1 + generator.normal(0.02, 0.1, 800))
    tokens = token_table(tmp_path, [{"negative_log_likelihood": w} for w in own.reshape(20, 40)])
    ratio = divergence_of(sample(tokens), texts_of(tokens), None)["perplexity_ratio"]
    assert ratio
    draws = own[generator.integers(0, 800, (3000, 800))] - 1
    assert ratio.value == pytest.approx(np.exp((own - 1).mean()))
    assert ratio.stderr_tokens == pytest.approx(np.exp(draws.mean(1)).std(), rel=0.1)


def noise(tmp_path: Path, values: list[float]) -> NoiseFloor | None:
    tokens = token_table(
        tmp_path, [{"kl": values[:2]}, {"kl": values[2:]}], variant="fp16", shard_size=9
    )
    row = {
        "variant": "fp16",
        "first_position": 1,
        "scored_tokens": 2,
        "negative_log_likelihood": 2.0,
        "logits_from": "head",
        "seconds": 1.0,
        "other_order": "its attention by another kernel, eager in place of sdpa",
    }
    rows = [{**row, "window": number} for number in range(2)]
    return noise_floor_of(
        sample(tokens), pa.Table.from_pylist(rows, schema=STAGES["noise"].table_schema)
    )


@pytest.mark.parametrize(
    ("floor", "kl", "expected"),
    [
        (1e-3, 1.9e-3, True),
        (1e-3, 2.1e-3, False),
        # What float32 does not resolve is no difference, whatever the floor.
        (-1e-10, 9e-7, True),
        (0.0, 1.1e-6, False),
    ],
)
def test_a_candidate_near_the_noise_floor_is_called_indistinguishable(
    floor: float, kl: float, expected: bool, tmp_path: Path
) -> None:
    found = noise(tmp_path, [floor] * 4)
    assert found
    assert found.kl.value == pytest.approx(floor)
    assert found.how == (
        "fp16 against itself with its attention by another kernel, eager in place of sdpa: "
        "2 windows, up to 2 tokens of each"
    )
    tokens = token_table(tmp_path, [{"kl": [kl, kl]}, {"kl": [kl]}])
    assert kl_of(tokens, found).indistinguishable is expected
    assert kl_of(tokens, None).indistinguishable is None


def test_a_noise_floor_that_is_not_a_number_is_none(tmp_path: Path) -> None:
    assert noise(tmp_path, [1e-3, 1e-3, float("nan"), 1e-3]) is None
    empty = STAGES["noise"].table_schema.empty_table()
    assert noise_floor_of(sample(TokenTable("fp16", ())), empty) is None


def candidates(tmp_path: Path, **shifts: float) -> dict[str, TokenTable]:
    """Variants whose KLs share a window's part and differ by a shift; windows of one length."""
    generator = np.random.default_rng(5)
    common = generator.gamma(2, 0.1, (12, 1)) + generator.gamma(1, 0.05, (12, 30))
    found = {}
    for name, shift in shifts.items():
        values = np.float32(common + shift + generator.normal(0, 0.01, common.shape))
        nll = np.float32(values * 2 + 1)
        windows = [
            {"kl": kl, "negative_log_likelihood": own} for kl, own in zip(values, nll, strict=True)
        ]
        found[name] = token_table(tmp_path, windows, variant=name)
    return found


def test_pairs_are_paired_over_windows(tmp_path: Path) -> None:
    tables = candidates(tmp_path, a=0.0, b=0.02, c=0.0)
    found = pairs(tables)
    assert [(pair.a, pair.b, pair.significant) for pair in found] == [
        ("a", "b", True),
        ("a", "c", False),
        ("b", "c", True),
    ]
    means = {name: table.sums(table.column("kl")) / 30 for name, table in tables.items()}
    for pair in found:
        test = stats.ttest_rel(means[pair.a], means[pair.b])
        difference = means[pair.a] - means[pair.b]
        assert pair.kl_difference.value == pytest.approx(difference.mean())
        assert pair.kl_difference.stderr == pytest.approx(stats.sem(difference))
        assert pair.kl_difference.interval == pytest.approx(tuple(test.confidence_interval()))
        assert pair.p_value == pytest.approx(test.pvalue)
        twice = pytest.approx(2 * difference.mean(), rel=1e-3)
        assert pair.log_perplexity_difference.value == twice


def test_a_pair_the_other_way_round_has_the_opposite_difference(tmp_path: Path) -> None:
    tables = candidates(tmp_path, a=0.0, b=0.02)
    there, back = pairs(tables)[0], pairs({"b": tables["b"], "a": tables["a"]})[0]
    assert there.kl_difference.value == pytest.approx(-(back.kl_difference.value or 0))
    assert there.p_value == pytest.approx(back.p_value)


def test_a_run_of_surer_intervals_claims_a_pair_later(tmp_path: Path) -> None:
    tables = candidates(tmp_path, a=0.0, b=0.0025)
    (pair,) = pairs(tables)
    assert 0.01 < (pair.p_value_holm or 1) < 0.05
    assert pair.significant
    (surer,) = pairs(tables, 0.99)
    assert surer.p_value_holm == pair.p_value_holm
    assert not surer.significant


def test_many_pairs_make_each_claim_harder(tmp_path: Path) -> None:
    tables = candidates(tmp_path, a=0.0, b=0.0012, c=0.0, d=0.0)
    alone = pairs({name: tables[name] for name in "ab"})[0]
    among = next(pair for pair in pairs(tables) if (pair.a, pair.b) == ("a", "b"))
    assert among.p_value == alone.p_value == alone.p_value_holm
    assert (among.p_value_holm or 0) > (among.p_value or 1)


def test_candidates_of_other_windows_are_no_pair(tmp_path: Path) -> None:
    tables = candidates(tmp_path, a=0.0)
    tables["b"] = token_table(tmp_path, [{"kl": [1.0]}], variant="b")
    assert pairs(tables) == []


def test_a_single_window_claims_nothing(tmp_path: Path) -> None:
    tables = {
        name: token_table(tmp_path, [{"kl": [value, value]}], variant=name)
        for name, value in (("a", 0.1), ("b", 0.9))
    }
    (pair,) = pairs(tables)
    assert pair.kl_difference.value == pytest.approx(-0.8)
    assert (pair.p_value, pair.p_value_holm, pair.significant) == (None, None, False)
