"""Sweeps to be disturbed: what they leave, and the processes that they are."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from orchestrator.storage.results_folder import ResultsFolder

# What two runs of the same need not share: how long things took, and what memory there was.
_MEASURED_ANEW = ("seconds", "bytes", "milliseconds", "share_of_copy", "bandwidth")


def tables_in(results: Path) -> dict[str, Any]:
    """The tables of the one run in a folder, less times and bytes."""
    (folder,) = results.glob("*/tables")
    found = {}
    for path in sorted(folder.glob("*.parquet")):
        table = pq.read_table(path)
        kept = [name for name in table.column_names if not _is_measured_anew(name)]
        found[path.stem] = table.select(kept).to_pylist()
    return found


def _is_measured_anew(name: str) -> bool:
    return any(word in name for word in _MEASURED_ANEW)


def shard_count(results: Path) -> int:
    """How many shards of the runs in a folder are finished."""
    return len(list(results.glob("*/shards/*/*.arrow")))


def computed(results: Path) -> Counter[str]:
    """How often each shard was computed, as the run's events have it."""
    (folder,) = ResultsFolder.at(results).runs()
    events = folder.read_events().events
    return Counter(str(event.shard) for event in events if event.event == "shard_computed")


def wait_until(true: Callable[[], bool], timeout_seconds: float = 120) -> None:
    """Waits for something, and fails where it does not come."""
    deadline = time.monotonic() + timeout_seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def processes_of(driver: int, name: str) -> list[psutil.Process]:
    """The processes below a driver of such a name: `raylet`, `gcs_server`, `ray::ModelActor`."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.Error):
            if name in " ".join([process.name(), *process.cmdline()[:1]]):
                found.append(process)
    return found
