"""Ray takes over a process that imported while Ray started."""

import subprocess
import sys

SCRIPT = """
import os
import sys

import psutil
import ray
from orchestrator.running.imported_ahead import importing
from orchestrator.running.ray_cluster import connected
from orchestrator.running.ray_pool import RayPool
from orchestrator.settings_layers import resolve_settings

def look(actor):
    return os.getpid(), "actors.transformers_engine" in sys.modules, psutil.Process().nice()

with importing() as python, connected(resolve_settings({"device": "cpu"})):
    children = psutil.Process().children()
    (ahead,) = [one.pid for one in children if "actors.imported" in one.cmdline()]
    pool = RayPool(threads=1, name="a-run", first_python=python)
    first = pool.start(gpus=0)
    print(*ray.get(first.handle.__ray_call__.remote(look)), ahead)
    pool.stop(first)
    # Its device is free for the next one.
    second = pool.start(gpus=0)
    print(*ray.get(second.handle.__ray_call__.remote(look)), ahead)
    print(psutil.pid_exists(ahead))
"""


def test_the_first_actor_has_the_libraries_and_ends_when_it_is_stopped() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=200
    )
    assert ran.returncode == 0, ran.stderr
    first, second, still_there = ran.stdout.splitlines()
    process, has, nice, ahead = first.split()
    assert (process, has, nice) == (ahead, "True", "0")
    process, has, nice, ahead = second.split()
    assert process != ahead
    assert (has, nice) == ("False", "0")
    assert still_there == "False"
