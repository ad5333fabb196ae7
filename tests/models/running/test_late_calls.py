"""An actor that does not answer is told of, ended, and its work done elsewhere."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.contract.shards import Payload
from orchestrator.contract.variant_errors import NoMemoryError
from orchestrator.planning.plan import Plan
from orchestrator.running.policy import ATTEMPTS
from orchestrator.running.pool import Call, CallFailedError
from tests.made_up_actors import FakeActor, Sweep, on
from tests.pipeline import RecordingPool, make_test_plan, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

Rule = Callable[[str, Payload | None], None]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("plan")
    made = make_test_plan(
        **write_inputs(folder, SAMPLE_ROWS),
        model=str(make_tiny_model(folder / "model")),
        variants=("fp16", "nf4"),
        max_windows=4,
        shard_size=1,
        max_new_tokens=2,
        results=folder,
    )
    return on(made, 2)


class Hanging(BaseException):
    """Raised by a rule under which an actor never answers again."""


class SleepyPool(RecordingPool):
    """A pool whose actors may hang, with a clock that goes on by 5 s whenever somebody waits."""

    def __init__(self, make_actor: Callable[[], Any]) -> None:
        super().__init__(make_actor)
        self.now = 0.0
        self._hanging: set[Any] = set()

    def wait(self, calls: Collection[Call[Any]], timeout_seconds: float) -> Sequence[Call[Any]]:
        self.now += 5.0
        for call in sorted(calls, key=lambda call: int(str(call.name))):
            actor, work = self._work[call.name]
            if actor in self._hanging:
                continue
            try:
                found = work()
            except Hanging:
                self._hanging.add(actor)
                continue
            except Exception as error:
                self._work[call.name] = (actor, raising(error))
            else:
                self._work[call.name] = (actor, returning(found))
            return [call]
        return []


def raising(error: Exception) -> Callable[[], Any]:
    def work() -> Any:
        raise error

    return work


def returning(found: Any) -> Callable[[], Any]:
    return lambda: found


def sleepy(plan: Plan, rule: Rule) -> Sweep:
    """A sweep that goes by a clock of its own, on actors that may hang."""
    sweep = Sweep(plan, rule)
    pool = SleepyPool(lambda: FakeActor(rule, sweep.loads))
    sweep.pool, sweep._clock = pool, lambda: pool.now
    return sweep


def test_an_actor_that_hangs_is_ended_and_its_shard_goes_to_another(plan: Plan) -> None:
    hung = []

    def rule(variant: str, payload: Payload | None) -> None:
        if variant == "nf4" and payload is not None and not hung:
            hung.append(variant)
            raise Hanging

    sweep = sleepy(plan, rule)
    assert not sweep.run().abandoned
    assert len(sweep.committed) == len(plan.shards)
    said = sweep.said.getvalue()
    assert "slow, no result after 5 min; ended at 10 min (--shard-timeout)" in said
    assert "no result after 10 min; trying again" in said
    assert said.count("trying again") == 1
    assert sweep.loads.count("nf4") == 2


def test_loading_that_hangs_has_an_end_as_well(plan: Plan) -> None:
    def rule(variant: str, payload: Payload | None) -> None:
        if variant == "nf4":
            raise Hanging

    chosen = plan.settings.model_copy(update={"shard_timeout": 60.0})
    sweep = sleepy(replace(plan, settings=chosen), rule)
    outcome = sweep.run()
    assert [record for record, _ in outcome.abandoned] == [
        s.record for s in plan.variants[1].shards
    ]
    assert {reason for _, reason in outcome.abandoned} == {"no result after 60 s"}
    assert "nf4: loading: slow, no result after 30 s; ended at 60 s" in sweep.said.getvalue()
    assert sweep.loads.count("nf4") == ATTEMPTS["timeout"]


def test_what_hangs_again_and_again_is_given_up_and_the_rest_is_done(plan: Plan) -> None:
    poison = next(s for s in plan.variants[1].shards if s.record.stage == "windows")

    def rule(variant: str, payload: Payload | None) -> None:
        if variant == "nf4" and payload is poison.payload:
            raise Hanging

    sweep = sleepy(plan, rule)
    outcome = sweep.run()
    assert [record for record, _ in outcome.abandoned] == [poison.record]
    assert sweep.committed.keys() == {s.record for s in plan.shards} - {poison.record}
    assert sweep.said.getvalue().count("trying again") == ATTEMPTS["timeout"] - 1


def test_a_node_that_is_taken_away_uses_up_no_try(plan: Plan) -> None:
    left = ATTEMPTS["error"] + 2

    def rule(variant: str, payload: Payload | None) -> None:
        nonlocal left
        if variant == "nf4" and payload is not None and payload.stage == "windows" and left:
            left -= 1
            raise CallFailedError("the node is gone", "node")

    sweep = sleepy(plan, rule)
    assert not sweep.run().abandoned
    assert len(sweep.committed) == len(plan.shards)


def test_memory_that_is_never_enough_is_told_apart(plan: Plan) -> None:
    def rule(variant: str, payload: Payload | None) -> None:
        if variant == "nf4" and payload is not None and payload.stage == "generations":
            raise NoMemoryError("CUDA out of memory. Lower --batch-tokens")

    sweep = sleepy(plan, rule)
    outcome = sweep.run()
    lost = [s.record for s in plan.variants[1].shards if s.record.stage == "generations"]
    assert [record for record, _ in outcome.abandoned] == lost
    tries = sweep.said.getvalue().count("trying again")
    assert tries == len(lost) * (ATTEMPTS["memory"] - 1)
    assert "Lower --batch-tokens" in sweep.said.getvalue()
