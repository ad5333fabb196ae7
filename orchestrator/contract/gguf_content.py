"""What a GGUF file says and holds, but for the numbers of its tensors: read once by either side."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

# Factors of rotary frequencies. The driver takes those for long and short inputs into the
# configuration; by the first, actors divide where the configuration scales in no other way.
FREQUENCY_FACTORS = "rope_freqs.weight"
LONG_FACTORS, SHORT_FACTORS = "rope_factors_long.weight", "rope_factors_short.weight"
FACTOR_TENSORS = frozenset({FREQUENCY_FACTORS, LONG_FACTORS, SHORT_FACTORS})


# Of single values: a vocabulary of 256,000 tokens with its merges takes two millions.
_MOST_READS = 4_000_000


@dataclass(frozen=True)
class GgufTensor:
    """A tensor of a file.

    Attributes:
        shape: as numpy has it.
        bytes: what it takes in the file.
        kind: the type of its numbers, as ggml calls it.
        begin: the place of its first byte in the file.
    """

    shape: tuple[int, ...]
    bytes: int
    kind: str
    begin: int


@dataclass(frozen=True)
class GgufContent:
    """What a file holds.

    Attributes:
        architecture: as llama.cpp calls it.
        values: its metadata, by key.
        tensors: by name.
        factors: the numbers of those in `FACTOR_TENSORS` that it has, by name.
    """

    architecture: str
    values: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]
    factors: Mapping[str, NDArray[Any]]


def read_content(path: Path) -> GgufContent:
    """Reads a file; a second time only where it has changed.

    Raises:
        ImportError: the package gguf is missing.
        ValueError, KeyError, IndexError, TypeError, OSError: it is not a whole file of the format.
    """
    found = path.stat()
    return _read(path, found.st_size, found.st_mtime_ns)


# A vocabulary takes the package seconds, and either side looks at a file more than once.
@lru_cache(maxsize=2)
def _read(path: Path, _size: int, _modified_ns: int) -> GgufContent:
    from gguf import GGUFReader

    class Reader(GGUFReader):  # type: ignore[misc]
        """One that believes no count that the file does not bear out.

        The package reads on behind the end of a file, as often as its counts say.
        """

        _reads = 0

        def _get(self, offset: int, dtype: Any, count: int = 1, *args: Any, **more: Any) -> Any:
            self._reads += 1
            if self._reads > _MOST_READS or not 0 <= int(count) <= self.data.nbytes:
                raise ValueError("counts beyond those of any model")
            found = super()._get(offset, dtype, count, *args, **more)
            if len(found) != int(count):
                raise ValueError("it ends before what its counts say")
            return found

    reader = Reader(path)
    values = {key: field.contents() for key, field in reader.fields.items()}
    return GgufContent(
        architecture=str(values.get("general.architecture")),
        values=values,
        tensors={
            tensor.name: GgufTensor(
                shape=tuple(int(size) for size in reversed(tensor.shape)),
                bytes=int(tensor.n_bytes),
                kind=tensor.tensor_type.name,
                begin=int(tensor.data_offset),
            )
            for tensor in reader.tensors
        },
        # Copied: what is left of the reader would keep the file open.
        factors={t.name: t.data.copy() for t in reader.tensors if t.name in FACTOR_TENSORS},
    )
