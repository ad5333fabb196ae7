"""What a sweep on real Ray shows of itself: to Prometheus its figures, to nobody a secret."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.running.metrics import METRICS

# Runs the command line while a thread reads what each node shows, as Prometheus does.
SCRIPT = """
import sys, time
from pathlib import Path
from threading import Thread
from urllib.request import urlopen

import ray
from orchestrator.cli import run_command

def scrape(file):
    while True:
        time.sleep(0.2)
        if ray.is_initialized():
            try:
                node = ray.nodes()[0]
                address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
                text = urlopen(f"{address}/metrics", timeout=5).read().decode()
            except (OSError, IndexError, RuntimeError):
                continue
            with file.open("a") as kept:
                kept.writelines(f"{line}\\n" for line in text.splitlines() if "ray_sweep" in line)

Thread(target=scrape, args=(Path(sys.argv[1]),), daemon=True).start()
sys.exit(run_command(sys.argv[2:]))
"""


# As the hub makes them; nobody's.
HUB_TOKEN = "hf_" + "Planted" * 5


@dataclass(frozen=True)
class Watched:
    """A sweep that is over.

    Attributes:
        scraped: all that was shown of it to Prometheus.
        said: on both streams.
        folders: of its results, and of Ray.
    """

    scraped: str
    said: str
    folders: tuple[Path, Path]


@pytest.fixture(scope="module")
def watched(tiny_sweep: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    kept, results = folder / "scraped", folder / "results"
    place = ("--cluster", "local", "--results", str(results), "--run-id", "watched")
    # Ray's own paths are to be short.
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        environment = {
            "RAY_TMPDIR": short,
            # As a rule every ten seconds.
            "RAY_metrics_report_interval_ms": "500",
            "HF_TOKEN": HUB_TOKEN,
            "HF_HUB_OFFLINE": "1",
        }
        ran = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(kept), "run", *tiny_sweep, *place],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
        )
        assert ran.returncode == 0, ran.stderr
        yield Watched(kept.read_text(), ran.stdout + ran.stderr, (results, Path(short)))


def test_a_token_of_the_hub_is_in_no_file_of_a_sweep_nor_of_ray(watched: Watched) -> None:
    assert HUB_TOKEN not in watched.said
    read = [path for root in watched.folders for path in root.rglob("*") if path.is_file()]
    assert {"report.html", "raylet.out"} <= {path.name for path in read}
    assert not [path for path in read if HUB_TOKEN.encode() in path.read_bytes()]


def test_each_node_shows_prometheus_how_the_sweep_stands(watched: Watched) -> None:
    seen: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(watched.scraped):
        for sample in family.samples:
            seen.setdefault(sample.name.removeprefix("ray_"), []).append(sample.labels)
    # Nothing failed.
    assert seen.keys() & METRICS.keys() == METRICS.keys() - {"sweep_failures_total"}
    for name, samples in seen.items():
        if name in METRICS:
            assert all({"run", *METRICS[name].labels} <= labels.keys() for labels in samples)
            assert {labels["run"] for labels in samples} == {"watched"}
    shown = {(one["variant"], one["state"]) for one in seen["sweep_shards"]}
    # What is shown for seconds, however short the sweep.
    assert shown >= {("fp16", "done"), ("nf4", "waiting")}
    assert "loading" in {one["phase"] for one in seen["sweep_devices"]}
