"""A sweep to be disturbed, and what it leaves where nothing disturbs it."""

from pathlib import Path
from typing import Any

import pytest

from tests.commands import run_cli, tiny_sweep_flags
from tests.faults.sweeps import tables_in


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags of a sweep of many short shards."""
    folder = tmp_path_factory.mktemp("inputs")
    return [*tiny_sweep_flags(folder), "--shard-size", "1", "--batch-tokens", "1"]


@pytest.fixture(scope="session")
def undisturbed(sweep: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tables of such a sweep."""
    results = tmp_path_factory.mktemp("undisturbed")
    assert run_cli([*sweep, "--results", str(results)]).returncode == 0
    return tables_in(Path(results))
