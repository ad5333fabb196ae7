"""How long a resumed run takes to know what is finished, and to check that it is whole.

Usage: python -m benchmarks.resume [--shards 10000]

The run is the demo's but for its shards, which are so many copies of one of its windows.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from orchestrator.contract.manifest import Manifest
from orchestrator.contract.shards import ShardRecord
from orchestrator.process import guarded
from orchestrator.settings import Settings
from orchestrator.storage.results_folder import ResultsFolder
from orchestrator.storage.store import RunStore
from orchestrator.sweep import run_sweep

T = TypeVar("T")


def main() -> int:
    """Prints the seconds of each step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shards", type=int, default=10_000)
    count = parser.parse_args().shards
    with tempfile.TemporaryDirectory() as folder:
        results = ResultsFolder.at(Path(folder))
        manifest, size = _make(results, count)
        run = results.run(manifest.run_id)
        print(f"{count} shards of {size} bytes")
        _timed("run.json read", run.read_manifest)
        done = _timed("finished shards known by their names", lambda: run.finished(manifest))
        assert len(done) == len(manifest.shards)
        with RunStore(results, manifest) as store:
            damaged = _timed("all of them read and checked", store.set_aside_damaged)
        assert not damaged
    return 0


def _make(results: ResultsFolder, count: int) -> tuple[Manifest, int]:
    """A run with so many shards of windows, and what each takes."""
    settings = Settings(
        cluster="none",
        variants=("fp16",),
        max_windows=1,
        max_prompts=0,
        results=results.path,
        run_id="r",
    )
    assert run_sweep(settings) == 0
    folder = results.run("r")
    manifest = folder.read_manifest()
    window = next(one for one in manifest.shards if one.stage == "windows")
    table = folder.read_shard(window)
    records = [_numbered(window, number) for number in range(count)]
    for record in records:
        folder.write_shard(record, table)
    manifest = manifest.model_copy(update={"shards": tuple(records)})
    folder.write_manifest(manifest)
    return manifest, folder.shard_path(records[0]).stat().st_size


def _numbered(record: ShardRecord, number: int) -> ShardRecord:
    return record.model_copy(update={"index": number, "fingerprint": f"{number:064x}"})


def _timed(what: str, work: Callable[[], T]) -> T:
    began = time.perf_counter()
    found = work()
    print(f"{what}: {time.perf_counter() - began:.2f} s")
    return found


if __name__ == "__main__":
    raise SystemExit(guarded(main))
