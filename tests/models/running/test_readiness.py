"""What runs when: the reference once for all candidates, whatever devices and room there are."""

import random
from collections import Counter
from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.contract.shards import Payload, Shard
from orchestrator.contract.stages import GenerationsPayload, WindowsPayload
from orchestrator.contract.variant_errors import CannotLoadError
from orchestrator.planning.plan import Plan
from orchestrator.running.policy import MAXIMUM_ATTEMPTS
from orchestrator.running.pool import CallFailedError, ValueLostError
from tests.made_up_actors import Sweep, fine, on
from tests.pipeline import make_test_plan, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

VARIANTS = ("fp16", "int8", "nf4")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A reference and two candidates of 1 loading, 6 window, 4 prompt and 2 forced shards each."""
    folder = tmp_path_factory.mktemp("inputs")
    return make_test_plan(
        model=str(make_tiny_model(folder / "model")),
        variants=VARIANTS,
        max_windows=12,
        window_choice="first",
        window_length=32,
        shard_size=2,
        batch_tokens=1,
        max_new_tokens=4,
        **write_inputs(folder, SAMPLE_ROWS),
    )


def shards_of(plan: Plan, variant: str, stage: str) -> list[Shard]:
    shards = [shard for shard in plan.shards if shard.record.stage == stage]
    return [shard for shard in shards if shard.record.variant == variant]


def windows_of(plan: Plan, variant: str) -> list[Shard]:
    return shards_of(plan, variant, "windows")


def runs(sweep: Sweep, variant: str) -> list[str]:
    """The names of a variant's window shards that were computed, in order."""
    return [
        str(event.shard)
        for event in sweep.events
        if event.event == "shard_computed" and "/windows-" in str(event.shard)
        if event.variant == variant
    ]


def names(shards: Sequence[Shard]) -> list[str]:
    return [shard.record.name for shard in shards]


def held_bytes(sweep: Sweep) -> int:
    """What the states that are kept or being made take."""
    values = [value for kept in sweep.pool.kept_values for value in kept.handle]
    held = (windows for windows in values if isinstance(windows, tuple))
    return sum(len(window.target_ids) for windows in held for window in windows)


def test_a_candidate_names_the_reference_s_shard_of_the_same_windows(plan: Plan) -> None:
    reference = windows_of(plan, "fp16")
    assert [shard.record.needs for shard in reference] == [None] * 6
    for variant in ("int8", "nf4"):
        mine = windows_of(plan, variant)
        assert [s.record.needs for s in mine] == [s.record.fingerprint for s in reference]
        assert [s.payload for s in mine] == [s.payload for s in reference]


