"""No number of a report but the tables': each is a cell at its printed precision."""

import csv
import io
import json
import math
import random
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from orchestrator.comparison_schema import Comparison
from orchestrator.figures.comparison import compare
from orchestrator.gates.verdicts import Judgement
from orchestrator.report.contents import Report
from orchestrator.report.html import render_html
from orchestrator.report.markdown import render_markdown
from orchestrator.report.tables.quality_tables import summary
from orchestrator.report.terminal import print_table
from orchestrator.report.write import write_report
from orchestrator.storage.reduce import Tables, join_shards
from orchestrator.storage.results_folder import run_at
from tests.pipeline import FinishedRun, judgement_of

# What a cell is multiplied by before it is printed: percent, milliseconds, units of bytes.
_SCALES = (1, 100, 1000, 2**-10, 2**-20, 2**-30, 1e-9, 1e-12)
# Said by the reports themselves: the confidence of all intervals, a hundred tokens, the largest
# change that is told as one.
_SAID = {"95", "100", "999"}
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w])")


def numbers_in(text: str) -> set[str]:
    return {found.lstrip("+-") for found in _NUMBER.findall(text)}


class _Words(HTMLParser):
    """The text of a page but for its styles and pictures, whose axes have ticks of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._skipped = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._skipped += tag in ("style", "svg")

    def handle_endtag(self, tag: str) -> None:
        self._skipped -= tag in ("style", "svg")

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.words.append(data)


def words_of(page: str) -> str:
    parser = _Words()
    parser.feed(page)
    return " ".join(parser.words)


def leaves(content: Any) -> Iterator[Any]:
    match content:
        case dict():
            for key, value in content.items():
                yield str(key)
                yield from leaves(value)
        case list() | tuple():
            yield from (leaf for value in content for leaf in leaves(value))
            numbers = [x for x in content if isinstance(x, int | float)]
            # An interval is printed as half its width, too.
            if len(content) == 2 and len(numbers) == 2:
                yield (numbers[1] - numbers[0]) / 2
        case _:
            yield content


def printed(value: float) -> Iterator[str]:
    """All that a number may be printed as."""
    for scale in _SCALES:
        scaled = abs(value * scale)
        if scaled < 1e13:
            yield from (f"{scaled:.{digits}f}" for digits in range(8))
            yield from (f"{scaled:#.{digits}g}" for digits in range(1, 6))
            yield from (f"{scaled:.{digits}g}" for digits in range(1, 6))


def known_numbers(*contents: Any) -> set[str]:
    known = set(_SAID)
    for content in contents:
        for leaf in leaves(content):
            if isinstance(leaf, bool) or leaf is None:
                continue
            if isinstance(leaf, int | float):
                if math.isfinite(leaf):
                    known.update(printed(leaf))
            else:
                known |= numbers_in(str(leaf)) | set(re.findall(r"\d+", str(leaf)))
    return known


def with_distinct_numbers(content: Any, draw: random.Random) -> Any:
    """The same content with another number in every cell, so that none is found by chance."""
    match content:
        case {"value": float(), "interval": [_, _]}:
            # A value stays within its interval.
            factor = draw.uniform(0.7, 1.3)
            rest = {k: v for k, v in content.items() if k not in ("value", "interval")}
            return {
                "value": content["value"] * factor,
                "interval": [end * factor for end in content["interval"]],
                **with_distinct_numbers(rest, draw),
            }
        case dict():
            return {
                # Bounds of classes and thresholds are chosen, not measured.
                key: value
                if key in ("from", "to", "version", "factor", "resolution", "kl_threshold")
                else with_distinct_numbers(value, draw)
                for key, value in content.items()
            }
        case list():
            return [with_distinct_numbers(value, draw) for value in content]
        case float() if content:
            return content * draw.uniform(0.7, 1.3)
        case _:
            return content


@pytest.fixture(scope="module")
def distinct(finished_run: FinishedRun) -> tuple[Comparison, Judgement]:
    content = json.loads(finished_run.comparison.model_dump_json(by_alias=True))
    changed = Comparison.model_validate(with_distinct_numbers(content, random.Random(1)))
    return changed, judgement_of(changed, "kl.mean <= 0.05 by category", "success == 100%")


@pytest.mark.parametrize(
    "read",
    [render_markdown, lambda report: words_of(render_html(report))],
    ids=["markdown", "html"],
)
def test_every_number_is_a_cell_at_its_printed_precision(
    read: Callable[..., str], distinct: tuple[Comparison, Judgement]
) -> None:
    known = known_numbers(*(json.loads(part.model_dump_json(by_alias=True)) for part in distinct))
    found = numbers_in(read(Report(*distinct)))
    assert len(found) > 200
    assert found - known == set()


def test_a_number_that_no_cell_holds_is_found(distinct: tuple[Comparison, Judgement]) -> None:
    known = known_numbers(*(json.loads(part.model_dump_json(by_alias=True)) for part in distinct))
    assert numbers_in("It took 1234.5678 seconds") - known == {"1234.5678"}


def with_cell(tables: Tables, stage: str, column: str, variant: str, factor: float) -> Tables:
    """The tables with one column of one variant's rows multiplied."""
    table = tables.stages[stage]
    chosen = np.asarray([name == variant for name in table["variant"].to_pylist()])
    values = np.where(chosen, table[column].to_numpy() * factor, table[column].to_numpy())
    index = table.schema.get_field_index(column)
    field = table.schema.field(column)
    cells = pa.array(values.astype(field.type.to_pandas_dtype()), field.type)
    changed = table.set_column(index, field, cells)
    return Tables(**{**vars(tables), "stages": {**tables.stages, stage: changed}})


