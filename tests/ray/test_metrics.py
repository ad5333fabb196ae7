"""What Prometheus finds of a sweep: real Ray, its own exporter."""

import os
import subprocess
import sys
from pathlib import Path

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


def test_each_node_shows_prometheus_how_the_sweep_stands(
    tiny_sweep: list[str], tmp_path: Path
) -> None:
    kept = tmp_path / "scraped"
    place = ("--cluster", "local", "--results", str(tmp_path / "results"), "--run-id", "watched")
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(kept), "run", *tiny_sweep, *place],
        capture_output=True,
        text=True,
        # As a rule every ten seconds.
        env={**os.environ, "RAY_metrics_report_interval_ms": "500", "HF_HUB_OFFLINE": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    seen: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(kept.read_text()):
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
