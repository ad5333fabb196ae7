"""Texts and prompts are scored as they read, in whatever format they come, or refused in a line."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from transformers import AutoTokenizer

from orchestrator.errors import BadInputError
from orchestrator.inputs.corpus import load_dataset_rows, raw_text
from orchestrator.inputs.models import resolve_model
from orchestrator.inputs.sources import read_inputs
from orchestrator.inputs.tokenizer import ModelTokenizer
from orchestrator.settings import Settings
from tests.pipeline import make_test_plan, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import copy_tokenizer, edit_json, make_tiny_model

LINES = ["A first line of text\n", "", "A second , with a number : 007\n", "NA\n"]
TEXT = "A first line of text\n\nA second , with a number : 007\nNA\n"
# In a table a row has no line end of its own.
ROWS = [line.removesuffix("\n") for line in LINES]


def csv_text(delimiter: str, line_end: str) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter=delimiter, lineterminator=line_end)
    writer.writerows([("number", "text"), *enumerate(ROWS)])
    return sink.getvalue()


def arrow_bytes(new: Callable[..., Any]) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({"text": ROWS})
    with new(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def parquet_bytes() -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.table({"text": ROWS, "n": [1, 2, 3, 4]}), sink)
    return sink.getvalue()


JSON_LINES = "".join(json.dumps({"text": row}) + "\n" for row in ROWS)
TABLES = {
    "a.json": json.dumps([{"text": row, "n": 1} for row in ROWS]).encode(),
    "a.jsonl": JSON_LINES.encode(),
    "a.JSONL": JSON_LINES.encode(),
    "a.ndjson": JSON_LINES.encode(),
    "marked.jsonl": b"\xef\xbb\xbf" + JSON_LINES.replace("\n", "\r\n").encode(),
    "a.jsonl.gz": gzip.compress(JSON_LINES.encode()),
    "a.csv": csv_text(",", "\n").encode(),
    "windows.csv": b"\xef\xbb\xbf" + csv_text(",", "\r\n").encode(),
    "a.tsv": csv_text("\t", "\n").encode(),
    "a.csv.gz": gzip.compress(csv_text(",", "\n").encode()),
    "a.parquet": parquet_bytes(),
    "stream.arrow": arrow_bytes(pa.ipc.new_stream),
    "file.arrow": arrow_bytes(pa.ipc.new_file),
}
TEXTS = {
    "a.txt": TEXT.encode(),
    "a.TXT": TEXT.encode(),
    "wiki.test.raw": TEXT.encode(),
    "plain": TEXT.encode(),
    "windows.txt": TEXT.replace("\n", "\r\n").encode(),
    "old.txt": TEXT.replace("\n", "\r").encode(),
    "marked.txt": b"\xef\xbb\xbf" + TEXT.encode(),
    "a.txt.gz": gzip.compress(TEXT.encode()),
    "no-last-end.txt": TEXT.removesuffix("\n").encode(),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_s_rows_are_its_column_as_written(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(TABLES[name])
    assert list(load_dataset_rows(str(tmp_path / name)).rows) == ROWS


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_s_rows_are_its_lines_whatever_ends_them(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(TEXTS[name])
    assert list(load_dataset_rows(str(tmp_path / name)).rows) == LINES


def test_line_ends_within_a_row_are_plain(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "one\r\ntwo\rthree\n"}))
    assert load_dataset_rows(str(path)).rows == ("one\ntwo\nthree\n",)


def test_a_folder_is_its_files_in_order(tmp_path: Path) -> None:
    for name, rows in (("b.jsonl", ROWS[2:]), ("a.jsonl", ROWS[:2])):
        (tmp_path / name).write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    (tmp_path / ".hidden").write_text("x")
    assert list(load_dataset_rows(str(tmp_path)).rows) == ROWS


def test_the_column_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": 7, "body": "the text"}))
    assert load_dataset_rows(str(path), "body").rows == ("the text",)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.html", b"<p>text", r"no known format \(\.html\); name one of \.json, "),
        ("a.docx", b"PK", r"no known format \(\.docx\)"),
        ("a.yaml", b"text: x", r"no known format \(\.yaml\)"),
        ("absent.txt", None, r"no file "),
        ("a.jsonl", b'{"text": ["a", "b"]}', r"row 1: column 'text' holds a list and no text"),
        ("a.jsonl", b'{"text": {"a": 1}}', r"row 1: column 'text' holds a dict"),
        ("a.csv", b"text\n1\n2\n", r"row 1: column 'text' holds a int and no text"),
        ("a.jsonl", b'{"body": "x"}', r"has no column 'text'; say which .*--text-column"),
        ("a.csv", b"body,n\nx,1\n", r"has no column 'text'"),
        ("a.json", b'{"data": [{"text": "x"}]}', r"has no column 'text'"),
        ("a.jsonl", b'{"text": "a\xff"}', r"cannot be read as \.jsonl .*; mend it"),
        ("a.jsonl", b'{"text": "a\\ud800b"}', r"cannot be read as \.jsonl"),
        ("a.jsonl", b'{"text": "a"', r"cannot be read as \.jsonl"),
        ("a.parquet", b"PAR1 and no more", r"cannot be read as \.parquet"),
        ("a.arrow", b"nothing", r"cannot be read as \.arrow"),
        ("a.jsonl.gz", b"nothing", r"cannot be read as \.jsonl"),
        ("a.txt", b"a\xff", r"is not UTF-8 \(byte 1\); convert it"),
        ("a.txt.gz", b"nothing", r"cannot read "),
        ("a.txt", b"\n \n", r"holds no text"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(
    name: str, content: bytes | None, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInputError, match=rf"^--dataset: .*{problem}") as caught:
        load_dataset_rows(str(path))
    assert "\n" not in str(caught.value)


def test_rows_without_line_ends_are_lines_of_the_original_file() -> None:
    assert raw_text(ROWS) == raw_text(LINES) == "".join(line or " \n" for line in LINES)


@pytest.mark.parametrize("protocol", ["pages", "llamacpp"])
def test_a_table_of_bare_rows_is_scored_as_the_text_is(protocol: Any, tmp_path: Path) -> None:
    model = str(make_tiny_model(tmp_path / "model"))
    rows = [row.removesuffix("\n") for row in SAMPLE_ROWS]
    inputs = [write_inputs(tmp_path, SAMPLE_ROWS), write_inputs(tmp_path / "bare", rows)]
    found = [
        read_inputs(Settings(model=model, protocol=protocol, max_new_tokens=4, **each)).corpus
        for each in inputs
    ]
    assert found[0] == found[1]


def test_a_text_in_another_script_has_all_figures_but_those_that_no_number_holds(
    tmp_path: Path,
) -> None:
    line = "北京是中华人民共和国的首都是全国政治中心文化中心国际交往中心科技创新中心"
    data = tmp_path / "zh.txt"
    data.write_text(f"{line * 40}\n", encoding="utf-8")
    plan = make_test_plan(
        model=str(make_tiny_model(tmp_path / "model")),
        dataset=str(data),
        variants=("fp16", "nf4"),
        max_windows=4,
        max_prompts=0,
        results=tmp_path,
    )
    comparison = run_in_process(plan)
    for name in ("fp16", "nf4"):
        figures = comparison.variants[name]
        assert figures.perplexity.value
        assert figures.bits_per_byte.value
        assert figures.word_perplexity.value is None
        assert any(
            note.startswith(f"{name}: its word perplexity is beyond the largest number")
            for note in comparison.notes
        )
    assert comparison.variants["nf4"].kl


def model_with(folder: Path, **tokenizer_config: Any) -> Path:
    make_tiny_model(folder)
    edit_json(folder / "tokenizer_config.json", **tokenizer_config)
    return folder


def read(folder: Path, **settings: Any) -> Any:
    inputs = write_inputs(folder / "inputs", SAMPLE_ROWS)
    return read_inputs(Settings(model=str(folder), max_new_tokens=4, **{**inputs, **settings}))


def test_a_date_in_the_template_stands_still_and_is_noted(tmp_path: Path) -> None:
    template = (
        "{{ strftime_now('%d %b %Y %H:%M:%S') }} {% for m in messages %}{{ m.content }}{% endfor %}"
    )
    folder = model_with(tmp_path, chat_template=template)
    first, second = read(folder), read(folder)
    assert first.prompts == second.prompts
    text = AutoTokenizer.from_pretrained(folder).decode(first.prompts[0].input_ids)
    assert text == "01 Jan 2025 00:00:00 Say 0 words"
    assert tuple(map(str, first.notes)) == (
        "The chat template writes a date: all prompts say that it is 1 January 2025.",
    )
    plain = model_with(tmp_path / "plain", chat_template="{{ messages[0].content }}")
    assert read(plain).notes == ()


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('Conversation roles must alternate') }}",
        "{% for message in messages %}",
        "{{ messages[0].content.nothing() }}",
        "{{ messages[7].content.upper() }}",
    ],
)
def test_a_template_that_refuses_or_does_not_parse_is_told(template: str, tmp_path: Path) -> None:
    folder = model_with(tmp_path, chat_template=template)
    with pytest.raises(BadInputError, match=r"^--model: .*chat template cannot write a prompt \("):
        read(folder)


def test_an_end_token_is_not_put_behind_a_prompt(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    bare = read(folder).prompts
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "</s>", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
    }
    path.write_text(json.dumps(content))
    assert AutoTokenizer.from_pretrained(folder)("x").input_ids[-1] == 1
    assert [prompt.input_ids for prompt in read(folder).prompts] == [p.input_ids for p in bare]


@pytest.mark.parametrize("content", ["{}", "[]", '{"model": 3}', "\x00\x01"])
def test_a_tokenizer_of_another_format_is_told(content: str, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(BadInputError, match=r"^--model: .*its tokenizer cannot be loaded \(") as e:
        read(folder)
    assert "\n" not in str(e.value)


def test_a_tokenizer_of_more_tokens_than_the_embedding_is_refused(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path, vocabulary=300)
    copy_tokenizer(make_tiny_model(tmp_path / "larger", vocabulary=512), folder)
    with pytest.raises(BadInputError, match=r"gives token \d+, but its embedding has 300 rows"):
        read(folder)


def test_half_a_character_in_a_prompt_is_told(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"id": "a", "category": "c", "text": "\\ud800"}\n')
    with pytest.raises(
        BadInputError, match=r"^--prompts: .* line 1: text: Input should be a valid"
    ):
        read(folder, prompts=str(prompts))


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_prompts(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    prompts = tmp_path / "p.jsonl"
    line = '{"id": "a", "category": "c", "text": "Say it"}\r\n'
    prompts.write_bytes(b"\xef\xbb\xbf" + line.encode())
    assert len(read(folder, prompts=str(prompts)).prompts) == 1


def test_a_model_that_does_not_say_its_longest_input_takes_the_length_that_is_chosen(
    tmp_path: Path,
) -> None:
    folder = make_tiny_model(tmp_path)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["max_position_embeddings"]
    path.write_text(json.dumps(config))
    with pytest.raises(BadInputError, match=r"^--window-length: .*longest input; choose a length"):
        read(folder)
    assert read(folder, window_length=96).window_length == 96


_PARTS = (
    "{% for m in messages %}{{ m['role'] }}: {% for part in m['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
)


def test_a_template_that_wants_parts_gets_parts(tmp_path: Path) -> None:
    folder = model_with(tmp_path, chat_template=_PARTS)
    tokenizer = ModelTokenizer(resolve_model(str(folder), None))
    ids = tokenizer.encode_prompt(" Name three rivers. ")
    assert tokenizer.encode("user:  Name three rivers. ", add_special_tokens=False) == ids


def test_a_template_that_leaves_out_the_text_is_refused(tmp_path: Path) -> None:
    folder = model_with(tmp_path, chat_template="{{ messages[0]['role'] }}: hello")
    tokenizer = ModelTokenizer(resolve_model(str(folder), None))
    with pytest.raises(BadInputError, match=r"^--model: .*leaves out what the user says \('Name"):
        tokenizer.encode_prompt("Name three rivers.")