@pytest.mark.parametrize(
    ("stage", "column", "gate", "measure"),
    [
        ("loading", "weights_bytes", "weights_bytes <= {} for nf4", "weights_bytes"),
        ("windows", "negative_log_likelihood", "perplexity <= {} for nf4", "perplexity"),
    ],
)
def test_one_changed_cell_changes_every_page_and_the_verdict(
    stage: str, column: str, gate: str, measure: str, finished_run: FinishedRun, tmp_path: Path
) -> None:
    manifest = run_at(finished_run.folder).read_manifest()
    tables = join_shards(run_at(finished_run.folder), manifest)
    pages: list[dict[str, str]] = []
    results = []
    for number, factor in enumerate((1.0, 1.5)):
        comparison = compare(with_cell(tables, stage, column, "nf4", factor), manifest)
        if number == 0:
            figures = comparison.variants["nf4"]
            bound = figures.memory.weights_bytes
            if measure == "perplexity":
                assert figures.perplexity.interval
                bound = math.ceil(figures.perplexity.interval[1])
            gate = gate.format(bound)
        judgement = judgement_of(comparison, gate)
        folder = tmp_path / str(number)
        folder.mkdir()
        write_report(run_at(folder), comparison, judgement)
        names = ("report.md", "report.html", "comparison.json", "gates.json")
        pages.append({name: (folder / name).read_text() for name in names})
        pages[-1]["csv"] = "".join(path.read_text() for path in (folder / "summary").iterdir())
        results.append((judgement.passed, judgement.results[0].value))
    assert [passed for passed, _ in results] == [True, False]
    assert results[1][1] > results[0][1]
    for name, page in pages[0].items():
        assert page != pages[1][name], name


def test_csv_files_hold_the_numbers_that_the_tables_show(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    comparison = finished_run.comparison
    write_report(run_at(tmp_path), comparison, judgement_of(comparison))
    with (tmp_path / "summary" / "perplexity.csv").open(newline="") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    for name, figures in comparison.variants.items():
        assert float(rows[name]["perplexity"]) == figures.perplexity.value
        assert figures.perplexity.interval
        low, high = figures.perplexity.interval
        assert float(rows[name]["perplexity_low"]) == low
        assert float(rows[name]["perplexity_high"]) == high
    assert rows["fp16"]["perplexity_change_pct"] == ""


@pytest.mark.parametrize(("width", "is_table"), [(140, True), (70, False)])
def test_a_narrow_terminal_shows_the_same_figures_as_a_list(
    width: int, is_table: bool, finished_run: FinishedRun
) -> None:
    shown = summary(finished_run.comparison)
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=True, color_system=None)
    print_table(shown, console)
    lines = written.getvalue().splitlines()
    assert ("┏" in written.getvalue()) == is_table
    assert max(map(len, lines)) <= width
    for row in shown.rows:
        for cell in row:
            assert cell.is_absent or any(cell.text in line for line in lines)
