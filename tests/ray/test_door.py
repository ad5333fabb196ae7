"""A cluster that is for this machine alone is reached by nobody else."""

import subprocess
import sys

SCRIPT = """
import os

import psutil
import ray
from orchestrator.running.ray_cluster import connected
from orchestrator.settings import resolve_settings

with connected(resolve_settings({})):
    print("authentication", os.environ.get("RAY_AUTH_MODE"))
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
    first, *lines = found.stdout.splitlines()
    # Whoever is on this machine, too, must have its token.
    assert first == "authentication token"
    listening = [line.rsplit(" ", 1) for line in lines]
    assert {"gcs_server", "raylet"} <= {name for name, _ in listening}
    assert {ip.removeprefix("::ffff:") for _, ip in listening} <= {"127.0.0.1", "::1"}
