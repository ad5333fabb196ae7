"""A large file is read once, and again as soon as anything of it is another."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import BadInputError
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


def hash_of(path: Path) -> str:
    return file_hash(path).sha256


def test_a_large_file_is_read_once(large: Path, reads: list[Path]) -> None:
    assert hash_of(large) == hash_of(large) == true_hash(large)
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
    before = hash_of(large)
    change(large)
    assert hash_of(large) == true_hash(large) != before
    assert len(reads) == 2


def test_a_file_that_may_still_change_is_not_remembered(
    large: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_hashes, "_SETTLED_SECONDS", 60.0)
    assert hash_of(large) == hash_of(large) == true_hash(large)
    assert len(reads) == 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 3}'])
def test_a_damaged_memory_is_made_anew(content: str, large: Path, reads: list[Path]) -> None:
    memory_path().parent.mkdir(parents=True)
    memory_path().write_text(content)
    assert hash_of(large) == hash_of(large) == true_hash(large)
    assert reads == [large]
    assert list(json.loads(memory_path().read_text())) == [str(large)]


def test_where_nothing_can_be_remembered_files_are_read(large: Path, reads: list[Path]) -> None:
    memory_path().parent.parent.write_text("no folder")
    assert hash_of(large) == hash_of(large) == true_hash(large)
    assert len(reads) == 2


def test_small_files_leave_no_trace(large: Path) -> None:
    small = large.with_name("config.json")
    small.write_text("{}")
    assert hash_of(small) == true_hash(small)
    assert not memory_path().exists()


def hub_link(folder: Path, name: str, content: bytes) -> Path:
    """A file of a snapshot in a hub cache, whose blob has a name and a content."""
    blobs, snapshot = folder / "blobs", folder / "snapshots" / ("c" * 40)
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / name).write_bytes(content)
    link = snapshot / "model.safetensors"
    link.symlink_to(Path("..", "..", "blobs", name))
    return link


def test_a_blob_of_the_hubs_cache_is_read_once(large: Path, reads: list[Path]) -> None:
    name = true_hash(large)
    link = hub_link(large.parent / "models--org--name", name, LARGE)
    assert hash_of(link) == hash_of(link) == name
    assert reads == [link]


@pytest.mark.parametrize("content", [b"small", LARGE[:-1] + b"x"])
def test_a_damaged_download_is_refused_each_time(content: bytes, large: Path) -> None:
    link = hub_link(large.parent / "models--org--name", true_hash(large), content)
    for _ in range(2):
        with pytest.raises(BadInputError, match=r"damaged download; remove .*blobs.* and fetch it"):
            file_hash(link)


def test_a_name_of_64_characters_is_a_claim_in_the_hubs_cache_alone(large: Path) -> None:
    target = large.with_name("0" * 64)
    target.write_bytes(b"other weights")
    link = large.with_name("link.safetensors")
    link.symlink_to(target)
    assert hash_of(link) == true_hash(target)


def test_a_file_that_changes_while_it_is_read_is_refused(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = content_hashes._read_hash

    def disturbed(path: Path) -> str:
        found = read(path)
        changed_in_place(path)
        return found

    monkeypatch.setattr(content_hashes, "_read_hash", disturbed)
    with pytest.raises(BadInputError, match="changed while it was read; wait until it is whole"):
        file_hash(large)
