"""Tables that crash, hang or swell whoever reads them: one line, and the command lives."""

import gzip
import json
import os
import signal
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import BadInputError
from orchestrator.inputs import apart
from orchestrator.inputs.apart import Apart, ApartError
from orchestrator.inputs.corpus import load_dataset_rows
from orchestrator.inputs.dataset_files import rows_of_path
from tests.readers import Reader, answers_or_refuses, contents, examples

ROW = b'{"text": "a river"}\n'


def read(path: Path) -> list[str]:
    return rows_of_path(path, "text")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("deep.json", b"[" * 100_000),
        ("deep.jsonl", b'{"text": ' * 100_000 + b"1" + b"}" * 100_000 + b"\n"),
        ("deep.jsonl", b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b', "text": "x"}\n'),
        ("zeros.jsonl.gz", gzip.compress(bytes(50_000_000))),
        ("zeros.csv.gz", gzip.compress(bytes(50_000_000))),
        ("cut.parquet", b"PAR1" + b"\xff" * 100 + b"PAR1"),
        ("cut.arrow", b"ARROW1\x00\x00" + b"\xff" * 100),
    ],
)
def test_a_table_that_nobody_can_read_is_refused_and_the_next_is_read(
    name: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=r"^--dataset: ") as caught:
        load_dataset_rows(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    (tmp_path / "good.jsonl").write_bytes(ROW)
    assert read(tmp_path / "good.jsonl") == ["a river"]


def test_memory_is_bounded_by_the_size_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "_LEAST_BYTES", 2**28)
    monkeypatch.setattr(apart, "_TIMES_FILE", 1)
    path = tmp_path / "rows.jsonl.gz"
    row = json.dumps({"text": "x" * 1000}).encode() + b"\n"
    path.write_bytes(gzip.compress(row * 600_000))
    with pytest.raises(BadInputError, match="memory"):
        Swapped(monkeypatch).read(path)


class Swapped:
    """A process of its own, so that its limits are nobody else's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from orchestrator.inputs import dataset_files

        monkeypatch.setattr(dataset_files, "APART", Apart())

    def read(self, path: Path) -> list[str]:
        return read(path)


def test_what_takes_too_long_or_dies_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROW)
    request = {"path": "p", "files": [str(path)], "suffix": ".jsonl", "column": "text"}
    process = Apart()
    process.start()
    assert process._process is not None
    os.kill(process._process.pid, signal.SIGSTOP)
    with pytest.raises(ApartError, match="no end after 0 s"):
        process.ask("rows_of_tables", request, [path], least_seconds=0.2)
    # It is started again.
    assert process.ask("rows_of_tables", request, [path]) == ["a river"]
    assert process._process is not None
    os.kill(process._process.pid, signal.SIGSEGV)
    process._process.wait()
    assert process.ask("rows_of_tables", request, [path]) == ["a river"]
    pid = process._process.pid
    process.stop()
    assert not psutil.pid_exists(pid)


def test_it_is_started_before_anything_is_asked_and_imports_what_that_will_need() -> None:
    process = Apart()
    process.start("render_prompt")
    request = {"template": "<{{ messages[0].content }}>", "content": "a river", "now": "2026-01-01"}
    assert process.ask("render_prompt", {**request, "special_tokens": {}}) == "<a river>"
    process.stop()


@pytest.mark.parametrize(
    ("name", "whole"),
    [("a.jsonl", 2 * ROW), ("a.csv", b"text\na river\n"), ("a.json", b'[{"text": "a"}]')],
)
@examples(15)
@given(data=st.data())
def test_whatever_it_holds_it_is_read_or_refused(
    name: str, whole: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    answers_or_refuses(Reader(name, read, whole), tmp_path, data.draw(contents(whole)))
