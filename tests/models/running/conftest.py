"""A plan that is small, for who needs no other."""

import pytest

from orchestrator.planning.plan import Plan
from tests.pipeline import make_test_plan, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Two variants of 1 loading, 3 window, 4 prompt and 2 teacher-forced shards each."""
    folder = tmp_path_factory.mktemp("inputs")
    return make_test_plan(
        model=str(make_tiny_model(folder / "model")),
        variants=("fp16", "nf4"),
        max_windows=6,
        shard_size=2,
        batch_tokens=1,
        max_new_tokens=4,
        **write_inputs(folder, SAMPLE_ROWS),
    )
