"""What lies beside the repository, for the tests that want it."""

from pathlib import Path

import pytest

from tests.places import SHARED


@pytest.fixture(scope="session")
def wikitext2_test() -> Path:
    """WikiText-2's test split as the hub has it. Where nothing is shared, its tests are skipped."""
    path = SHARED / "corpus" / "wikitext-2-raw" / "test-00000-of-00001.parquet"
    if not SHARED.exists():
        pytest.skip("there is no ../shared with the WikiText-2 test split")
    assert path.exists(), f"{path} is not there, though ../shared is"
    return path