def test_answers_are_scored_once_the_reference_has_given_them(plan: Plan) -> None:
    answered = shards_of(plan, "fp16", "generations")
    for variant in VARIANTS:
        mine = shards_of(plan, variant, "teacher_forced")
        assert [name for s in mine for name in s.record.reads] == [
            shard.record.fingerprint for shard in answered
        ]
    sweep = Sweep(on(plan, 3), fine)
    assert not sweep.run().abandoned
    # Made-up actors are asked for an answer's states with the answer, or fail.
    computed = [str(event.shard) for event in sweep.events if event.event == "shard_computed"]
    scored = shards_of(plan, "fp16", "teacher_forced")
    for number, answers in enumerate(answered):
        assert computed.index(answers.record.name) < computed.index(scored[number // 2].record.name)


def test_answers_that_the_reference_cannot_give_are_scored_by_nobody(plan: Plan) -> None:
    def rule(variant: str, payload: Payload | None) -> None:
        if (
            variant == "fp16"
            and isinstance(payload, GenerationsPayload)
            and payload.first_item == 0
        ):
            raise ValueError("never")

    sweep = Sweep(on(plan, 2), rule)
    outcome = sweep.run()
    lost = [shards_of(plan, "fp16", "generations")[0].record]
    lost += [shards_of(plan, variant, "teacher_forced")[0].record for variant in VARIANTS]
    assert set(outcome.abandoned) == {(record, "ValueError: never") for record in lost}
    assert sweep.committed.keys() == {shard.record for shard in plan.shards} - set(lost)


def test_a_resumed_reference_scores_its_answers_again_and_does_not_give_them_again(
    plan: Plan,
) -> None:
    missing = shards_of(plan, "nf4", "teacher_forced")[1]
    sweep = Sweep(on(plan, 1), fine)
    outcome = sweep.run(finished=[shard for shard in plan.shards if shard is not missing])
    assert not outcome.abandoned
    computed = [event.shard for event in sweep.events if event.event == "shard_computed"]
    again = shards_of(plan, "fp16", "teacher_forced")[1]
    assert computed == [again.record.name, missing.record.name]


def test_one_card_runs_the_reference_first_then_each_candidate(plan: Plan) -> None:
    sweep = Sweep(on(plan, 1), fine)
    assert not sweep.run().abandoned
    assert sweep.loads == list(VARIANTS)
    order = [event.variant for event in sweep.events if event.event == "shard_computed"]
    assert order == sorted(order, key=VARIANTS.index)
    assert len(sweep.committed) == len(plan.shards)
    assert runs(sweep, "fp16") == names(windows_of(plan, "fp16"))


def test_a_candidate_that_is_loaded_before_the_reference_waits_for_it(plan: Plan) -> None:
    """It would be loaded again if it left its device to a second actor of the reference."""
    done = [shard for shard in plan.shards if shard.record.stage != "windows"]
    sweep = Sweep(on(plan, 3), fine, next_call=max)
    assert not sweep.run(finished=done).abandoned
    assert sorted(sweep.loads) == ["fp16", "int8", "nf4"]


def test_several_cards_run_reference_and_candidates_side_by_side(plan: Plan) -> None:
    sweep = Sweep(on(plan, 3), fine)
    assert not sweep.run().abandoned
    assert sorted(sweep.loads) == sorted(VARIANTS)
    computed = [event for event in sweep.events if event.event == "shard_computed"]
    windows = [event.variant for event in computed if "/windows-" in str(event.shard)]
    last_of_reference = len(windows) - windows[::-1].index("fp16")
    assert {"int8", "nf4"} <= set(windows[:last_of_reference])
    assert runs(sweep, "fp16") == names(windows_of(plan, "fp16"))


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_with_too_little_room_they_take_turns(plan: Plan, devices: int) -> None:
    # Room for two shards of windows and both of answers: two prompts of at most four tokens each.
    limit = 2 * 2 * plan.inputs.window_length + 2 * 2 * 4
    most = 0

    def rule(variant: str, payload: Payload | None) -> None:
        nonlocal most
        most = max(most, held_bytes(sweep))

    sweep = Sweep(on(plan, devices, reference_bytes=limit), rule)
    assert not sweep.run().abandoned
    assert len(sweep.committed) == len(plan.shards)
    assert 0 < most <= limit
    assert runs(sweep, "fp16") == names(windows_of(plan, "fp16"))
    if devices == 1:
        assert sweep.loads == list(VARIANTS) * 3


def test_states_larger_than_all_room_are_made_one_shard_at_a_time(plan: Plan) -> None:
    sweep = Sweep(on(plan, 2, reference_bytes=1), fine)
    assert not sweep.run().abandoned
    assert len(sweep.committed) == len(plan.shards)
    assert runs(sweep, "fp16") == names(windows_of(plan, "fp16"))


def test_states_are_dropped_after_their_last_use(plan: Plan) -> None:
    sweep = Sweep(on(plan, 1), fine)
    sweep.run()
    assert held_bytes(sweep) == 0


def test_a_resumed_reference_runs_only_what_an_unfinished_candidate_needs(plan: Plan) -> None:
    missing = windows_of(plan, "nf4")[3]
    sweep = Sweep(on(plan, 1), fine)
    outcome = sweep.run(finished=[shard for shard in plan.shards if shard is not missing])
    assert not outcome.abandoned
    assert runs(sweep, "fp16") == names(windows_of(plan, "fp16")[3:4])
    # Its table is there already: it is not written twice.
    assert list(sweep.committed) == [missing.record]


def test_a_resumed_sweep_that_needs_no_states_does_not_load_the_reference(plan: Plan) -> None:
    missing = shards_of(plan, "nf4", "generations")[-1]
    sweep = Sweep(on(plan, 1), fine)
    sweep.run(finished=[shard for shard in plan.shards if shard is not missing])
    assert sweep.loads == ["nf4"]
    assert list(sweep.committed) == [missing.record]


def test_lost_states_are_made_again(plan: Plan) -> None:
    losses = Counter({"int8": 1, "nf4": 1})

    def rule(variant: str, payload: Payload | None) -> None:
        if isinstance(payload, WindowsPayload) and payload.numbers[0] == 4 and losses[variant]:
            losses[variant] -= 1
            raise ValueLostError("the node is gone")

    sweep = Sweep(on(plan, 1), rule)
    assert not sweep.run().abandoned
    assert len(sweep.committed) == len(plan.shards)
    again = Counter(runs(sweep, "fp16"))[windows_of(plan, "fp16")[2].record.name]
    assert again == 3
    assert "its states are lost: the node is gone; trying again" in sweep.said.getvalue()


def test_states_that_are_always_lost_cost_their_windows_alone(plan: Plan) -> None:
    def rule(variant: str, payload: Payload | None) -> None:
        first = payload.numbers[0] if isinstance(payload, WindowsPayload) else None
        if variant != "fp16" and first == 4:
            raise ValueLostError("the node is gone")

    sweep = Sweep(on(plan, 2), rule)
    outcome = sweep.run()
    lost = {windows_of(plan, variant)[2].record for variant in ("int8", "nf4")}
    assert {record for record, _ in outcome.abandoned} == lost
    assert sweep.committed.keys() == {shard.record for shard in plan.shards} - lost


def test_a_shard_that_the_reference_cannot_do_is_given_up_for_all(plan: Plan) -> None:
    def rule(variant: str, payload: Payload | None) -> None:
        first = payload.numbers[0] if isinstance(payload, WindowsPayload) else None
        if variant == "fp16" and first == 4:
            raise ValueError("never")

    sweep = Sweep(on(plan, 2), rule)
    outcome = sweep.run()
    lost = [windows_of(plan, variant)[2].record for variant in VARIANTS]
    assert outcome.abandoned == [(record, "ValueError: never") for record in lost]
    assert sweep.committed.keys() == {shard.record for shard in plan.shards} - set(lost)


def test_a_dead_actor_is_held_against_what_it_worked_on_and_not_what_waited(plan: Plan) -> None:
    def rule(variant: str, payload: Payload | None) -> None:
        first = payload.numbers[0] if isinstance(payload, WindowsPayload) else None
        if variant == "fp16" and first == 4:
            raise CallFailedError("ActorDiedError", "death")

    sweep = Sweep(on(plan, 1), rule)
    outcome = sweep.run()
    lost = {windows_of(plan, variant)[2].record for variant in VARIANTS}
    assert {record for record, _ in outcome.abandoned} == lost
    failed = [event.shard for event in sweep.events if event.event == "failed"]
    assert failed == [windows_of(plan, "fp16")[2].record.name] * MAXIMUM_ATTEMPTS


def test_a_reference_that_cannot_be_loaded_leaves_the_candidates_their_prompts(plan: Plan) -> None:
    def rule(variant: str, payload: Payload | None) -> None:
        if variant == "fp16" and payload is None:
            raise ConnectionError("the process is gone")

    sweep = Sweep(on(plan, 2), rule)
    outcome = sweep.run()
    assert {record.stage for record in sweep.committed} == {"loading", "generations"}
    assert len(sweep.committed) + len(outcome.abandoned) == len(plan.shards)


def test_whatever_happens_every_shard_is_done_once_or_given_up(plan: Plan) -> None:
    """Calls end in any order; actors fail, die and lose states, now and then."""

    @settings(max_examples=150, deadline=None)
    @example(devices=4, limit=1, trouble=0.5, seed=543386)
    @given(
        devices=st.integers(1, 5),
        limit=st.sampled_from([1, 60, 130, 400, None]),
        trouble=st.sampled_from([0.0, 0.1, 0.5]),
        seed=st.integers(0, 2**32),
    )
    def check(devices: int, limit: int | None, trouble: float, seed: int) -> None:
        chance = random.Random(seed)
        finished = [shard for shard in plan.shards if chance.random() < 0.3]
        troubles = (ValueError, ValueLostError, partial(CallFailedError, kind="death"))
        # Which cannot be loaded, or turns out to be of another vocabulary in the midst of it.
        unusable = chance.choice(["int8", "nf4"]) if trouble and chance.random() < 0.3 else None

        def rule(variant: str, payload: Payload | None) -> None:
            holding = [actor for actor in sweep.pool.started if actor not in sweep.pool.stopped]
            assert len(holding) <= devices
            if variant == unusable and chance.random() < 0.3:
                raise CannotLoadError("no good")
            if chance.random() < trouble:
                raise chance.choice(troubles)("no luck")

        sweep = Sweep(on(plan, devices, reference_bytes=limit), rule, next_call=chance.choice)
        outcome = sweep.run(finished)
        given_up = [record for record, _ in outcome.abandoned]
        assert len(given_up) == len(set(given_up))
        assert sweep.committed.keys().isdisjoint(given_up)
        records = {shard.record for shard in plan.shards}
        assert {*sweep.committed, *given_up, *(shard.record for shard in finished)} == records
        assert not outcome.stopped
        assert held_bytes(sweep) == 0
        if not trouble:
            assert not given_up
            assert max(Counter(runs(sweep, "fp16")).values(), default=1) == 1

    check()
