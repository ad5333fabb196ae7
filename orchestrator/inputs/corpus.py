"""Data set → rows → text → tokens → windows, one function a protocol.

Rows follow the hub's layout of WikiText: a blank row is "", any other keeps its line end.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orchestrator.contract.variant_errors import first_line
from orchestrator.errors import BadInputError
from orchestrator.inputs.dataset_files import files_of_path, rows_of_path
from orchestrator.inputs.tokenizer import ModelTokenizer
from orchestrator.inputs.windows import (
    Windows,
    concat_windows,
    llamacpp_windows,
    rolling_windows,
    strided_windows,
)
from orchestrator.settings import ProtocolName

# Those that are no path.
_NAMED = ("demo", "wikitext2")
WIKITEXT2 = ("Salesforce/wikitext", "wikitext-2-raw-v1", "test")
# What `str.split` splits a text into.
_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Dataset:
    """The rows of a data set and what identifies them."""

    name: str
    rows: tuple[str, ...]
    content_hash: str

    @property
    def documents(self) -> int:
        """How many rows are not blank."""
        return sum(1 for row in self.rows if row.strip())


@dataclass(frozen=True)
class Corpus:
    """The windows of a data set under a protocol.

    Attributes:
        windows: of the whole text, in its order.
        tokens: the tokens of the protocol's text, special tokens apart.
        words, bytes: of the same text; they turn a token's likelihood into a word's and a byte's.
        articles: the numbers of the windows that begin one, where no window goes on from one
            article to the next.
    """

    windows: Windows
    tokens: int
    words: int
    bytes: int
    articles: tuple[int, ...] = ()


def check_dataset(dataset: str) -> None:
    """Refuses the name of a data set that is not there; reads nothing of one that is.

    Raises:
        BadInputError: there is no such file or folder, or it is of no known format.
    """
    if dataset not in _NAMED:
        files_of_path(Path(dataset).expanduser())


def load_dataset_rows(dataset: str, column: str = "text") -> Dataset:
    """Reads a data set: `demo`, `wikitext2` (the hub's test split), a file or a folder.

    Args:
        column: the one that holds the text, where it is a table.

    Raises:
        BadInputError: a file is missing, empty or not readable, or the hub is out of reach.
    """
    if dataset == "demo":
        folder = Path(str(resources.files("orchestrator") / "data" / "corpus"))
        rows = rows_of_path(folder / "demo.txt", column)
    elif dataset == "wikitext2":
        rows = _rows_of_hub()
    else:
        rows = rows_of_path(Path(dataset).expanduser(), column)
    if not any(row.strip() for row in rows):
        raise BadInputError("--dataset", f"{dataset} holds no text; name a file with some")
    return Dataset(name=dataset, rows=tuple(rows), content_hash=_digest(rows))


def _digest(rows: Sequence[str]) -> str:
    """The hash of the rows as a list in JSON, which is written a row at a time."""
    digest = hashlib.sha256(b"[")
    for number, row in enumerate(rows):
        digest.update(f"{', ' if number else ''}{json.dumps(row)}".encode())
    digest.update(b"]")
    return digest.hexdigest()


def _rows_of_hub() -> list[str]:
    # Imported here: it takes seconds, and only this source needs it.
    import datasets

    path, name, split = WIKITEXT2
    try:
        return list(datasets.load_dataset(path, name, split=split)["text"])
    except (OSError, ValueError, RuntimeError) as error:
        raise BadInputError(
            "--dataset",
            f"wikitext2 cannot be fetched from the hub ({first_line(error)}); check the network, "
            "or say --dataset demo, or --dataset FILE",
        ) from None


def raw_text(rows: Sequence[str]) -> str:
    r"""The split's original file: blank rows are " \n" there (for WikiText-2: `wiki.test.raw`).

    A row that came without its line end is a line all the same.
    """
    lines = (row if row.strip() else " " for row in rows)
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def make_corpus(
    dataset: Dataset, tokenizer: ModelTokenizer, protocol: ProtocolName, length: int, stride: int
) -> Corpus:
    """Cuts a data set into windows.

    Args:
        length: the most tokens that the model sees at once.
        stride: tokens from one window's begin to the next's; `strided` alone uses it.

    Raises:
        BadInputError: the text is too short for a single window.
    """
    makers: dict[ProtocolName, Callable[[], Corpus]] = {
        "concat": lambda: _one_text(
            "\n\n".join(dataset.rows), tokenizer, lambda ids: concat_windows(ids, length)
        ),
        "strided": lambda: _one_text(
            "\n\n".join(dataset.rows), tokenizer, lambda ids: strided_windows(ids, length, stride)
        ),
        "llamacpp": lambda: _llamacpp(dataset, tokenizer, length),
        "pages": lambda: _pages(dataset, tokenizer, length),
        "rows": lambda: _rows(dataset, tokenizer, length),
    }
    corpus = makers[protocol]()
    if not corpus.windows:
        raise BadInputError(
            "--dataset",
            f"{dataset.name} has {corpus.tokens} tokens, too few for one window of "
            f"{length} under protocol {protocol}; lower --window-length",
        )
    return corpus


def _one_text(
    text: str, tokenizer: ModelTokenizer, cut: Callable[[NDArray[np.int32]], Windows]
) -> Corpus:
    ids = tokenizer.encode_long(text)
    return Corpus(
        windows=cut(tokenizer.with_special_tokens(ids, text)),
        tokens=len(ids),
        # Counted one by one: a list of them takes ten times the text.
        words=sum(1 for _ in _WORD.finditer(text)),
        bytes=len(text.encode()),
    )


def _llamacpp(dataset: Dataset, tokenizer: ModelTokenizer, length: int) -> Corpus:
    # The tool reads the original file and drops one line end at its close.
    text = raw_text(dataset.rows).removesuffix("\n")
    bos = tokenizer.prefix_id if tokenizer.adds_bos else None
    return _one_text(text, tokenizer, lambda ids: llamacpp_windows(ids, length, bos))


def _pages(dataset: Dataset, tokenizer: ModelTokenizer, length: int) -> Corpus:
    parts: list[Windows] = []
    tokens = words = size = 0
    for page in pages_of(raw_text(dataset.rows)):
        ids = tokenizer.encode_long(detokenize(page))
        parts.append(rolling_windows(ids, length, tokenizer.prefix_id))
        tokens += len(ids)
        words += len(re.split(r"\s+", page))
        size += len(page.encode())
    articles = accumulate(map(len, parts[:-1]), initial=0)
    return Corpus(Windows.joined(parts), tokens, words, size, tuple(articles))


def _rows(dataset: Dataset, tokenizer: ModelTokenizer, length: int) -> Corpus:
    parts: list[Windows] = []
    tokens = words = size = 0
    for row in dataset.rows:
        ids = tokenizer.encode(row, add_special_tokens=True) if row.strip() else []
        if len(ids) < 2:
            continue
        parts.append(concat_windows(ids[:length], length))
        tokens += len(tokenizer.encode(row, add_special_tokens=False))
        words += len(row.split())
        size += len(row.encode())
    return Corpus(windows=Windows.joined(parts), tokens=tokens, words=words, bytes=size)


def pages_of(text: str) -> list[str]:
    """The articles of a WikiText file, each from its level-one heading on.

    Source: the `wikitext_document_level` data set of lm-evaluation-harness, whose last page is
    kept even where it is blank.
    """
    pages: list[str] = []
    lines: list[str] = []
    for line in text.split("\n"):
        heading = line.replace("= = =", "===").replace("= =", "==").strip()
        if heading.startswith("= ") and heading.endswith(" ="):
            if "\n".join(lines).strip():
                pages.append("\n".join(lines))
            lines = []
        lines.append(line)
    return [*pages, "\n".join(lines)]


# WikiText writes text as separated tokens; these rules, in this order, undo that as the `wikitext`
# task of lm-evaluation-harness does. The second is kept as that task has it, where it never
# matches real text: a rule mended here would give numbers that cannot be held against its own.
_DETOKENIZATION: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"s '", r"s'"),
        (r"/' [0-9]/", r"/'[0-9]/"),
        *((rf" @{re.escape(mark)}@ ", mark) for mark in "-,."),
        *((rf" {re.escape(mark)} ", f"{mark} ") for mark in ":;.!?,"),
        (r"\(\s*([^\)]*?)\s*\)", r"(\1)"),
        (r"\[\s*([^\]]*?)\s*\]", r"[\1]"),
        (r"{\s*([^}]*?)\s*}", r"{\1}"),
        (r"\"\s*([^\"]*?)\s*\"", r'"\1"'),
        (r"'\s*([^']*?)\s*'", r"'\1'"),
        (r"= = = =", "===="),
        (r"= = =", "==="),
        (r"= =", "=="),
        (" \N{DEGREE SIGN} ", "\N{DEGREE SIGN}"),
        (r" \n", r"\n"),
        (r"\n ", r"\n"),
        (r" N ", r" 1 "),
        (r" 's", r"'s"),
    )
)


def detokenize(text: str) -> str:
    """Running text from WikiText's separated tokens; source: see the table of rules."""
    for pattern, replacement in _DETOKENIZATION:
        text = pattern.sub(replacement, text)
    return text
