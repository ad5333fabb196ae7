"""A sweep as a Ray job, on a cluster that was started by hand."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.commands import told
from tests.places import REPOSITORY

BIN = Path(sys.executable).parent


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The dashboard's address of a head node with two cores, and the environment it runs in.

    With tokens, as `ray start --head` asks for them, in the way that cluster/README.md says.
    """
    port, dashboard, client = free_ports(3)
    environment = {
        **os.environ,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        # The token lies in there.
        "HOME": str(tmp_path),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    subprocess.run(
        [str(BIN / "ray"), "get-auth-token", "--generate"],
        env=environment,
        check=True,
        capture_output=True,
    )
    head = subprocess.Popen(
        [
            *(str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=2", "--num-gpus=0"),
            *(f"--port={port}", f"--dashboard-port={dashboard}"),
            *(f"--ray-client-server-port={client}", "--include-dashboard=true"),
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    environment["RAY_ADDRESS"] = f"127.0.0.1:{port}"
    try:
        yield f"http://127.0.0.1:{dashboard}", environment
    finally:
        # Only this cluster's processes: `ray stop` would end every one of the machine.
        family = psutil.Process(head.pid).children(recursive=True)
        head.terminate()
        _, alive = psutil.wait_procs(family, timeout=15)
        for process in alive:
            process.kill()
        head.wait(timeout=30)


def wait_until_listening(address: str, timeout_seconds: float = 60) -> None:
    from time import monotonic, sleep
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    deadline = monotonic() + timeout_seconds
    while True:
        try:
            urlopen(f"{address}/api/version", timeout=2).close()
            return
        except HTTPError as error:
            # It listens, and asks for the token.
            assert error.code == 401
            return
        except (URLError, OSError):
            if monotonic() > deadline:
                raise
            sleep(0.5)


def test_the_demo_sweep_runs_as_a_submitted_job(
    cluster: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    dashboard, environment = cluster
    wait_until_listening(dashboard)
    process = subprocess.run(
        [
            *(str(BIN / "ray"), "job", "submit", "--address", dashboard),
            *("--working-dir", ".", "--", str(BIN / "python"), "-m", "orchestrator"),
            *("--cluster", "auto", "--results", str(tmp_path / "r"), "--sweep", "demo"),
            *("--max-windows", "8", "--max-prompts", "2", "--max-new-tokens", "8"),
        ],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=270,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    (path,) = tmp_path.glob("r/*/comparison.json")
    comparison = json.loads(path.read_text())
    assert comparison["complete"]
    assert set(comparison["variants"]) == {"fp16", "int8", "nf4"}


def test_a_cluster_without_a_gpu_left_is_told_in_one_line(
    cluster: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    dashboard, environment = cluster
    wait_until_listening(dashboard)
    process = subprocess.run(
        [
            *(str(BIN / "python"), "-m", "orchestrator", "--cluster", environment["RAY_ADDRESS"]),
            *("--device", "cuda", "--results", str(tmp_path / "r")),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 2, process.stderr
    (line,) = told(process.stderr)
    assert line.startswith("error: --cluster: no GPU is left on ")
    assert not (tmp_path / "r").exists()
