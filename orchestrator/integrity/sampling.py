"""A tensor in its file → some of its weights, read by their places; nothing else is loaded.

Rows are taken whole, or in parts of a fixed length, spread over the tensor; columns a few beside
each other. What is held does not grow with the tensor.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.inputs.weight_files import PLAIN_BYTES, StoredTensor

# Of a sample: weights in rows, and the longest part of a row or column.
_WEIGHTS = 2**18
_LONGEST = 8192
_LONGEST_COLUMN = 4096
# Of columns: weights, and how many lie side by side in a run.
_COLUMN_WEIGHTS, _COLUMN_RUNS = 2**17, 3
_LEAST_SIDE_BY_SIDE, _MOST_SIDE_BY_SIDE = 8, 64
# Rows that are read at once are about so long.
_RUN_WEIGHTS = 8192
# Blocks run over the ends of rows where these are no multiple of the largest block that does so.
_FLAT_BLOCK, _FLAT_RUN, _FLAT_RUNS = 128, 4096, 48
# Of a tensor that is read whole, at once.
_PIECE_WEIGHTS = 2**20

Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class Line:
    """Weights side by side in one direction, of shape (lines, weights of a line).

    Attributes:
        is_flat: whether lines run on over the ends of rows, and have no end of their own.
    """

    kind: Literal["row", "column"]
    values: Numbers
    is_flat: bool = False


@dataclass(frozen=True)
class Weights:
    """A tensor in its file, which is open."""

    tensor: StoredTensor
    descriptor: int

    @property
    def columns(self) -> int:
        """The weights of a row."""
        return self.tensor.shape[-1]

    @property
    def rows(self) -> int:
        """Of all of the tensor's matrices, one above the other."""
        return math.prod(self.tensor.shape[:-1])

    @property
    def height(self) -> int:
        """The rows of one matrix."""
        return self.tensor.shape[-2]

    def read(self, first: int, count: int) -> Numbers:
        """Some weights, in the order of the file.

        Raises:
            OSError: the file is shorter than its header says.
        """
        size = PLAIN_BYTES[self.tensor.dtype]
        wanted = count * size
        content = b""
        while len(content) < wanted:
            place = self.tensor.begin + first * size + len(content)
            part = os.pread(self.descriptor, wanted - len(content), place)
            if not part:
                raise OSError(0, "it ends before its header says", str(self.tensor.path))
            content += part
        return _numbers(content, self.tensor.dtype)


@contextmanager
def open_weights(tensor: StoredTensor) -> Iterator[Weights]:
    """A tensor in its file, open as long as the context lasts."""
    descriptor = os.open(tensor.path, os.O_RDONLY)
    try:
        yield Weights(tensor, descriptor)
    finally:
        os.close(descriptor)


def _numbers(content: bytes, dtype: str) -> Numbers:
    if dtype == "BF16":
        wide = np.frombuffer(content, "<u2").astype(np.uint32) << 16
        return wide.view(np.float32)
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
    return np.frombuffer(content, kinds[dtype]).astype(np.float32)


def sample(weights: Weights) -> list[Line]:
    """Some rows and columns, spread over a tensor."""
    return [*_some_rows(weights), *_some_columns(weights)]


def pieces(weights: Weights) -> Iterator[list[Line]]:
    """All of a tensor, a part at a time: its rows, and their columns."""
    columns = weights.columns
    if columns > _PIECE_WEIGHTS:
        # One row after another, in parts.
        for first in range(0, weights.rows * columns, _PIECE_WEIGHTS):
            count = min(_PIECE_WEIGHTS, weights.rows * columns - first)
            part = min(_LONGEST, count)
            whole = count // part * part
            yield [Line("row", weights.read(first, whole).reshape(-1, part))]
        return
    height = weights.height
    most = max(1, min(height, _PIECE_WEIGHTS // columns))
    for matrix in range(0, weights.rows, height):
        for first in range(0, height, most):
            count = min(most, height - first)
            values = weights.read((matrix + first) * columns, count * columns)
            values = values.reshape(count, columns)
            part = min(columns, _LONGEST)
            whole = columns // part * part
            yield [
                Line("row", values[:, :whole].reshape(-1, part)),
                Line("column", np.ascontiguousarray(values.T)),
            ]


def _starts(count: int, length: int, total: int) -> list[int]:
    """Where so many runs of a length begin, spread over all."""
    count = max(1, min(count, total // length))
    return [i * (total - length) // max(1, count - 1) for i in range(count)]


def _some_rows(weights: Weights) -> Iterator[Line]:
    columns, rows = weights.columns, weights.rows
    part = min(columns, _LONGEST)
    run = max(1, min(rows, _RUN_WEIGHTS // part))
    found = []
    for i, row in enumerate(_starts(max(1, _WEIGHTS // (part * run)), run, rows)):
        if part == columns:
            found.append(weights.read(row * columns, run * columns).reshape(run, part))
        else:
            # Another part of each row.
            begin = i % (columns // part) * part
            found.append(weights.read(row * columns + begin, part).reshape(1, part))
    yield Line("row", np.concatenate(found))
    if columns % _FLAT_BLOCK and rows * columns >= _FLAT_RUN:
        runs = _starts(_FLAT_RUNS, 1, rows * columns // _FLAT_RUN)
        flat = [weights.read(run * _FLAT_RUN, _FLAT_RUN) for run in runs]
        yield Line("row", np.stack(flat), is_flat=True)


def _some_columns(weights: Weights) -> Iterator[Line]:
    columns, height = weights.columns, weights.height
    length = min(height, _LONGEST_COLUMN)
    wide = _COLUMN_WEIGHTS // (_COLUMN_RUNS * length)
    wide = min(columns, max(_LEAST_SIDE_BY_SIDE, min(wide, _MOST_SIDE_BY_SIDE)))
    matrices = weights.rows // height
    found = []
    for i, column in enumerate(_starts(_COLUMN_RUNS, wide, columns)):
        top = i * (matrices - 1) // max(1, _COLUMN_RUNS - 1) * height
        below = i % (height // length) * length
        lines = [
            weights.read((top + below + row) * columns + column, wide) for row in range(length)
        ]
        found.append(np.stack(lines).T)
    yield Line("column", np.ascontiguousarray(np.concatenate(found)))
