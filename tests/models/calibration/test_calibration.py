"""`calibration FILE` from end to end: what it finds, what it returns, and what bad input gets."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from orchestrator.cli import run_command
from orchestrator.errors import ExitStatus
from orchestrator.inputs.sources import read_inputs
from orchestrator.inputs.tokenizer import ModelTokenizer
from orchestrator.settings import Settings
from tests.quantized_checkpoints import save_awq, save_gptq
from tests.tiny_models import edit_json, make_tiny_model

Told = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Told:
    """Runs the command on a file: its status, what `--json` has, and what is printed."""

    def run(file: Path, *more: object) -> tuple[int, dict[str, Any], str]:
        path = tmp_path / "said.json"
        status = run_command(["calibration", str(file), "--json", str(path), *map(str, more)])
        return status, json.loads(path.read_text()), capsys.readouterr().out

    return run


def write_rows(path: Path, rows: Sequence[str]) -> Path:
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def article_rows() -> list[str]:
    """Plain text of the kind that the demo is evaluated with, and none of it."""
    subjects = ["The river", "A bridge", "Her second album", "The old quarter", "This species"]
    verbs = ["was described in", "is known from", "had been built before", "returned to"]
    places = ["the northern valley", "a survey of the coast", "the year 1911", "many towns"]
    ends = ["and the report was kept.", "which few people knew.", "as the film shows."]
    rows = []
    for n in range(500):
        parts = [
            f"{subjects[(n + k) % 5]} {verbs[(n * 3 + k) % 4]} {places[(n * 7 + k * k) % 4]}, "
            f"number {n * 31 + k * 17}, {ends[(n + k * 2) % 3]}"
            for k in range(8)
        ]
        rows.append(" ".join(parts))
    return rows


@pytest.fixture
def lenient(tmp_path: Path) -> Path:
    """Thresholds of what the made-up rows are not judged by left out."""
    path = tmp_path / "thresholds.yaml"
    path.write_text(
        "- {measure: windows_held_share, most: 0, why: it flatters}\n"
        "- {measure: prompts_held_share, most: 0, why: it flatters}\n"
        "- {measure: duplicate_rows_share, most: 0.01, why: it counts twice}\n"
    )
    return path


def windows_as_text() -> list[str]:
    """The text of each window that the demo is evaluated with."""
    inputs = read_inputs(Settings(model="demo", dataset="demo"))
    tokenizer = ModelTokenizer(inputs.model)._tokenizer
    return [tokenizer.decode(window.target_ids) for window in inputs.windows]


def test_a_set_without_the_evaluation_is_clean(
    told: Told, article_rows: list[str], lenient: Path, tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "set.jsonl", article_rows)
    status, said, out = told(file, "--thresholds", lenient)
    assert status == ExitStatus.DONE
    assert (said["rows"], said["windows_held"], said["prompts_held"]) == (500, [], [])
    assert said["findings"] == []
    assert out.endswith("Clean: nothing speaks against it.\n")


def test_windows_and_prompts_in_it_are_found_by_their_numbers(
    told: Told, article_rows: list[str], lenient: Path, tmp_path: Path
) -> None:
    windows = windows_as_text()
    inputs = read_inputs(Settings(model="demo", dataset="demo"))
    prompt = inputs.suite.prompts[7]
    # A part of each, within other words.
    held = [f"Before. {windows[n][200:700]} And after." for n in (2, 11)]
    rows = [*article_rows, *held, f"{prompt.text} Yes."]
    file = write_rows(tmp_path / "set.jsonl", rows)
    status, said, out = told(file, "--thresholds", lenient)
    assert status == ExitStatus.GATE_FAILED
    assert said["windows_held"] == [2, 11]
    assert said["prompts_held"] == [prompt.id]
    assert "windows that it holds: 2, 11" in out
    assert [finding["measure"] for finding in said["findings"]] == [
        "windows_held_share",
        "prompts_held_share",
    ]
    assert said["findings"][0]["value"] == pytest.approx(2 / len(windows))


def test_a_small_set_of_another_kind_is_found_out(told: Told, tmp_path: Path) -> None:
    rows = ["x = 1;", "x = 1; ", "Das ist ein deutscher Satz über eine Brücke im Tal. " * 3]
    status, said, _ = told(write_rows(tmp_path / "set.jsonl", rows * 4))
    assert status == ExitStatus.GATE_FAILED
    found = {finding["measure"] for finding in said["findings"]}
    assert {"tokens", "duplicate_rows_share", "evaluation_tokens_covered_share"} <= found
    assert {"divergence_bits", "short_rows_share", "languages_missing_share"} <= found
    assert said["languages"] == {"de": 1.0}
    assert said["duplicate_rows_share"] == pytest.approx(10 / 12)


def test_every_format_gives_the_same_rows(
    told: Told, article_rows: list[str], lenient: Path, tmp_path: Path
) -> None:
    rows = article_rows[:40]
    plain = write_rows(tmp_path / "a.jsonl", rows)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    parquet.write_table(pa.table({"text": rows, "id": range(40)}), tmp_path / "c.parquet")
    (tmp_path / "d.txt").write_text("\n\n".join(rows))
    chats = [
        json.dumps(
            {"messages": [{"role": "user", "content": row[:50]}, {"content": row[50:]}], "n": 1}
        )
        for row in rows
    ]
    (tmp_path / "e.jsonl").write_text("\n".join(chats))
    parquet.write_table(
        pa.table({"conversations": [[{"from": "human", "value": row}] for row in rows]}),
        tmp_path / "f.parquet",
    )
    found = {
        path.name: told(path, "--thresholds", lenient)[1]
        for path in sorted(tmp_path.glob("[a-f].*"))
    }
    assert len(found) == 6
    assert {said["rows"] for said in found.values()} == {40}
    tokens = {name: said["tokens"] for name, said in found.items()}
    # A chat's turns are apart from each other.
    assert len({count for name, count in tokens.items() if name != "e.jsonl"}) == 1, tokens


def test_categories_are_counted(told: Told, article_rows: list[str], tmp_path: Path) -> None:
    lines = [
        json.dumps({"text": row, "category": "AB"[n % 3 == 0]})
        for n, row in enumerate(article_rows[:30])
    ]
    (tmp_path / "set.jsonl").write_text("\n".join(lines))
    assert told(tmp_path / "set.jsonl")[1]["categories"] == {"A": 20, "B": 10}


def test_a_recipe_is_told_and_held_against_itself(
    told: Told, article_rows: list[str], lenient: Path, tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "set.jsonl", article_rows)
    model = make_tiny_model(tmp_path / "model", hidden=128)
    for save in (save_gptq, save_awq):
        checkpoint = save(model, tmp_path / save.__name__)
        status, said, out = told(file, "--thresholds", lenient, "--checkpoint", checkpoint)
        assert status == ExitStatus.DONE, out
        assert said["recipe"]["values"]["config.json"]["bits"] == "4"
        assert said["recipe"]["contradictions"] == []
    recipe = {"bits": 3, "group_size": 64, "desc_act": True, "damp_percent": 0.01, "dataset": "c4"}
    (checkpoint / "quantize_config.json").write_text(json.dumps(recipe))
    status, said, out = told(file, "--thresholds", lenient, "--checkpoint", checkpoint)
    assert status == ExitStatus.GATE_FAILED
    assert "bits is 4 in config.json, 3 in quantize_config.json" in out
    assert said["recipe"]["values"]["quantize_config.json"]["data set"] == "c4"
    (checkpoint / "quantize_config.json").unlink()
    config = json.loads((checkpoint / "config.json").read_text())["quantization_config"]
    edit_json(checkpoint / "config.json", quantization_config={**config, "group_size": 16})
    status, _, out = told(file, "--thresholds", lenient, "--checkpoint", checkpoint)
    assert status == ExitStatus.GATE_FAILED
    assert "its configuration declares groups of 16, and" in out


def test_bad_input_gets_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write_rows(tmp_path / "good.jsonl", ["some text"])
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": \n')
    (tmp_path / "list.jsonl").write_text("[1, 2]\n")
    (tmp_path / "deep.jsonl").write_text("[" * 100_000)
    (tmp_path / "other.jsonl").write_text('{"body": "a"}\n')
    (tmp_path / "empty.jsonl").write_text("\n\n")
    (tmp_path / "latin.txt").write_bytes("Brücke".encode("latin-1"))
    (tmp_path / "no.parquet").write_bytes(b"PAR1")
    (tmp_path / "set.xyz").write_text("a")
    (tmp_path / "t.yaml").write_text("- {measure: beauty, most: 1, why: so}\n")
    (tmp_path / "u.yaml").write_text("measure: tokens\n")
    for arguments, said in (
        ((tmp_path / "none.jsonl",), "no file"),
        ((tmp_path,), "no file"),
        ((tmp_path / "bad.jsonl",), "line 2 is no JSON"),
        ((tmp_path / "list.jsonl",), "line 1 is no object"),
        ((tmp_path / "deep.jsonl",), "line 1 is no JSON"),
        ((tmp_path / "other.jsonl",), "no text in a column 'text'"),
        ((tmp_path / "empty.jsonl",), "no row with text"),
        ((tmp_path / "latin.txt",), "cannot be read"),
        ((tmp_path / "no.parquet",), "is no Parquet file"),
        ((tmp_path / "set.xyz",), "of no known format"),
        ((good, "--thresholds", tmp_path / "t.yaml"), "unknown measure 'beauty'"),
        ((good, "--thresholds", tmp_path / "u.yaml"), "it is no list of thresholds"),
        ((good, "--thresholds", tmp_path / "none.yaml"), "cannot be read"),
        ((good, "--checkpoint", "demo"), "says nowhere how it was quantized"),
        ((good, "--checkpoint", "/nowhere"), "--checkpoint: no folder"),
        ((good, "--model", "/nowhere"), "--model: no folder"),
        ((good, "--json", tmp_path), "is a folder"),
    ):
        status = run_command(["calibration", *map(str, arguments)])
        out, error = capsys.readouterr()
        lines = [line for line in (out + error).splitlines() if not line.endswith("…")]
        assert status == ExitStatus.BAD_INPUT, (arguments, lines)
        assert len(lines) == 1, (arguments, lines)
        assert said in lines[0], (arguments, lines)
