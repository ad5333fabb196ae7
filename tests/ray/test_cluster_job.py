"""A sweep as a job on a cluster of several nodes: one goes, one comes, the job is stopped."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster
from ray.job_submission import JobSubmissionClient

from tests.commands import flags_of, run_cli
from tests.faults.sweeps import computed, shard_count, tables_in, wait_until
from tests.pipeline import write_inputs
from tests.places import REPOSITORY
from tests.ray.test_ray_job import free_ports, wait_until_listening
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

BIN = Path(sys.executable).parent


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head with a dashboard and no core for actors, and two nodes of one each."""
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
    (dashboard,) = free_ports(1)
    head = {
        "num_cpus": 0,
        "_system_config": quick,
        "include_dashboard": True,
        "dashboard_port": dashboard,
    }
    started = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            started.add_node(num_cpus=1)
        started.wait_for_nodes()
        url = f"http://{started.webui_url}"
        wait_until_listening(url)
        wait_until(lambda: takes_jobs(url))
        yield started
    finally:
        started.shutdown()


def takes_jobs(url: str) -> bool:
    """Whether an agent is there that takes jobs, which comes a moment after its node."""
    try:
        JobSubmissionClient(url).submit_job(entrypoint="true")
    except (RuntimeError, ConnectionError):
        return False
    return True


class Job:
    """A submission of a sweep."""

    def __init__(self, cluster: Cluster, name: str, arguments: list[str]) -> None:
        self._address = f"http://{cluster.webui_url}"
        self._name = name
        # Without a working folder of its own: nodes that share a machine share the copy of one, and
        # each takes it away.
        # By its address: `auto` may find another cluster of this machine.
        flags = ["--cluster", cluster.address, *arguments]
        command = [str(BIN / "python"), "-m", "orchestrator", *flags]
        self.process = subprocess.Popen(
            [*self._ray("submit"), "--submission-id", name, "--", *command],
            cwd=REPOSITORY,
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _ray(self, verb: str) -> list[str]:
        return [str(BIN / "ray"), "job", verb, "--address", self._address]

    def stop(self) -> None:
        subprocess.run([*self._ray("stop"), self._name], check=True, capture_output=True)

    def ended(self) -> tuple[int, str]:
        """Its exit status, and what it said."""
        said, _ = self.process.communicate(timeout=240)
        return self.process.returncode, said


@contextmanager
def submitted(cluster: Cluster, name: str, arguments: list[str]) -> Iterator[Job]:
    job = Job(cluster, name, arguments)
    try:
        yield job
    finally:
        job.process.kill()


def test_a_job_loses_a_node_gains_one_is_stopped_and_submitted_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    inputs = write_inputs(tmp_path / "inputs", SAMPLE_ROWS * 4)
    model = str(make_tiny_model(tmp_path / "model"))
    sweep = flags_of(
        model=model, **inputs, variants="fp16,nf4", max_new_tokens=4, shard_size=1, batch_tokens=1
    )
    alone, results = tmp_path / "alone", tmp_path / "results"
    # With a thread for each model, as on nodes of one core.
    ran = run_cli([*sweep, "--cluster", "none", "--results", str(alone)], cores=1)
    assert ran.returncode == 0, ran.stderr
    undisturbed = tables_in(alone)
    flags = [*sweep, "--results", str(results)]
    with submitted(cluster, "first", flags) as job:

        def has(shards: int) -> bool:
            assert job.process.poll() is None, job.ended()
            return shard_count(results) >= shards

        wait_until(lambda: has(4))
        lost = max(cluster.worker_nodes, key=lambda node: node.node_id)
        cluster.remove_node(lost, allow_graceful=False)
        cluster.add_node(num_cpus=1)
        seen = shard_count(results)
        wait_until(lambda: has(seen + 1))
        job.stop()
        _, said = job.ended()
    kept = shard_count(results)
    assert kept < len(undisturbed["shards"]), said
    before = computed(results)
    with submitted(cluster, "second", flags) as job:
        status, said = job.ended()
    assert status == 0, said
    assert tables_in(results) == undisturbed
    # Only the reference runs again what others need its states of.
    again = computed(results) - before
    assert not [shard for shard in again if shard in before and not shard.startswith("fp16/")]
