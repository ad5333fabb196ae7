"""Files by machine: the driver's as they were hashed, another's as its first model saw them."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.contract.exchange import Loaded, Span
from orchestrator.contract.file_states import FileState, this_machine
from orchestrator.planning.plan import Plan
from orchestrator.running.model_files import SeenFiles

NAME = "/models/m/model.safetensors"
HASHED = FileState(place=NAME, size_bytes=10, inode=1, modified_ns=5, changed_ns=6)
ELSEWHERE = HASHED.model_copy(update={"inode": 9, "changed_ns": 70})


@pytest.fixture
def seen() -> SeenFiles:
    checkpoint = SimpleNamespace(file_states={NAME: HASHED})
    plan: Any = SimpleNamespace(variants=[SimpleNamespace(checkpoint=checkpoint)])
    return SeenFiles(cast(Plan, plan))


def loaded(machine: str, state: FileState) -> Loaded:
    no_time = Span(0, 0)
    return Loaded(1, None, no_time, no_time, machine, {NAME: state})


@pytest.mark.parametrize("field", sorted({*FileState.model_fields} - {"place"}))
def test_on_the_drivers_machine_it_must_be_what_was_hashed(field: str, seen: SeenFiles) -> None:
    assert seen.problem(loaded(this_machine(), HASHED)) is None
    other = HASHED.model_copy(update={field: 99})
    assert f"{NAME} is another file" in str(seen.problem(loaded(this_machine(), other)))


def test_on_another_it_must_stay_what_the_first_model_was_loaded_from(seen: SeenFiles) -> None:
    assert seen.problem(loaded("node", ELSEWHERE)) is None
    assert seen.problem(loaded("node", ELSEWHERE)) is None
    assert f"{NAME} is another file" in str(seen.problem(loaded("node", HASHED)))
    assert seen.problem(loaded("third", HASHED)) is None


def test_its_size_is_the_same_everywhere(seen: SeenFiles) -> None:
    other = ELSEWHERE.model_copy(update={"size_bytes": 11})
    assert "another size where a model was loaded" in str(seen.problem(loaded("node", other)))


def test_another_cache_on_the_drivers_machine_is_another_place(seen: SeenFiles) -> None:
    other = ELSEWHERE.model_copy(update={"place": "/other/cache/model.safetensors"})
    assert seen.problem(loaded(this_machine(), other)) is None
    changed = other.model_copy(update={"inode": 77})
    assert f"{NAME} is another file" in str(seen.problem(loaded(this_machine(), changed)))
