"""Text of models and files is shown and does nothing: in terminals, Markdown, spreadsheets."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.comparison_schema import Comparison
from orchestrator.console import plain_text, say
from orchestrator.printable import masked, printable
from orchestrator.report.csv_files import render_csv
from orchestrator.report.tables import cells
from orchestrator.report.tables.cells import Column, ReportTable
from orchestrator.report.terminal import print_comparison, print_table
from tests.pipeline import FinishedRun, markdown_of

# Clears a screen, writes a title, rings, turns a line's direction, ends a line.
ACTING = "a\x1b[2Jb\x1b]0;title\x07c\x9b31md\u202ee\rf\u2028g\x00"
HOSTILE = (
    "x <script>alert(1)</script> ![i](http://a/b.png) [l](javascript:0) <http://a> [d]: http://a"
)
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def spoiled(comparison: Comparison, text: str) -> Comparison:
    """The comparison with such a text wherever a stranger's may be."""
    content = comparison.model_dump(by_alias=True)
    content["provenance"]["model"]["id"] = text
    content["provenance"]["dataset"]["name"] = text
    content["provenance"]["devices"] = [text]
    content["provenance"]["command"] = text
    content["notes"] = [text]
    for figures in content["variants"].values():
        figures["checkpoint"] = text
        categories = figures["generation"]["by_category"]
        figures["generation"]["by_category"] = {
            f"{name} {text}": value for name, value in categories.items()
        }
        figures["generation"]["categories_beyond"] = [
            f"{name} {text}" for name in figures["generation"]["categories_beyond"]
        ]
        for token in (figures["kl"] or {}).get("worst_tokens", ()):
            token.update(token=text, context=text)
    return Comparison.model_validate(content)


def on_a_terminal(work: Any) -> str:
    file = io.StringIO()
    work(Console(file=file, width=160, no_color=True, force_terminal=False))
    return file.getvalue()


def test_no_control_character_reaches_a_terminal(finished_run: FinishedRun) -> None:
    comparison = spoiled(finished_run.comparison, ACTING)
    table = ReportTable("t", ACTING, [Column(ACTING, "k")], [[cells.text(ACTING)]])
    for shown in (
        on_a_terminal(lambda console: print_comparison(comparison, console)),
        on_a_terminal(lambda console: print_table(table, console)),
        on_a_terminal(lambda console: say(console, ACTING)),
        on_a_terminal(lambda console: console.print(plain_text(ACTING))),
    ):
        assert not CONTROLS.search(shown)
    assert printable("a\x1b[2J\n") == "a␛[2J␊"


def test_text_in_markdown_makes_no_link_no_picture_and_no_html(finished_run: FinishedRun) -> None:
    page = markdown_of(spoiled(finished_run.comparison, HOSTILE))
    outside = re.sub(r"(`+) .*? \1|`[^`\n]*`|^    .*$", "", page, flags=re.MULTILINE)
    assert "alert(1)" in outside
    # The one picture is the report's own.
    assert re.findall(r"(?<!\\)!\[[^]]*\]\([^)]*\)", outside) == [
        "![The share of tokens whose KL is above a value](kl.svg)"
    ]
    assert not re.search(r"(?<!\\)<[A-Za-z/!?]", outside)
    assert not re.search(r"\](\(|\[|:)", outside.replace("](kl.svg)", ""))


def test_text_in_markdown_ends_no_line(finished_run: FinishedRun) -> None:
    page = markdown_of(spoiled(finished_run.comparison, "a\n\n# b\r\n| c |\n"))
    assert "\n# b" not in page
    assert not CONTROLS.search(page)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_text_is_a_formula_of_a_spreadsheet(text: str) -> None:
    table = ReportTable(
        "t", "c", [Column("a", "a", look="text"), Column("b", "b")], [[cells.text(text)] * 2]
    )
    _, row = csv.reader(io.StringIO(render_csv(table)))
    assert not any(value.startswith(("=", "+", "-", "@", "\t", "\r")) for value in row)


def test_numbers_stay_numbers() -> None:
    column = Column("a", "a")
    table = ReportTable("t", "c", [column], [[cells.Cell("-1.5", -1.5, (-2.0, -1.0))]])
    assert render_csv(table).splitlines()[1] == "-1.5,-2.0,-1.0"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ray://me:secret@host:10001", "ray://***@host:10001"),
        ("cannot reach https://hf_abc@hub/x", "cannot reach https://***@hub/x"),
        ("https://host/a?token=abc&b=1", "https://host/a?token=***&b=1"),
        ("mail me@example.org at 10:30", "mail me@example.org at 10:30"),
    ],
)
def test_what_gives_access_is_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert on_a_terminal(lambda console: say(console, text)) == f"{shown}\n"


def test_a_run_keeps_no_password(tmp_path: Path) -> None:
    from orchestrator.planning.plan import _without_secrets

    assert _without_secrets({"cluster": "ray://me:secret@host:1", "n": 3}) == {
        "cluster": "ray://***@host:1",
        "n": 3,
    }
