"""The files of a run, as other programs read them."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator.cli import run_command
from orchestrator.storage.file_names import RunGroup
from orchestrator.storage.results_folder import run_at
from tests.pipeline import FinishedRun


@pytest.fixture(scope="module")
def folder(finished_run: FinishedRun) -> Path:
    assert run_command(["report", str(finished_run.folder)]) == 0
    return finished_run.folder


def test_each_variant_has_a_file_of_its_prompts_and_answers(folder: Path) -> None:
    assert {path.name for path in (folder / "answers").iterdir()} == {
        "fp16.json",
        "int8.json",
        "nf4.json",
    }
    content = json.loads((folder / "answers" / "nf4.json").read_text())
    assert content["variant"] == "nf4"
    assert [answer["prompt"] for answer in content["answers"]] == [
        f"Say {n} words" for n in range(10)
    ]
    rows = pq.read_table(folder / "tables" / "generations.parquet").to_pylist()
    texts = [row["text"] for row in rows if row["variant"] == "nf4"]
    assert [answer["answer"] for answer in content["answers"]] == texts


def test_every_table_of_the_report_is_a_csv_file(folder: Path) -> None:
    names = {path.stem for path in (folder / "summary").iterdir()}
    assert {"summary", "perplexity", "divergence", "category_kl", "memory", "gates"} <= names
    for path in (folder / "summary").iterdir():
        with path.open(newline="") as file:
            head, *rows = csv.reader(file)
        assert rows, path
        assert all(len(row) == len(head) for row in rows), path
        assert len(set(head)) == len(head), path


def test_what_a_report_wrote_and_writes_no_more_goes(folder: Path) -> None:
    files = run_at(folder)
    summary = {path.name: path.read_bytes() for path in (folder / "summary").iterdir()}
    files.write_group(RunGroup.SUMMARY, {**summary, "old.csv": b"x\n"})
    assert (folder / "summary" / "old.csv").exists()
    assert run_command(["report", str(folder)]) == 0
    assert {path.name for path in (folder / "summary").iterdir()} == set(summary)


@pytest.mark.parametrize("reader", ["pandas", "polars", "duckdb"])
def test_tables_are_read_as_they_are(reader: str, folder: Path) -> None:
    module = pytest.importorskip(reader)
    for path in sorted((folder / "tables").glob("*.parquet")):
        table = pq.read_table(path)
        if reader == "duckdb":
            found = module.sql(f"select * from '{path}'")
            assert (found.columns, len(found)) == (table.column_names, table.num_rows)
            continue
        frame = module.read_parquet(path)
        assert list(frame.columns) == table.column_names
        assert len(frame) == table.num_rows
