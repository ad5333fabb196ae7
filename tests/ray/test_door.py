"""Who reaches a cluster: of one for this machine alone nobody else, of others who has the token."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.commands import told

# The script of the same environment.
HEAD_FLAGS = ("--num-cpus=1", "--include-dashboard=false", "--disable-usage-stats")
RAY = str(Path(sys.executable).with_name("ray"))
SCRIPT = """
import os

import psutil
import ray
from orchestrator.running.ray_cluster import connected
from orchestrator.running.ray_pool import RayPool
from orchestrator.settings_layers import resolve_settings

with connected(resolve_settings({})):
    print("authentication", os.environ.get("RAY_AUTH_MODE"))
    named = RayPool(threads=1, name="a-run").start(gpus=0)
    print("actors", *ray.util.list_named_actors())
    actor = ray.remote(type("Actor", (), {"answer": lambda self: 42})).remote()
    assert ray.get(actor.answer.remote()) == 42
    for process in psutil.Process().children(recursive=True):
        for one in process.net_connections(kind="inet"):
            if one.status == psutil.CONN_LISTEN or one.type.name == "SOCK_DGRAM":
                print(process.name(), one.laddr.ip)
"""


def test_what_a_local_cluster_starts_listens_on_the_loopback_address() -> None:
    found = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    first, actors, *lines = found.stdout.splitlines()
    # What Ray's dashboard calls them.
    assert actors == "actors a-run/actor-1"
    # Whoever is on this machine, too, must have its token.
    assert first == "authentication token"
    listening = [line.rsplit(" ", 1) for line in lines]
    assert {"gcs_server", "raylet"} <= {name for name, _ in listening}
    assert {ip.removeprefix("::ffff:") for _, ip in listening} <= {"127.0.0.1", "::1"}


@pytest.fixture(scope="module")
def guarded_head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster that asks for a token."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = subprocess.Popen(
        [RAY, "start", "--head", "--block", f"--port={port}", *HEAD_FLAGS],
        env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a-token-of-its-own" * 2},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield f"127.0.0.1:{port}"
    finally:
        for process in psutil.Process(head.pid).children(recursive=True):
            process.kill()
        head.kill()
        head.wait()


def test_a_cluster_that_wants_a_token_is_told_as_that_in_a_line(
    guarded_head: str, tiny_sweep: list[str], tmp_path: Path
) -> None:
    host, port = guarded_head.split(":")
    for _ in range(300):
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            break
        time.sleep(0.1)
    plain = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    place = ("--cluster", guarded_head, "--results", str(tmp_path))
    ran = subprocess.run(
        [sys.executable, "-m", "orchestrator", *tiny_sweep, *place],
        capture_output=True,
        text=True,
        env=plain,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert told(ran.stderr) == [
        f"error: --cluster: '{guarded_head}' wants a token, and this one is missing or wrong; set "
        "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) as on its head"
    ]
