"""How many windows are scored at once: as said or the most that fits, and as a run began."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import BadInputError
from orchestrator.inputs.sources import Inputs, read_inputs
from orchestrator.planning.devices import Devices
from orchestrator.planning.plan import Plan, make_plan
from orchestrator.preparing import needs_of
from orchestrator.running.in_process import InProcessCluster
from orchestrator.running.nodes import NOTHING, Needs
from orchestrator.settings import Settings
from orchestrator.settings_layers import resolve_settings
from orchestrator.storage.results_folder import ResultsFolder
from orchestrator.sweep import sweep
from tests.pipeline import write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Windows of 512 tokens: 16, 8 or 4 at once."""
    folder = tmp_path_factory.mktemp("inputs")
    return {
        **write_inputs(folder, SAMPLE_ROWS * 3, prompts=1),
        "model": str(make_tiny_model(folder / "model", max_positions=512)),
        "variants": ("fp16", "nf4"),
        "window_length": 512,
        "max_new_tokens": 4,
    }


@pytest.fixture(scope="module")
def inputs(said: dict[str, Any]) -> Inputs:
    return read_inputs(Settings(**said))


def gpu(memory_bytes: int | None) -> Devices:
    return Devices("cuda", 1, memory_bytes, 1)


def needed(said: dict[str, Any], inputs: Inputs, batch_tokens: int) -> int:
    """What the largest variant needs of a device."""
    plan = make_plan(Settings(**said, batch_tokens=batch_tokens), inputs, gpu(None))
    return max(variant.needed_bytes or 0 for variant in plan.variants)


@pytest.mark.parametrize(("fitting", "at_once"), [(8192, 16), (4096, 8), (2048, 4)])
def test_the_most_that_fits_is_taken(
    said: dict[str, Any], inputs: Inputs, fitting: int, at_once: int
) -> None:
    room = needed(said, inputs, fitting)
    plan = make_plan(Settings(**said), inputs, gpu(room))
    assert plan.identity.windows_at_once == at_once
    assert all((variant.needed_bytes or 0) <= room for variant in plan.variants)


def test_the_run_is_called_the_same_whatever_fits_and_is_another_where_a_number_is_said(
    said: dict[str, Any], inputs: Inputs
) -> None:
    small = make_plan(Settings(**said), inputs, gpu(needed(said, inputs, 2048)))
    large = make_plan(Settings(**said), inputs, gpu(None))
    named = make_plan(Settings(**said, batch_tokens=8192), inputs, gpu(None))
    assert small.run_id == large.run_id != named.run_id
    assert named.identity == large.identity != small.identity


def test_what_fits_nowhere_is_refused_and_a_number_that_would_fit_is_named(
    said: dict[str, Any], inputs: Inputs
) -> None:
    least = needed(said, inputs, 2048)
    with pytest.raises(BadInputError, match=r"^--variants: fp16 needs .* too much; ") as refused:
        make_plan(Settings(**said), inputs, gpu(least - 1))
    assert "--batch-tokens" not in str(refused.value)
    with pytest.raises(BadInputError, match=r"all fit with --batch-tokens 4096$"):
        make_plan(Settings(**said, batch_tokens=8192), inputs, gpu(needed(said, inputs, 8192) - 1))


def test_a_window_longer_than_the_least_number_is_one_at_once(
    said: dict[str, Any], inputs: Inputs
) -> None:
    long = replace(inputs, window_length=10_000)
    assert make_plan(Settings(**said), long, gpu(None)).identity.windows_at_once == 1


def test_what_a_node_must_have_is_the_least_that_all_fit_with_and_nothing_for_processors(
    said: dict[str, Any], inputs: Inputs
) -> None:
    assert needs_of(Settings(**said), inputs).gpu_bytes == needed(said, inputs, 2048)
    assert needs_of(Settings(**said, device="cpu"), inputs).gpu_bytes == 0


class Machine(InProcessCluster):
    """This process, with so much memory."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes

    def known_devices(self, settings: Settings) -> Devices:
        return replace(super().known_devices(settings), memory_bytes=self._memory_bytes)

    @contextmanager
    def connected(self, settings: Settings, needs: Needs = NOTHING) -> Iterator[Devices]:
        yield self.known_devices(settings)


def test_a_run_goes_on_with_as_many_as_it_began_with(
    said: dict[str, Any], inputs: Inputs, tmp_path: Path
) -> None:
    settings = resolve_settings({**said, "cluster": "none", "results": str(tmp_path)})

    def on_a_cpu(batch_tokens: int) -> Plan:
        chosen = settings.model_copy(update={"batch_tokens": batch_tokens})
        return make_plan(chosen, inputs, replace(gpu(None), kind="cpu"))

    def room(batch_tokens: int) -> int:
        return max(variant.needed_bytes or 0 for variant in on_a_cpu(batch_tokens).variants)

    first = sweep(settings, Machine(room(4096)))
    assert first.folder.read_manifest().identity.windows_at_once == 8
    (folder,) = ResultsFolder.at(str(tmp_path)).runs()
    shards = sorted(path.name for path in first.folder.path.rglob("*.arrow"))
    # Where more fits, the same shards are found.
    again = sweep(settings, Machine(2**40))
    assert again.folder.read_manifest().identity.windows_at_once == 8
    assert shards == sorted(p.name for p in again.folder.path.rglob("*.arrow"))
    assert str(again.folder) == str(folder)
    with pytest.raises(BadInputError, match=r"fp16 needs .* all fit with --batch-tokens 2048"):
        sweep(settings, Machine(room(2048)))
