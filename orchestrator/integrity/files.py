"""A folder, hub id or GGUF file → the tensors that are audited, and what the files say of them."""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.errors import BadInputError
from orchestrator.inputs.checkpoints import Checkpoint, declared_method, locate, read_config
from orchestrator.inputs.gguf_files import locate_gguf, names_gguf, open_gguf
from orchestrator.inputs.weight_files import StoredTensor, read_weights

Made = TypeVar("Made")

# Of threads; each holds one part of a tensor.
_MOST_AT_ONCE = 8
# Of Python's object format, by their customary names; and what loads as code beside a model.
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.joblib")
_CODE = ("*.py", "*.so", "*.pyc")
# What a file begins with that is a pickle (protocol 2 and later), whatever it is called.
_PICKLE_MAGIC = b"\x80"
_PICKLE_PROTOCOLS = range(2, 6)


@dataclass(frozen=True)
class AuditedFiles:
    """What there is to audit.

    Attributes:
        name: as the user calls it.
        folder: of its files; of a GGUF file the file itself.
        configuration: of a folder; of a GGUF file nothing.
        declared: by which method its configuration says that it is quantized, if it does; of a GGUF
            file the kinds of its tensors say it, each for itself.
    """

    name: str
    folder: Path
    tensors: tuple[StoredTensor, ...]
    configuration: Mapping[str, Any]
    declared: str | None

    @property
    def is_gguf(self) -> bool:
        """Whether it is one GGUF file."""
        return not self.folder.is_dir()

    def each_tensor(
        self, work: Callable[[StoredTensor], Made], done: Callable[[], None]
    ) -> list[Made]:
        """What some work makes of each tensor, in their order; several are worked at, by threads.

        Args:
            done: called after each, from its thread.
        """

        def worked(tensor: StoredTensor) -> Made:
            made = work(tensor)
            done()
            return made

        with ThreadPoolExecutor(min(_MOST_AT_ONCE, os.cpu_count() or 1)) as threads:
            return list(threads.map(worked, self.tensors))


def find_files(name: str, revision: str | None, setting: str) -> AuditedFiles:
    """Finds what a user names: `demo`, a folder, a hub id, or a GGUF file.

    Args:
        setting: the flag that named it, for messages.

    Raises:
        BadInputError: there is none, its files are damaged, or lead elsewhere.
    """
    if names_gguf(name):
        path, _ = locate_gguf(name, revision, setting)
        return _files_of_gguf(name, path, setting)
    folder, _ = locate(name, revision, setting)
    _check_links(folder, setting)
    return _files_of_folder(name, folder, setting)


def files_of(checkpoint: Checkpoint) -> AuditedFiles:
    """The files of a checkpoint that a sweep has found; of one with an adapter those without it.

    Raises:
        BadInputError: they are no longer as they were.
    """
    location, folder, setting = checkpoint.location, checkpoint.folder, "--model"
    if location.gguf_file is not None:
        return _files_of_gguf(location.name, folder / location.gguf_file, setting)
    return _files_of_folder(location.id_or_path, folder, setting)


def _files_of_gguf(name: str, path: Path, setting: str) -> AuditedFiles:
    tensors = tuple(
        StoredTensor(each, tensor.shape, tensor.bytes, tensor.kind, path, tensor.begin)
        for each, tensor in open_gguf(path, setting).tensors.items()
    )
    return AuditedFiles(name, path, tensors, {}, None)


def _files_of_folder(name: str, folder: Path, setting: str) -> AuditedFiles:
    stored = tuple(read_weights(name, folder, setting))
    configuration = read_config(name, folder, setting) if (folder / "config.json").exists() else {}
    return AuditedFiles(name, folder, stored, configuration, declared_method(configuration))


def _check_links(folder: Path, setting: str) -> None:
    """Refuses links that lead out of a folder; the hub's cache links to its own blobs."""
    home = folder.resolve()
    # …/models--org--name/snapshots/COMMIT
    allowed = [home, home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [home]
    for path in sorted(folder.iterdir()):
        target = path.resolve()
        if path.is_symlink() and not any(target.is_relative_to(place) for place in allowed):
            raise BadInputError(
                setting,
                f"{path} is a link out of the folder, to {target}; audit the folder that it leads "
                "to, or copy the file",
            )


def code_in(files: AuditedFiles) -> Iterator[str]:
    """What of a folder would run as code where it is loaded; each in words. Nothing is loaded."""
    if not files.is_gguf:
        yield from _code_files(files.folder)
    auto_map = files.configuration.get("auto_map")
    if auto_map:
        named = ", ".join(sorted(map(str, auto_map))) if isinstance(auto_map, dict) else "auto_map"
        yield f"config.json names code of the model's own (auto_map: {named})"


def _code_files(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        if any(path.match(pattern) for pattern in _CODE):
            yield f"{name} is code"
        elif any(path.match(pattern) for pattern in _PICKLES) or _is_pickle(path):
            yield f"{name} is, or may hold, a pickle, which runs code when it is loaded"


def _is_pickle(path: Path) -> bool:
    """Whether a file begins as a pickle does, or as the archive that torch packs one into."""
    with path.open("rb") as file:
        head = file.read(4)
    pickled = head[:1] == _PICKLE_MAGIC and len(head) > 1 and head[1] in _PICKLE_PROTOCOLS
    return pickled or head == b"PK\x03\x04"
