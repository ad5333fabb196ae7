"""Noise in a model's weights before they are quantized: a checkpoint with it, beside the original.

A checkpoint is written anew, a tensor at a time, and loaded like any other: so every format and
architecture takes noise that takes plain weights. It is removed once it is loaded.
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import safe_open

from actors.cells import CELLS
from orchestrator.contract.noise import ABSOLUTE, Noise
from orchestrator.contract.shards import Assignment, ModelLocation
from orchestrator.contract.variant_errors import CannotLoadError
from orchestrator.contract.variant_names import read_words
from orchestrator.contract.variants import FILE_DTYPES

_WEIGHTS = ".safetensors"
# Of a number, by what files call its dtype.
_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}


@dataclass(frozen=True)
class NoiseMeasures:
    """What was added.

    Attributes:
        sigma: root mean square of the tensors' standard deviations, over their weights.
        codes_changed_share: of the weights, those that are rounded to another level than without
            it; None where nothing rounds them.
    """

    sigma: float
    codes_changed_share: float | None


@contextmanager
def noised(assignment: Assignment) -> Iterator[tuple[ModelLocation, NoiseMeasures | None]]:
    """Where the weights are that a variant is loaded from, and what was added to them.

    Raises:
        CannotLoadError: there is no room for a second checkpoint.
    """
    noise, location = assignment.variant.noise, assignment.location
    if noise is None:
        yield location, None
        return
    with TemporaryDirectory(prefix="quantization-orchestrator-") as name:
        folder = Path(name)
        writer = _Writer(noise, assignment)
        try:
            for file in location.files:
                source = _local(location, file)
                if file.endswith(_WEIGHTS):
                    writer.write(source, folder / file)
                else:
                    (folder / file).symlink_to(source)
        except OSError as error:
            raise CannotLoadError(
                f"variant {assignment.variant.name}: its weights with noise cannot be written to "
                f"{folder} ({error.strerror}); set TMPDIR to a folder with room for the model"
            ) from None
        yield ModelLocation(id_or_path=name, files=location.files), writer.measures()


def _local(location: ModelLocation, file: str) -> Path:
    """A file on this machine, fetched if it is of a hub id and not here yet."""
    folder = Path(location.id_or_path)
    if folder.is_dir():
        return (folder / file).resolve()
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(location.id_or_path, file, revision=location.revision))


def drawn(noise: Noise, name: str, shape: Sequence[int]) -> torch.Tensor:
    """Standard normal numbers, float32, by the seed and the tensor's name alone."""
    digest = hashlib.sha256(f"{noise.seed}\0{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


class _Writer:
    """Writes files of weights with noise in those that the quantizer takes."""

    def __init__(self, noise: Noise, assignment: Assignment) -> None:
        self._noise = noise
        self._names = frozenset(assignment.noisy)
        # As loading would cast them, from what they are in the file at once.
        self._dtype = assignment.variant.weights_dtype
        own = read_words(assignment.variant.name).base
        self._rounded_by = CELLS.get(own if noise.unit == ABSOLUTE else noise.unit)
        self._weights = self._changed = 0
        self._squares = 0.0

    def measures(self) -> NoiseMeasures:
        """What was added so far."""
        count = max(1, self._weights)
        share = None if self._rounded_by is None else self._changed / count
        return NoiseMeasures(math.sqrt(self._squares / count), share)

    def write(self, source: Path, target: Path) -> None:
        """Writes a file, a tensor at a time."""
        with safe_open(source, framework="pt") as tensors, target.open("wb") as file:
            names = list(tensors.keys())
            slices = {name: tensors.get_slice(name) for name in names}
            layout = {name: self._layout(name, slices[name]) for name in names}
            file.write(_header(layout))
            for name in names:
                tensor = tensors.get_tensor(name)
                if name in self._names:
                    tensor = self._with_noise(name, tensor)
                file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)

    def _layout(self, name: str, part: object) -> tuple[str, list[int], int]:
        dtype, shape = part.get_dtype(), list(part.get_shape())  # type: ignore[attr-defined]
        if name in self._names:
            dtype = FILE_DTYPES[self._dtype]
        return dtype, shape, math.prod(shape)

    def _with_noise(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        weights = tensor.float()
        sigma = self._noise.sigma
        before = None if self._rounded_by is None else self._rounded_by(weights)
        if self._noise.unit != ABSOLUTE:
            assert before is not None
            sigma *= float(before.half_widths.median())
        noisy = (weights + sigma * drawn(self._noise, name, weights.shape)).to(
            getattr(torch, self._dtype)
        )
        self._weights += weights.numel()
        self._squares += sigma * sigma * weights.numel()
        if before is not None and self._rounded_by is not None:
            after = self._rounded_by(noisy.float())
            self._changed += int((after.codes != before.codes).sum())
        return noisy


def _header(layout: Mapping[str, tuple[str, list[int], int]]) -> bytes:
    """That of a safetensors file: lengths, dtypes and places, in the order of the file."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, (dtype, shape, count) in layout.items():
        end = begin + count * _BYTES[dtype]
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
