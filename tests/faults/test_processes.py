"""Processes that are killed or stopped, at moments drawn at random: nothing is lost or changed."""

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.contract.shards import stage_of
from orchestrator.contract.stages import STAGES
from tests.commands import run_cli, start_cli
from tests.faults.sweeps import (
    computed,
    processes_of,
    shard_count,
    tables_in,
    wait_until,
)

CHANCE = random.Random(30)


def started(sweep: list[str], results: Path, *flags: str, shards: int) -> "subprocess.Popen[str]":
    """A sweep that has finished so many shards."""
    process = start_cli([*sweep, *flags, "--results", str(results)])
    wait_until(lambda: process.poll() is not None or shard_count(results) >= shards)
    return process


def left_alone(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """How a sweep ends, and what it says."""
    _, error = process.communicate(timeout=200)
    return process.returncode, error


def test_a_driver_that_is_killed_again_and_again_loses_nothing(
    sweep: list[str], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    total = len(undisturbed["shards"])
    kills = 3
    for shards in sorted(CHANCE.sample(range(1, total - 1), kills)):
        process = started(sweep, tmp_path, shards=shards)
        time.sleep(CHANCE.uniform(0, 0.3))
        process.kill()
        process.communicate()
    found = run_cli([*sweep, "--results", str(tmp_path)])
    assert found.returncode == 0, found.stderr
    assert tables_in(tmp_path) == undisturbed
    counts = computed(tmp_path)
    # States are not stored: the reference's shards that leave some may be needed once more after
    # each kill, and no others.
    again = {name for name, count in counts.items() if count > 1}
    assert all(name.startswith("fp16/") and STAGES[stage_of(name)].is_compared for name in again)
    assert max(counts.values()) <= kills + 1


def test_actors_that_are_killed_are_replaced(
    sweep: list[str], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    total = len(undisturbed["shards"])
    process = started(sweep, tmp_path, shards=CHANCE.randrange(4, total // 2))
    for actor in processes_of(process.pid, "ray::ModelActor"):
        actor.kill()
    status, said = left_alone(process)
    assert status == 0, said
    assert "trying again" in said
    assert tables_in(tmp_path) == undisturbed


def test_an_actor_that_is_stopped_costs_its_deadline(
    sweep: list[str], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    process = started(sweep, tmp_path, "--shard-timeout", "20", shards=6)
    actors = processes_of(process.pid, "ray::ModelActor")
    stopped = CHANCE.choice(actors)
    began = time.monotonic()
    stopped.suspend()
    status, said = left_alone(process)
    assert status == 0, said
    assert "slow, no result after 10 s; ended at 20 s (--shard-timeout)" in said
    assert "no result after 20 s; trying again" in said
    assert time.monotonic() - began < 20 + 60
    assert tables_in(tmp_path) == undisturbed


def test_a_second_signal_ends_a_command_whose_raylet_does_not_answer(
    sweep: list[str], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    process = started(sweep, tmp_path, shards=4)
    below = psutil.Process(process.pid).children(recursive=True)
    (raylet,) = processes_of(process.pid, "raylet")
    raylet.suspend()
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    status, said = left_alone(process)
    assert time.monotonic() - began < 30
    assert status in (75, -signal.SIGTERM), said
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(below, timeout=10)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
    assert run_cli([*sweep, "--results", str(tmp_path)]).returncode == 0
    assert tables_in(tmp_path) == undisturbed


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_sweep_whose_ray_is_killed_ends_and_is_resumed(
    name: str, sweep: list[str], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    process = started(sweep, tmp_path, shards=CHANCE.randrange(2, 12))
    for one in processes_of(process.pid, name):
        one.kill()
    status, said = left_alone(process)
    assert status != 0 or tables_in(tmp_path) == undisturbed, said
    assert run_cli([*sweep, "--results", str(tmp_path)]).returncode == 0
    assert tables_in(tmp_path) == undisturbed


def test_of_two_drivers_one_is_refused_in_a_line(
    sweep: list[str], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    first = started(sweep, tmp_path, shards=2)
    first.send_signal(signal.SIGSTOP)
    try:
        second = run_cli([*sweep, "--results", str(tmp_path)])
    finally:
        first.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    (line,) = [line for line in second.stderr.splitlines() if line.startswith("error: ")]
    assert "is being written by another process" in line
    status, said = left_alone(first)
    assert status == 0, said
    assert tables_in(tmp_path) == undisturbed
