"""GGUF files that lie about themselves: refused in a line, in bounded time and memory."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract import gguf_content
from orchestrator.errors import BadInputError
from orchestrator.inputs.gguf_files import read_gguf
from tests.gguf_models import write_gguf
from tests.readers import answers_or_refuses, contents, examples, gguf_reader
from tests.tiny_models import make_tiny_model

HEAD = b"GGUF" + struct.pack("<I", 3)
ONE_KEY = HEAD + struct.pack("<QQ", 0, 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file that is read: what is before its tensors, in which lies are told."""
    folder = tmp_path_factory.mktemp("gguf")
    path = write_gguf(make_tiny_model(folder / "model"), folder / "m.gguf")
    return path.read_bytes()


def key(name: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name


@pytest.mark.parametrize(
    "content",
    [
        HEAD + struct.pack("<QQ", 2**60, 0),
        HEAD + struct.pack("<QQ", 0, 2**60),
        # An array of bytes that the file does not hold, one of arrays in arrays, a long text, an
        # array of more values than any vocabulary has.
        ONE_KEY + key(b"a") + struct.pack("<IIQ", 9, 0, 2**60),
        ONE_KEY + key(b"a") + struct.pack("<I", 9) + 5000 * struct.pack("<IQ", 9, 1),
        ONE_KEY + struct.pack("<Q", 2**62) + b"a",
        ONE_KEY + key(b"a") + struct.pack("<IIQ", 9, 0, 20_000) + bytes(20_000),
    ],
)
def test_counts_are_not_believed(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_content, "_MOST_READS", 10_000)
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match="is not a whole GGUF file"):
        read_gguf(str(path), None, "--model")


@examples(60)
@given(data=st.data())
def test_whatever_it_holds_it_is_read_or_refused(
    whole: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    answers_or_refuses(gguf_reader(whole), tmp_path, data.draw(contents(whole)))


def test_what_is_whole_is_read(whole: bytes, tmp_path: Path) -> None:
    answers_or_refuses(gguf_reader(whole), tmp_path, whole)
    assert read_gguf(str(tmp_path / "m.gguf"), None, "--model").tensors
