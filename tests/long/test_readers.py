"""Each reader given many more files to choke on, other ones every time."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gguf_models import write_gguf
from tests.readers import (
    PLAIN_READERS,
    Reader,
    answers_or_refuses,
    contents,
    examples,
    gguf_reader,
)
from tests.tiny_models import make_tiny_model

many = examples(400, fixed=False)


@pytest.mark.parametrize("reader", PLAIN_READERS, ids=lambda reader: reader.name)
@many
@given(data=st.data())
def test_a_reader_answers_or_refuses(reader: Reader, tmp_path: Path, data: st.DataObject) -> None:
    answers_or_refuses(reader, tmp_path, data.draw(contents(reader.whole)))


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("gguf")
    path = write_gguf(make_tiny_model(folder / "model"), folder / "m.gguf")
    return gguf_reader(path.read_bytes())


@many
@given(data=st.data())
def test_a_gguf_file_is_read_or_refused(gguf: Reader, tmp_path: Path, data: st.DataObject) -> None:
    answers_or_refuses(gguf, tmp_path, data.draw(contents(gguf.whole)))
