"""A large file is read once, and again as soon as anything of it is another."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.inputs import content_hashes
from orchestrator.inputs.content_hashes import file_hash, memory_path

LARGE = bytes(range(256)) * 2**18


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A large file, and a folder of caches of its own; files count as settled at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr(content_hashes, "_SETTLED_SECONDS", 0.0)
    path = tmp_path / "model.safetensors"
    path.write_bytes(LARGE)
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read, in order."""
    found: list[Path] = []
    read = content_hashes._read_hash

    def noted(path: Path) -> str:
        found.append(path)
        return read(path)

    monkeypatch.setattr(content_hashes, "_read_hash", noted)
    return found


def true_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_large_file_is_read_once(large: Path, reads: list[Path]) -> None:
    assert file_hash(large) == file_hash(large) == true_hash(large)
    assert reads == [large]


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def changed_in_place(path: Path) -> None:
    """Of the same size and with the time of its content set back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(LARGE[::-1])
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [grown, changed_in_place, replaced])
def test_a_file_that_is_another_is_read_again(
    change: Callable[[Path], None], large: Path, reads: list[Path]
) -> None:
    before = file_hash(large)
    change(large)
    assert file_hash(large) == true_hash(large) != before
    assert len(reads) == 2


def test_a_file_that_may_still_change_is_not_remembered(
    large: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_hashes, "_SETTLED_SECONDS", 60.0)
    assert file_hash(large) == file_hash(large) == true_hash(large)
    assert len(reads) == 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 3}'])
def test_a_damaged_memory_is_made_anew(content: str, large: Path, reads: list[Path]) -> None:
    memory_path().parent.mkdir(parents=True)
    memory_path().write_text(content)
    assert file_hash(large) == file_hash(large) == true_hash(large)
    assert reads == [large]
    assert list(json.loads(memory_path().read_text())) == [str(large)]


def test_where_nothing_can_be_remembered_files_are_read(large: Path, reads: list[Path]) -> None:
    memory_path().parent.parent.write_text("no folder")
    assert file_hash(large) == file_hash(large) == true_hash(large)
    assert len(reads) == 2


def test_small_files_leave_no_trace(large: Path) -> None:
    small = large.with_name("config.json")
    small.write_text("{}")
    assert file_hash(small) == true_hash(small)
    assert not memory_path().exists()
