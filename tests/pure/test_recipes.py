"""What people copy from `cluster/` is right as far as it can be seen without a cluster."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import ray
import yaml
from jsonschema import Draft7Validator

from orchestrator.cli import Run, parse_command
from orchestrator.running.metrics import METRICS
from tests.places import REPOSITORY

CLUSTER = REPOSITORY / "cluster"
RECIPES = sorted(path for path in CLUSTER.rglob("*") if path.is_file())
BIN = Path(sys.executable).parent
_COMMAND = re.compile(r"""(?:python|"\$PYTHON") -m orchestrator ([^'`\n]*)""")


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of each `python -m orchestrator` in a file, as a shell would hand them over."""
    # Lines that go on, by a shell's sign, in a comment or not, or by YAML's folding.
    joined = re.sub(r"\\\n[#\s]*", " ", text)
    joined = re.sub(r">-\n\s+(.*)\n\s+(--.*)\n", r"\1 \2\n", joined)
    for found in _COMMAND.findall(joined):
        words = shlex.split(found.replace('"$@"', ""), comments=True)
        yield [word.replace("$RESULTS", "/results") for word in words if word not in ("&", "…")]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(CLUSTER)))
def test_every_command_line_in_a_recipe_is_one(path: Path) -> None:
    for words in commands(path.read_text()):
        if words and words[0] != "--help":
            command = parse_command(words)
            if isinstance(command, Run):
                settings = command.resolved()
                assert settings.cluster != "auto" or not settings.results.startswith("results")


def test_recipes_have_command_lines() -> None:
    found = {path.name: len([*commands(path.read_text())]) for path in RECIPES}
    assert found["rayjob.yaml"] == found["sweep.sbatch"] == found["skypilot.yaml"] == 1
    assert found["README.md"] > 5


def manifests(name: str) -> list[dict[str, Any]]:
    return [*yaml.safe_load_all((CLUSTER / "kuberay" / name).read_text())]


@pytest.mark.parametrize("name", ["rayjob.yaml", "raycluster.yaml"])
def test_a_kuberay_cluster_is_of_the_pinned_ray_and_its_workers_have_gpus(name: str) -> None:
    spec = manifests(name)[0]["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    assert f"ray=={cluster['rayVersion']}" in (REPOSITORY / "constraints.txt").read_text()
    (workers,) = cluster["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    assert head["image"] == container["image"]
    # Only the driver, on the head, has need of the bucket; the cache of weights is everybody's.
    assert head["volumeMounts"] == container["volumeMounts"]


def test_kuberay_knows_what_is_said_to_it() -> None:
    crd = Path("/usr/share/kuberay/ray.io_rayjobs.yaml")
    if not crd.exists():
        pytest.skip(f"KubeRay's definitions are not there ({crd})")
    kept = yaml.safe_load(crd.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    Draft7Validator(kept).validate(manifests("rayjob.yaml")[0])


def queries() -> list[tuple[str, str]]:
    """Each query of the dashboard with its legend; Grafana's variables have some value."""
    dashboard = json.loads((CLUSTER / "grafana" / "sweeps.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    said = [(target["expr"], target["legendFormat"]) for target in targets]
    return [(q.replace("$__rate_interval", "1m").replace("$run", ".*"), name) for q, name in said]


def test_the_dashboard_shows_every_metric_by_labels_that_it_has() -> None:
    shown = set()
    for query, legend in queries():
        promql_parser.parse(query)
        metrics = re.findall(r"ray_(sweep_\w+)\{", query)
        labels = {label for name in metrics for label in ("run", *METRICS[name].labels)}
        asked = re.findall(r"by \(([^)]*)\)", query)
        assert {label for some in asked for label in some.split(", ")} <= labels
        assert set(re.findall(r"(\w+)=", query)) <= labels
        grouped = {label for some in asked for label in some.split(", ")}
        assert set(re.findall(r"{{(\w+)}}", legend)) <= grouped
        shown |= set(metrics)
    assert shown == METRICS.keys()


def test_ray_up_takes_its_file() -> None:
    schema = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    kept = yaml.safe_load((CLUSTER / "ray-up" / "aws.yaml").read_text())
    Draft7Validator(json.loads(schema.read_text())).validate(kept)
    assert kept["head_node_type"] in kept["available_node_types"]


def test_skypilot_takes_its_file() -> None:
    if find_spec("sky") is None:
        pytest.skip("skypilot is not installed")
    from sky.utils import schemas

    kept = yaml.safe_load((CLUSTER / "skypilot.yaml").read_text())
    Draft7Validator(schemas.get_task_schema()).validate(kept)


@pytest.mark.parametrize(
    ("program", "file"), [("shellcheck", "slurm/sweep.sbatch"), ("hadolint", "Dockerfile")]
)
def test_linters_have_nothing_to_say(program: str, file: str) -> None:
    if not (BIN / program).exists():
        pytest.skip(f"{program} is not installed")
    ran = subprocess.run([BIN / program, CLUSTER / file], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


def test_the_image_has_all_that_the_package_is_made_of() -> None:
    copied = re.findall(r"^COPY (.*) \S+$", (CLUSTER / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert {"pyproject.toml", "README.md", "LICENSE", "orchestrator", "actors"} <= names
    assert all((REPOSITORY / name).exists() for name in names)
