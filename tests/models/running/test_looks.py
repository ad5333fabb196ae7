"""Looks at the text: what is held back, when a look is judged, and what a decided run is."""

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from orchestrator.cli import run_command
from orchestrator.comparison_schema import Comparison
from orchestrator.contract.shards import Payload, Shard
from orchestrator.contract.stages import WindowsPayload
from orchestrator.contract.variant_errors import CannotLoadError
from orchestrator.errors import BadInputError
from orchestrator.planning.plan import Plan, manifest_of
from orchestrator.runs.finished import read_run
from orchestrator.settings_layers import resolve_settings
from orchestrator.storage.results_folder import run_at
from tests.commands import flags_of
from tests.made_up_actors import Sweep, fine, on
from tests.pipeline import make_test_plan, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        **write_inputs(folder, SAMPLE_ROWS, prompts=2),
        "model": str(make_tiny_model(folder / "model")),
        "variants": ("fp16", "nf4"),
        "window_length": 48,
        "max_windows": 40,
        "max_new_tokens": 4,
    }


@pytest.fixture(scope="module")
def plan(settings: dict[str, Any]) -> Plan:
    """Looks at 8, 16, 32 and 40 windows."""
    gates = ("kl.mean <= 0.05", "success >= 0%")
    return make_test_plan(**settings, shard_size=3, batch_tokens=1, until_decided=True, gate=gates)


class Judge:
    """Decides at a look, and keeps which shards were there each time."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.sweep: Sweep | None = None
        self.seen: dict[int, set[str]] = {}

    def __call__(self, look: int) -> bool:
        assert self.sweep is not None
        records = [*self.sweep.committed, *self.sweep.finished]
        self.seen[look] = {record.fingerprint for record in records if record.look is not None}
        return look == self.at


def of_looks(plan: Plan, most: int) -> set[str]:
    """The windows' shards of the looks up to one."""
    return {
        shard.record.fingerprint
        for shard in plan.shards
        if shard.record.look is not None and shard.record.look <= most
    }


def dispatched(plan: Plan, judge: Judge, finished: list[Shard] | None = None, **more: Any) -> Sweep:
    sweep = Sweep(plan, more.pop("rule", fine), decides=judge, **more)
    judge.sweep = sweep
    sweep.outcome = sweep.run(finished or [])  # type: ignore[attr-defined]
    return sweep


def test_every_look_is_spread_and_holds_the_earlier_ones(plan: Plan) -> None:
    windows = len(plan.inputs.corpus.windows)
    assert windows > 40
    seen: list[int] = []
    for look, count in zip(plan.inputs.looks, (8, 16, 32, 40), strict=True):
        seen += look
        chosen = [place * windows // 40 for place in range(40)]
        assert sorted(seen) == [chosen[place * 40 // count] for place in range(count)]
    manifest = manifest_of(plan)
    assert [look.windows for look in manifest.looks] == [8, 16, 32, 40]
    assert all(look.stretches[0] == 0 for look in manifest.looks)


def test_a_shard_is_of_one_look(plan: Plan) -> None:
    for shard in plan.shards:
        if isinstance(shard.payload, WindowsPayload):
            assert shard.record.look is not None
            assert set(shard.payload.numbers) <= set(plan.inputs.looks[shard.record.look])
        else:
            assert shard.record.look is None


@pytest.mark.parametrize("devices", [1, 2, 3, 8])
@pytest.mark.parametrize("at", [0, 1, 2, None])
def test_a_look_is_judged_when_all_of_its_windows_are_there_whatever_the_devices(
    devices: int, at: int | None, plan: Plan
) -> None:
    judge = Judge(at)
    sweep = dispatched(on(plan, devices), judge)
    last = 3 if at is None else at
    # The last look is all there is: nothing is left to be decided by it.
    assert list(judge.seen) == list(range(min(last, 2) + 1))
    for look, seen in judge.seen.items():
        assert seen == of_looks(plan, look)
    others = {s.record.fingerprint for s in plan.shards if s.record.look is None}
    done = {record.fingerprint for record in sweep.committed}
    assert done == of_looks(plan, last) | others
    assert not sweep.outcome.stopped and not sweep.outcome.abandoned  # type: ignore[attr-defined]


def test_resuming_goes_on_at_the_look_that_was_open(plan: Plan) -> None:
    judge = Judge(2)
    finished = [shard for shard in plan.shards if shard.record.look in (0, 1)][:-1]
    sweep = dispatched(on(plan, 1), judge, finished)
    assert list(judge.seen) == [0, 1, 2]
    looks = {record.look for record in sweep.committed}
    assert looks == {None, 1, 2}


def test_a_run_that_lacks_windows_is_never_decided_and_the_others_are_seen(plan: Plan) -> None:
    def rule(variant: str, payload: Payload | None) -> None:
        if variant == "nf4" and payload is None:
            raise CannotLoadError("never")

    judge = Judge(0)
    sweep = dispatched(on(plan, 2), judge, rule=rule)
    assert judge.seen == {}
    assert {record for record in sweep.committed if record.variant == "fp16"} == {
        shard.record for shard in plan.shards if shard.record.variant == "fp16"
    }
    lost = {record for record, _ in sweep.outcome.abandoned}  # type: ignore[attr-defined]
    assert lost == {shard.record for shard in plan.shards if shard.record.variant == "nf4"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "no gate is over windows"),
        ({"gate": ("success == 100%",)}, "no gate is over windows"),
        ({"gate": ("kl.mean <= 1 by category",)}, "no gate is over windows"),
        (
            {"gate": ("kl.mean <= 1",), "window_choice": "first", "max_windows": 9},
            "leave --window-choice out",
        ),
    ],
)
def test_what_nothing_would_end_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInputError, match=rf"--until-decided: .*{told}"):
        resolve_settings({**given, "until_decided": True})


