"""A sweep for the real command line, on real Ray."""

import pytest

from tests.commands import tiny_sweep_flags


@pytest.fixture(scope="session")
def tiny_sweep(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags of a sweep over a tiny model."""
    return tiny_sweep_flags(tmp_path_factory.mktemp("inputs"))
