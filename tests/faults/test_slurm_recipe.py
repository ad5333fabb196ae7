"""The recipe for Slurm, run for real with stand-ins for what only a cluster has.

`srun` starts its tasks here, and `ray symmetric-run` processes of its own, which it alone ends: the
real one ends every Ray of its user on the machine.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.sweeps import shard_count, tables_in, wait_until
from tests.places import REPOSITORY
from tests.ray.test_ray_job import free_ports

BIN = Path(sys.executable).parent

_SRUN = """
import os, subprocess, sys
tasks = [
    subprocess.Popen(sys.argv[1:], env={**os.environ, "SLURM_PROCID": str(number)})
    for number in range(int(os.environ["SLURM_JOB_NUM_NODES"]))
]
status = tasks[0].wait()
for task in tasks[1:]:
    task.terminate()
    task.wait()
sys.exit(status)
"""

_SCONTROL = """
import os, pathlib, sys
if sys.argv[1:3] == ["show", "hostnames"]:
    print("127.0.0.1\\nanother")
elif sys.argv[1] == "requeue":
    pathlib.Path(os.environ["REQUEUED"]).write_text(sys.argv[2])
else:
    sys.exit(f"scontrol {sys.argv[1:]}")
"""

_RAY = """
import os, signal, subprocess, sys, time
import psutil
import ray
verb, *arguments = sys.argv[1:]
assert verb == "symmetric-run"
address = arguments[arguments.index("--address") + 1]
nodes = int(arguments[arguments.index("--min-nodes") + 1])
command = arguments[arguments.index("--") + 1 :]
first = os.environ["SLURM_PROCID"] == "0"
agent, metrics, client = os.environ[f"PORTS_{os.environ['SLURM_PROCID']}"].split(",")
head = ["--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false",
        f"--ray-client-server-port={client}"]
where = [*(head if first else [f"--address={address}"]), "--node-ip-address=127.0.0.1",
         f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}"]
start = [os.environ["REAL_RAY"], "start", "--block", "--num-cpus=1", "--num-gpus=0", *where]
if not first:
    time.sleep(4)
mine = subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

def end_mine(*_):
    for process in [*psutil.Process(mine.pid).children(recursive=True), psutil.Process(mine.pid)]:
        process.kill()

signal.signal(signal.SIGTERM, end_mine)
if not first:
    sys.exit(mine.wait())
os.environ["RAY_ADDRESS"] = address
deadline = time.monotonic() + 60
while True:
    try:
        ray.init(logging_level="ERROR")
        there = len([node for node in ray.nodes() if node["Alive"]])
        ray.shutdown()
    except Exception:
        there = 0
    if there >= nodes:
        break
    assert time.monotonic() < deadline, there
    time.sleep(0.5)
status = subprocess.run(command).returncode
end_mine()
mine.wait()
sys.exit(status)
"""


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """The environment of a job of two nodes."""
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    for name, text in {"srun": _SRUN, "scontrol": _SCONTROL, "ray": _RAY}.items():
        (stand_ins / name).write_text(f"#!{BIN / 'python'}\n{text}")
        (stand_ins / name).chmod(0o755)
    ports = list(map(str, free_ports(6)))
    return {
        **os.environ,
        "PATH": f"{stand_ins}:{os.environ['PATH']}",
        "REAL_RAY": str(BIN / "ray"),
        "PORTS_0": ",".join(ports[:3]),
        "PORTS_1": ",".join(ports[3:]),
        "REQUEUED": str(tmp_path / "requeued"),
        "PYTHON": str(BIN / "python"),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "made-up[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "RESULTS": str(tmp_path / "results"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def started(job: dict[str, str], sweep: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["bash", str(REPOSITORY / "cluster" / "slurm" / "sweep.sbatch"), *sweep],
        env=job,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_job_whose_time_is_over_is_queued_again_and_goes_on(
    job: dict[str, str], sweep: list[str], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    with started(job, sweep) as first:
        wait_until(lambda: first.poll() is not None or shard_count(results) >= 4)
        first.send_signal(signal.SIGTERM)
        said, _ = first.communicate(timeout=120)
    assert first.returncode == 75, said
    assert "stopped early" in said
    assert (tmp_path / "requeued").read_text() == job["SLURM_JOB_ID"]
    kept = shard_count(results)
    assert 4 <= kept < len(undisturbed["shards"])
    (tmp_path / "requeued").unlink()
    with started(job, sweep) as second:
        said, _ = second.communicate(timeout=240)
    assert second.returncode == 0, said
    assert f"{kept} shards done" in said
    assert not (tmp_path / "requeued").exists()
    assert tables_in(results) == undisturbed


def test_without_a_place_for_results_nothing_is_started(job: dict[str, str]) -> None:
    del job["RESULTS"]
    with started(job, []) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "name a folder that every node sees, or a URL" in said
