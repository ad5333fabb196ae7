"""A `run.json` or `comparison.json` with the right digest and anything in it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import BadInputError
from orchestrator.gates.chosen import GateSettings
from orchestrator.runs.finished import read_run, reduce_run
from orchestrator.storage.results_folder import run_at
from orchestrator.storage.stamp import stamped
from tests.pipeline import FinishedRun
from tests.readers import examples

VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**30, 1e308, "", "x", "../..", "\x1b[31m", "a" * 5000),
    *([], {}, [[]], {"a": {}}, [None] * 3, ["x"] * 3),
)


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value."""
    found = [path] if path else []
    children: Any = ()
    if isinstance(content, dict):
        children = content.items()
    elif isinstance(content, list):
        children = list(enumerate(content))[:3]
    for key, value in children:
        found += places(value, (*path, key))
    return found


def changed(content: Any, path: tuple[Any, ...], value: Any, *, gone: bool) -> Any:
    copy = json.loads(json.dumps(content))
    *way, last = path
    part = copy
    for key in way:
        part = part[key]
    if gone:
        del part[last]
    else:
        part[last] = value
    return copy


def spoiled(content: Any, data: st.DataObject) -> bytes:
    """The file of an object of which one value is another, or gone, with its right digest."""
    way = data.draw(st.sampled_from(places(content)))
    value, gone = data.draw(st.sampled_from(VALUES)), data.draw(st.booleans())
    return stamped(changed(content, way, value, gone=gone))


@pytest.fixture(scope="module")
def folder(finished_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("odd") / "r"
    shutil.copytree(finished_run.folder, place)
    return place


@examples(60)
@given(data=st.data())
def test_an_odd_run_is_reduced_or_refused(folder: Path, data: st.DataObject) -> None:
    path = folder / "run.json"
    whole = path.read_bytes()
    content = json.loads(whole)
    content.pop("sha256")
    path.write_bytes(spoiled(content, data))
    try:
        run = reduce_run(run_at(folder))
        GateSettings.among(run.manifest.settings)
    except BadInputError as error:
        assert "\n" not in str(error)
    finally:
        path.write_bytes(whole)


@examples(100)
@given(data=st.data())
def test_an_odd_comparison_is_read_or_refused(
    finished_run: FinishedRun, folder: Path, data: st.DataObject
) -> None:
    content = json.loads(finished_run.comparison.model_dump_json())
    (folder / "comparison.json").write_bytes(spoiled(content, data))
    try:
        read_run(run_at(folder))
    except BadInputError as error:
        assert "\n" not in str(error)
