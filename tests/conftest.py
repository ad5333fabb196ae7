"""What lies beside the repository, for the tests that want it."""

import os
from pathlib import Path

import pytest

from tests.places import SHARED

# Tests side by side share the cores: threads of several processes that wait for each other's core
# make each several times slower. Set before anything imports torch.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _WORKERS)))


@pytest.fixture(scope="session")
def wikitext2_test() -> Path:
    """WikiText-2's test split as the hub has it. Where nothing is shared, its tests are skipped."""
    path = SHARED / "corpus" / "wikitext-2-raw" / "test-00000-of-00001.parquet"
    if not SHARED.exists():
        pytest.skip("there is no ../shared with the WikiText-2 test split")
    assert path.exists(), f"{path} is not there, though ../shared is"
    return path
