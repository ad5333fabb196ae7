"""The divergence as people read it: text, sentences and the picture."""

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.comparison_schema import Comparison, Pair, StampedComparison, TokenMeasure
from orchestrator.report import sentences
from orchestrator.report.pictures.quality_plots import draw_distributions
from orchestrator.report.tables import formats
from orchestrator.report.write import write_report
from orchestrator.runs.finished import read_run
from orchestrator.storage.results_folder import run_at
from tests.pipeline import judgement_of, make_test_plan, markdown_of, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("run")
    return run_in_process(
        make_test_plan(
            **write_inputs(folder / "inputs", SAMPLE_ROWS),
            model=str(make_tiny_model(folder / "model")),
            variants=("fp16", "bf16", "nf4"),
            max_windows=6,
            max_prompts=0,
            results=folder,
            run_id="r",
        )
    )


def token_measure(value: float | None, half: float | None = None) -> TokenMeasure:
    interval = None if half is None or value is None else (value - half, value + half)
    return TokenMeasure(
        value=value, stderr=half, interval=interval, n=5, windows=5, stderr_tokens=half
    )


@pytest.mark.parametrize(
    ("value", "half", "expected"),
    [
        (0.03112, 0.0021, "0.031 ± 0.002"),
        (-0.03112, 0.0021, "-0.031 ± 0.002"),
        (-3e-10, 2e-10, "<0.0000001"),
        (0.0, 0.0, "0"),
        (0.25, None, "0.2"),
        # Of few things little is known; what was measured still shows.
        (0.42, 1.53, "0.4 [-1.1, 1.9]"),
        (0.0042, 1.53, "0.0 [-1.5, 1.5]"),
        (None, None, "–"),
    ],
)
def test_a_figure_has_the_digits_that_its_interval_warrants(
    value: float | None, half: float | None, expected: str
) -> None:
    assert formats.small(token_measure(value, half)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.01234, "0.012"),
        (1.0, "1.0"),
        (99.2, "99"),
        (234.5, "234"),
        (1e-9, "1.0e-09"),
        (None, "–"),
    ],
)
def test_a_plain_number_has_two_digits_and_never_a_power_of_a_hundred(
    value: float | None, expected: str
) -> None:
    assert formats.significant(value, 2) == expected


@pytest.mark.parametrize(
    ("p", "expected"), [(0.0321, "0.032"), (1.0, "1"), (6e-18, "<0.0001"), (None, "–")]
)
def test_a_p_value_has_two_digits_or_a_bound(p: float | None, expected: str) -> None:
    assert formats.p_value(p) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" of", "`  of `"),
        ("a\nb\t|", "` a↵b⇥\\| `"),
        ("``x`", "``` ``x` ```"),
    ],
)
def test_text_stands_in_a_cell_as_it_is(text: str, expected: str) -> None:
    assert formats.code(text) == expected


@given(st.text())
def test_no_text_ends_its_cell_or_its_span(text: str) -> None:
    shown = formats.code(text)
    assert len(shown.splitlines()) == 1
    assert "|" not in shown.replace("\\|", "")
    fence = shown[: len(shown) - len(shown.lstrip("`"))]
    inner = shown[len(fence) : -len(fence)]
    assert fence not in inner
    assert inner.startswith(" ") and inner.endswith(" ")


def pair(difference: float, p_holm: float | None) -> Pair:
    return Pair(
        a="int8",
        b="nf4",
        kl_difference=token_measure(difference, 0.01),
        log_perplexity_difference=token_measure(0.2, 0.1),
        p_value=p_holm,
        p_value_holm=p_holm,
        significant=p_holm is not None and p_holm < 0.05,
    )


@pytest.mark.parametrize(
    ("difference", "p", "expected"),
    [
        (
            -0.25,
            1e-9,
            "int8 is closer to fp16 than nf4: its mean KL is 0.25 ± 0.01 nats lower (p < 0.0001).",
        ),
        (
            0.25,
            0.012,
            "nf4 is closer to fp16 than int8: its mean KL is 0.25 ± 0.01 nats lower (p = 0.012).",
        ),
        (
            0.25,
            0.4,
            "int8 and nf4: over this text, neither is shown to be closer to fp16 (p = 0.4).",
        ),
        (0.25, None, "int8 and nf4: one stretch of text cannot tell them apart."),
    ],
)
def test_a_difference_is_claimed_only_where_it_is_significant(
    difference: float, p: float | None, expected: str, comparison: Comparison
) -> None:
    assert sentences.of_pair(pair(difference, p), comparison) == expected


