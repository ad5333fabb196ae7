"""`export`: a run's pictures, tables and model cards, as others read them."""

import csv
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from huggingface_hub import ModelCard

from orchestrator.cli import run_command
from orchestrator.comparison_schema import Comparison
from orchestrator.report.contents import Report
from orchestrator.report.latex_files import escaped
from orchestrator.report.model_cards import model_cards
from orchestrator.storage.results_folder import run_at
from tests.pipeline import FinishedRun, judgement_of

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def exported(finished_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "paper"
    before = state_of(finished_run.folder)
    assert run_command(["export", str(finished_run.folder), "--to", str(folder)]) == 0
    assert state_of(finished_run.folder) == before
    return folder


def state_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_every_picture_is_there_twice(exported: Path, finished_run: FinishedRun) -> None:
    comparison = finished_run.comparison
    plots = Report(comparison, judgement_of(comparison)).plots
    pictures = exported / "pictures"
    names = {f"{name}.{ending}" for name in plots for ending in ("svg", "pdf")}
    assert {path.name for path in pictures.iterdir()} == names
    for path in pictures.glob("*.svg"):
        root = ElementTree.fromstring(path.read_bytes())
        identifiers = {element.get("id") for element in root.iter()}
        assert set(str(root.get("aria-labelledby")).split()) <= identifiers
        assert root.find(f"{SVG}title") is not None
    for path in pictures.glob("*.pdf"):
        content = path.read_bytes()
        assert content.startswith(b"%PDF-") and content.rstrip().endswith(b"%%EOF")
        assert b"/Subtype /Type3" not in content
        assert b"CreationDate" not in content


def test_tables_hold_the_same_cells_in_both_forms(exported: Path) -> None:
    tables = exported / "tables"
    assert {path.stem for path in tables.glob("*.csv")} == {p.stem for p in tables.glob("*.tex")}
    for path in tables.glob("*.tex"):
        lines = path.read_text().splitlines()
        (begin,) = (line for line in lines if line.startswith(r"\begin{tabular}"))
        columns = len(begin.split("{")[-1].rstrip("}"))
        rows = [line for line in lines if line.endswith(r"\\")]
        # An escaped ampersand is text.
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {columns}
        with path.with_suffix(".csv").open(newline="") as file:
            assert len(rows) == len(list(csv.reader(file)))
    summary = (tables / "summary.tex").read_text()
    assert r"change [95\%]" in summary and r"$\pm$" in summary


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 5% of $x", r"a\_b \& 5\% of \$x"),
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("1 ± 2 – <0.1", r"1 $\pm$ 2 -- \textless{}0.1"),
        ("~^#", r"\textasciitilde{}\textasciicircum{}\#"),
    ],
)
def test_no_text_acts_in_latex(text: str, expected: str) -> None:
    assert escaped(text) == expected


def test_a_model_card_is_read_by_the_hubs_own_library(
    exported: Path, finished_run: FinishedRun
) -> None:
    comparison = finished_run.comparison
    cards = {path.stem: ModelCard.load(path) for path in (exported / "model-cards").iterdir()}
    assert cards.keys() == comparison.variants.keys() - {"fp16"}
    for name, card in cards.items():
        figures = comparison.variants[name]
        results = {found.metric_type: found.metric_value for found in card.data.eval_results}
        assert figures.kl is not None
        assert results["perplexity"] == figures.perplexity.value
        assert results["kl.mean"] == figures.kl.mean.value
        assert results["size_bytes"] == figures.memory.size_bytes
        assert "| variant | perplexity |" in card.text
        assert comparison.provenance.command in card.text


def test_a_base_model_is_named_where_the_hub_knows_it(finished_run: FinishedRun) -> None:
    content = json.loads(finished_run.comparison.model_dump_json(by_alias=True))
    for model, expected in (("org/model", "org/model"), ("/tmp/org/model", None), ("demo", None)):
        content["provenance"]["model"]["id"] = model
        comparison = Comparison.model_validate(content)
        card = ModelCard(model_cards(Report(comparison, judgement_of(comparison)))["nf4"])
        assert card.data.base_model == expected
        assert card.data.model_name == f"{model.rpartition('/')[2]}-nf4"


def test_no_text_acts_in_a_card_and_no_figure_is_no_number(finished_run: FinishedRun) -> None:
    content = json.loads(finished_run.comparison.model_dump_json(by_alias=True))
    content["provenance"]["dataset"]["name"] = "<script>x</script> [here](http://x)"
    content["variants"]["nf4"]["perplexity"]["value"] = float("inf")
    comparison = Comparison.model_validate(content)
    text = model_cards(Report(comparison, judgement_of(comparison)))["nf4"]
    words = text[text.index("## What") :]
    assert r"\<script>" in words and "](http" not in words
    kept = {found.metric_type for found in ModelCard(text).data.eval_results}
    assert "kl.mean" in kept and "perplexity" not in kept


def test_of_a_partial_run_the_cards_say_so(finished_run: FinishedRun, tmp_path: Path) -> None:
    content = json.loads(finished_run.comparison.model_dump_json(by_alias=True))
    content["complete"] = False
    content["progress"]["nf4"]["windows"] = {"finished": 2, "planned": 6}
    comparison = Comparison.model_validate(content)
    card = model_cards(Report(comparison, judgement_of(comparison)))["nf4"]
    assert "This report is partial. It has nf4 2 of 6 windows." in card


def test_what_cannot_be_exported_is_told_in_a_line(
    finished_run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = str(finished_run.folder), tmp_path / "file"
    file.write_text("")
    for words, problem in (
        (["export", run], "required: --to"),
        (["export", run, "--to", str(file)], f"--to: {file} is a file; name a folder"),
        (["export", str(tmp_path / "none"), "--to", str(tmp_path / "x")], "no run"),
    ):
        assert run_command(words) == 2
        told = capsys.readouterr().err
        assert problem in told and len(told.strip().splitlines()) == 1
    assert run_at(finished_run.folder).exists() and not (tmp_path / "x").exists()
