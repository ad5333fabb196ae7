"""What a shard will take: measured where one of its kind was done, guessed before."""

from collections.abc import Sequence

import pytest

from orchestrator.contract.shards import Shard
from orchestrator.planning.plan import Plan
from orchestrator.running.durations import Costs
from tests.pipeline import make_test_plan, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

KINDS = {"fp16": "plain", "int8": "llm-int8"}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("inputs")
    return make_test_plan(
        model=str(make_tiny_model(folder / "model")),
        variants=tuple(KINDS),
        shard_size=2,
        max_windows=6,
        batch_tokens=1,
        max_new_tokens=4,
        batch_sizes=(3,),
        repeats=2,
        **write_inputs(folder, SAMPLE_ROWS),
    )


def of(plan: Plan, variant: str, stage: str) -> Sequence[Shard]:
    return [s for s in plan.shards if (s.record.variant, s.record.stage) == (variant, stage)]


def test_a_shard_takes_what_others_of_its_kind_took_by_the_token(plan: Plan) -> None:
    costs = Costs(KINDS)
    first, second, third = of(plan, "fp16", "windows")
    assert not costs.is_known(third)
    costs.learn(first, 1000.0)
    assert costs.is_known(third)
    assert costs.of(third) == pytest.approx(1000 * tokens(third) / tokens(first))
    # The first one loaded the kernels: it counts no more.
    costs.learn(second, 3.0)
    assert costs.of(third) == pytest.approx(3 * tokens(third) / tokens(second))


def test_what_was_not_measured_of_a_variant_is_guessed_from_another(plan: Plan) -> None:
    costs = Costs(KINDS)
    mine, other = of(plan, "int8", "generations")[0], of(plan, "fp16", "generations")[0]
    assert costs.of(mine) > costs.of(other) > 0
    ratio = costs.of(mine) / costs.of(other)
    costs.learn(other, 7.0)
    assert costs.of(mine) == pytest.approx(7 * ratio)
    assert not costs.is_known(mine)


def test_loading_takes_what_it_took(plan: Plan) -> None:
    costs = Costs(KINDS)
    assert costs.of_loading("int8") > costs.of_loading("fp16") > 0
    costs.learn_loading("fp16", 2.5)
    assert costs.of_loading("fp16") == 2.5


def test_every_stage_has_tokens(plan: Plan) -> None:
    for shard in plan.shards:
        assert tokens(shard) > 0, shard.record.name
    (batch,) = of(plan, "fp16", "throughput")
    # Twice, four steps each, for all three prompts at once.
    assert tokens(batch) == 2 * 4


def tokens(shard: Shard) -> int:
    return shard.payload.timed_tokens
