"""Which nodes of a cluster have the files that models are loaded from. Pure but for looking."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.inputs.checkpoints import Checkpoint


@dataclass(frozen=True)
class Lacking:
    """A node that lacks a file that another one has.

    Attributes:
        node: Ray's id of it.
        file: the first of those that it lacks.
    """

    node: str
    file: str


def files_in_folders(checkpoints: Collection[Checkpoint]) -> list[str]:
    """The files that actors will read where the driver does; what the hub has they fetch."""
    return list(dict.fromkeys(_files(checkpoints)))


def _files(checkpoints: Collection[Checkpoint]) -> Iterator[str]:
    for checkpoint in checkpoints:
        for part in checkpoint.location.parts:
            folder = Path(part.id_or_path)
            if folder.is_absolute():
                yield from (str(folder / file) for file in part.files)


def missing(files: Sequence[str]) -> list[str]:
    """Those that are not on this machine."""
    return [file for file in files if not Path(file).is_file()]


def lacking(missed: Mapping[str, Sequence[str]]) -> list[Lacking]:
    """The nodes to leave out; none for a file that all of them lack, which is no node's fault.

    Args:
        missed: what each node lacks, by its id.
    """
    nowhere = set.intersection(*map(set, missed.values())) if missed else set()
    there = {node: [f for f in files if f not in nowhere] for node, files in missed.items()}
    return [Lacking(node, files[0]) for node, files in there.items() if files]
