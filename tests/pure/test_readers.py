"""Whatever a file holds: an answer, or one line of ours. More examples in `tests/long`."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.readers import PLAIN_READERS, Reader, answers_or_refuses, contents, examples


@pytest.mark.parametrize("reader", PLAIN_READERS, ids=lambda reader: reader.name)
@examples(40)
@given(data=st.data())
def test_a_reader_answers_or_refuses(reader: Reader, tmp_path: Path, data: st.DataObject) -> None:
    answers_or_refuses(reader, tmp_path, data.draw(contents(reader.whole)))


@pytest.mark.parametrize("reader", PLAIN_READERS, ids=lambda reader: reader.name)
def test_it_reads_or_refuses_what_is_whole_and_what_is_empty(
    reader: Reader, tmp_path: Path
) -> None:
    for content in (reader.whole, b""):
        answers_or_refuses(reader, tmp_path, content)