def run_until_decided(settings: dict[str, Any], folder: Path, *gates: str) -> int:
    words = flags_of(**settings, cluster="none", results=folder, run_id="r", until_decided=True)
    return run_command(["run", *words, *(word for gate in gates for word in ("--gate", gate))])


def comparison_in(folder: Path) -> Comparison:
    return read_run(run_at(folder / "r")).comparison


def test_a_decided_run_is_complete_and_says_how_sure_it_is(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gates = ("kl.mean <= 10", "success >= 0%")
    assert run_until_decided(settings, tmp_path, *gates) == 0
    said = capsys.readouterr()
    assert "look 1 of 4, 8 windows: gates at 99%: 1 pass" in said.err
    assert "look 2" not in said.err
    manifest = run_at(tmp_path / "r").read_manifest()
    assert (manifest.decided, [look.windows for look in manifest.looks]) == (0, [8])
    assert manifest.identity.until_decided
    assert manifest.identity.until_decided.gates == ("kl.mean <= 10",)
    comparison = comparison_in(tmp_path)
    assert comparison.complete
    assert (comparison.confidence, comparison.sample.windows) == (0.99, 8)
    assert comparison.provenance.decided_at_windows == 8
    assert "--until-decided" in comparison.provenance.command
    assert "--gate 'kl.mean <= 10'" in comparison.provenance.command
    kl = comparison.variants["nf4"].kl
    assert kl and kl.mean.interval and kl.mean.stderr and kl.mean.value
    half = stats.t.ppf(0.995, kl.mean.n - 1) * kl.mean.stderr
    assert kl.mean.interval[1] == pytest.approx(kl.mean.value + half)
    page = (tmp_path / "r" / "report.html").read_text()
    assert "99% intervals" in page
    assert "95% interval" not in page
    assert "The gates were looked at with 8, 16, 32, 40 windows" in page
    # The same command again finds nothing left to do, and what it said stays.
    before = (tmp_path / "r" / "comparison.json").read_bytes()
    assert run_until_decided(settings, tmp_path, *gates) == 0
    assert (tmp_path / "r" / "comparison.json").read_bytes() == before
    assert run_command(["status", str(tmp_path / "r")]) == 0
    # A lost shard is made again, and the run stays decided.
    shard = next(one for one in manifest.shards if one.stage == "generations")
    run_at(tmp_path / "r").shard_path(shard).unlink()
    assert run_until_decided(settings, tmp_path, *gates) == 0
    assert run_at(tmp_path / "r").read_manifest().decided == 0
    # Other gates are another run.
    assert run_until_decided(settings, tmp_path, "kl.mean <= 9") == 2
    assert "other settings (until_decided)" in capsys.readouterr().err


def test_a_run_that_nothing_decides_sees_all(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What the first look measures: nothing decides a gate at its own figure but luck.
    run_until_decided(settings, tmp_path / "first", "kl.mean <= 10")
    kl = comparison_in(tmp_path / "first").variants["nf4"].kl
    assert kl
    gate = f"kl.mean <= {kl.mean.value!r} for nf4"
    status = run_until_decided(settings, tmp_path / "all", gate)
    manifest = run_at(tmp_path / "all" / "r").read_manifest()
    said = capsys.readouterr().err
    assert "look 1 of 4, 8 windows: gates at 99%: 1 undecided" in said
    comparison = comparison_in(tmp_path / "all")
    assert comparison.complete
    if manifest.decided is None:
        assert comparison.sample.windows == 40
        assert comparison.provenance.decided_at_windows is None
    verdict = json.loads((tmp_path / "all" / "r" / "gates.json").read_text())["results"][0]
    assert (status == 0) == (verdict["verdict"] == "pass")
    assert comparison.confidence == 0.99
