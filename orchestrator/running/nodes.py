"""What the nodes of a cluster have, and which of them are of use. Pure but for looking."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.inputs.checkpoints import Checkpoint
from orchestrator.planning.devices import free_host_bytes, gpus_here
from orchestrator.units import binary_size


@dataclass(frozen=True)
class Needs:
    """What a node must have so that actors of every variant can be started on it.

    Attributes:
        files: by their paths.
        gpu_bytes: of a GPU's memory, where models run on GPUs; as far as that can be foreseen.
    """

    files: tuple[str, ...] = ()
    gpu_bytes: int = 0


NOTHING = Needs()


@dataclass(frozen=True)
class NodeReport:
    """What a node has.

    Attributes:
        missing: those of the files that it lacks.
        gpu_bytes: the memory of its smallest GPU, used or not; None where that cannot be seen.
        host_bytes: of its own memory, what is free; None where that is not known.
        capability: of the least of its GPUs; None where that cannot be seen.
    """

    missing: tuple[str, ...] = ()
    gpu_bytes: int | None = None
    host_bytes: int | None = None
    capability: tuple[int, int] | None = None


@dataclass(frozen=True)
class LeftOut:
    """A node on which no actor is started.

    Attributes:
        node: Ray's id of it.
        why: what it lacks and what to do about it, behind its name.
    """

    node: str
    why: str


def files_in_folders(checkpoints: Collection[Checkpoint]) -> tuple[str, ...]:
    """The files that actors will read where the driver does; what the hub has they fetch."""
    return tuple(dict.fromkeys(_files(checkpoints)))


def _files(checkpoints: Collection[Checkpoint]) -> Iterator[str]:
    for checkpoint in checkpoints:
        for part in checkpoint.location.parts:
            folder = Path(part.id_or_path)
            if folder.is_absolute():
                yield from (str(folder / file) for file in part.files)


def look(files: Sequence[str]) -> NodeReport:
    """What this machine has."""
    gpus = gpus_here()
    return NodeReport(
        missing=tuple(file for file in files if not Path(file).is_file()),
        gpu_bytes=min((one.total_bytes for one in gpus), default=None),
        host_bytes=free_host_bytes(),
        capability=min((one.capability for one in gpus), default=None),
    )


def left_out(reports: Mapping[str, NodeReport], needs: Needs) -> list[LeftOut]:
    """The nodes that are of no use, where others are: what all of them lack is no fault of theirs.

    Args:
        reports: by node.
    """
    found = list(_without_files(reports))
    rest = {node: reports[node] for node in reports.keys() - {one.node for one in found}}
    small = [
        node
        for node, report in rest.items()
        if report.gpu_bytes is not None and report.gpu_bytes < needs.gpu_bytes
    ]
    if len(small) < len(rest):
        needed = binary_size(needs.gpu_bytes)
        for node in small:
            has = binary_size(rest[node].gpu_bytes or 0)
            found.append(LeftOut(node, f"has a GPU of {has}, and a variant needs {needed}"))
    return found


def _without_files(reports: Mapping[str, NodeReport]) -> Iterator[LeftOut]:
    missing = {node: set(report.missing) for node, report in reports.items()}
    nowhere = set.intersection(*missing.values()) if missing else set()
    for node, report in reports.items():
        first = next((file for file in report.missing if file not in nowhere), None)
        if first is not None:
            yield LeftOut(node, f"lacks {first}; put the files there, at the same path")
