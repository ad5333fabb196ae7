"""A model is loaded from the files that were hashed, or not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.actor import ModelActor
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variant_errors import FilesChangedError
from orchestrator.planning.plan import Plan
from orchestrator.running.dispatch import Dispatcher
from orchestrator.running.jobs import Outcome
from orchestrator.running.log import Log
from orchestrator.running.stop import StopRequest
from tests.pipeline import RecordingPool, assignment, make_test_plan, quiet_progress, write_inputs
from tests.tiny_models import make_tiny_model

TEXT = "the river rises in the northern hills and runs for ninety miles . "


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    model = make_tiny_model(tmp_path / "models")
    return make_test_plan(
        model=str(model),
        variants=("fp32", "nf4"),
        reference="fp32",
        window_length=16,
        max_windows=2,
        max_new_tokens=2,
        max_prompts=1,
        results=tmp_path / "results",
        **write_inputs(tmp_path, [TEXT * 4]),
    )


def weights_of(plan: Plan) -> Path:
    return plan.inputs.model.checkpoint.folder / "model.safetensors"


def replace(path: Path) -> None:
    """Another file takes a name, of the same content."""
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.replace(path)


def overwrite(path: Path) -> None:
    """The same file gets other bytes."""
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(content[:-4096] + bytes(4096))


class Disturbed(ModelActor):
    """An actor beside which somebody is at the files.

    Args:
        before: is called with the name of a variant before its model is loaded.
    """

    def __init__(self, before: Callable[[str], None]) -> None:
        super().__init__()
        self._before = before

    def load(self, assignment: Any, describe: bool) -> Any:
        self._before(assignment.variant.name)
        return super().load(assignment, describe)


def dispatched(plan: Plan, before: Callable[[str], None]) -> Outcome:
    tables: dict[Any, Any] = {}
    dispatcher = Dispatcher(
        plan,
        RecordingPool(lambda: Disturbed(before)),
        tables.__setitem__,
        tables.__getitem__,
        Log(lambda event: None),
        quiet_progress(plan),
    )
    return dispatcher.run(set(), StopRequest())


def test_untouched_files_are_those_that_were_hashed(plan: Plan) -> None:
    assert not dispatched(plan, lambda _: None).abandoned


@pytest.mark.parametrize("change", [replace, overwrite])
def test_a_file_changed_before_a_later_load_ends_that_variant_alone(
    change: Callable[[Path], None], plan: Plan
) -> None:
    def before(variant: str) -> None:
        if variant == "nf4":
            change(weights_of(plan))

    abandoned = dispatched(plan, before).abandoned
    assert {record.variant for record, _ in abandoned} == {"nf4"}
    (reason,) = {reason for _, reason in abandoned}
    assert reason.startswith(f"variant nf4: {weights_of(plan).resolve()} is another file than")
    assert reason.endswith("leave the files as they are, and run it again")


def test_a_file_changed_while_it_is_loaded_is_refused(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors import transformers_engine

    hold = transformers_engine.hold_model

    def disturbed(assignment: Any) -> Any:
        held = hold(assignment)
        replace(weights_of(plan))
        return held

    monkeypatch.setattr(transformers_engine, "hold_model", disturbed)
    with pytest.raises(FilesChangedError, match=r"variant fp32: .* changed while it was loaded"):
        ModelActor().load(plan.variants[0].assignment(1), describe=False)


def test_a_mapped_file_that_is_overwritten_gives_no_numbers(plan: Plan) -> None:
    """On a processor, weights that are not cast stay in the file."""
    actor = ModelActor()
    planned = plan.variants[0]
    assert planned.name == "fp32"
    actor.load(planned.assignment(1), describe=False)
    shard = next(shard for shard in planned.shards if shard.record.stage == "windows")
    actor.evaluate(shard.payload)
    # What took the file's place is nothing to a model that is loaded.
    replace(weights_of(plan))
    actor.evaluate(shard.payload)
    actor.load(planned.assignment(1), describe=False)
    overwrite(weights_of(plan))
    with pytest.raises(FilesChangedError, match="was overwritten while it was in use"):
        actor.evaluate(shard.payload)


def test_a_model_of_the_hub_is_looked_up_in_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    from actors.model_files import ModelFiles

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "c" * 40
    location = ModelLocation(
        id_or_path="org/name", revision=commit, files=("config.json", "model.safetensors")
    )
    told = assignment(location, "fp32")
    # Nothing is fetched yet: nothing to hold the load against.
    files = ModelFiles(told)
    snapshot = tmp_path / "models--org--name" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name in location.files:
        (snapshot / name).write_text("fetched")
    assert list(files.loaded()) == ["org/name/config.json", "org/name/model.safetensors"]
    again = ModelFiles(told)
    replace(snapshot / "model.safetensors")
    with pytest.raises(FilesChangedError, match=r"org/name/model\.safetensors changed"):
        again.loaded()