def test_the_noise_floor_names_who_does_not_rise_above_it(comparison: Comparison) -> None:
    floor = comparison.noise_floor
    assert floor
    said = sentences.of_noise_floor(floor, comparison)
    assert said.startswith(
        "The noise floor is fp16 against itself with its attention by another kernel"
    )
    assert said.endswith("That holds for none of the variants.")
    bf16 = comparison.variants["bf16"]
    assert bf16.kl
    near = bf16.model_copy(update={"kl": bf16.kl.model_copy(update={"indistinguishable": True})})
    changed = comparison.model_copy(update={"variants": {**comparison.variants, "bf16": near}})
    assert sentences.of_noise_floor(floor, changed).endswith("That holds for bf16.")


def test_the_report_shows_every_part_of_the_divergence(comparison: Comparison) -> None:
    text = markdown_of(comparison)
    for heading in (
        "## Divergence from fp16",
        "### Candidate against candidate",
        "### By token",
        "### By confidence",
        "### By position",
        "### The worst tokens",
    ):
        assert heading in text
    assert "| *noise floor* | " in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    # No row is broken by what stands in it.
    for before, row in pairwise(rows):
        if set(row) <= set("|-:"):
            assert columns(before) == columns(row)
    kl = comparison.variants["nf4"].kl
    assert kl
    for token in kl.worst_tokens:
        (row,) = [r for r in rows if f" | {token.window}, {token.position} | " in r][-1:]
        assert formats.code(token.context) in row
        assert columns(row) == 6


def columns(row: str) -> int:
    return row.replace("\\|", "").count("|") - 1


def test_the_picture_names_its_curves_and_is_the_same_each_time(comparison: Comparison) -> None:
    picture = draw_distributions(comparison)
    assert picture
    assert picture == draw_distributions(comparison)
    root = ElementTree.fromstring(picture.file)
    assert root.tag == f"{SVG}svg"
    assert [title.text for title in root.iter(f"{SVG}title")] == ["KL from fp16, by token"]
    words = {text.text for text in root.iter(f"{SVG}text")}
    assert {"bf16", "nf4", "noise floor", "share of tokens above"} <= words
    links = [value for node in root.iter() for name, value in node.items() if "href" in name]
    assert all(link.startswith("#") for link in links)


def test_names_cannot_break_the_picture(comparison: Comparison) -> None:
    named = comparison.model_copy(update={"reference": "a<b>&$c$"})
    picture = draw_distributions(named)
    assert picture
    text = "".join(ElementTree.fromstring(picture.file).itertext())
    assert "KL from a<b>&$c$, by token" in text
    assert "KL(a<b>&$c$ ‖ variant) of a token, nats" in text


def test_without_a_candidate_there_is_no_picture(comparison: Comparison, tmp_path: Path) -> None:
    write_report(run_at(tmp_path), comparison, judgement_of(comparison))
    assert (tmp_path / "kl.svg").exists()
    alone = comparison.model_copy(
        update={"variants": {"fp16": comparison.variants["fp16"]}, "pairs": []}
    )
    assert draw_distributions(alone) is None
    write_report(run_at(tmp_path), alone, judgement_of(alone))
    assert not (tmp_path / "kl.svg").exists()
    assert "kl.svg" not in (tmp_path / "report.md").read_text()


def test_comparison_json_is_read_as_it_is_written(comparison: Comparison, tmp_path: Path) -> None:
    write_report(run_at(tmp_path), comparison, judgement_of(comparison))
    text = (tmp_path / "comparison.json").read_text()
    assert StampedComparison.model_validate_json(text).sha256
    assert read_run(run_at(tmp_path)).comparison == comparison
    assert '"from": 0.25' in text
