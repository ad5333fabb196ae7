"""What goes on is said before it goes on, and how far it is by what is known."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from actors.actor import ModelActor
from orchestrator import preparing, sweep
from orchestrator.contract.shards import ShardRecord
from orchestrator.running.dispatch import Dispatcher
from orchestrator.running.in_process import InProcessCluster, InProcessPool
from orchestrator.running.log import Log
from orchestrator.running.progress import Progress
from orchestrator.running.stop import StopRequest
from orchestrator.settings import Settings
from tests.pipeline import make_test_plan, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model


def test_each_phase_is_told_of_before_its_first_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            happened.append(name)
            return function(*args, **more)

        return call

    monkeypatch.setattr(sweep, "say", lambda _, text, **about: happened.append(text))
    monkeypatch.setattr(
        "orchestrator.running.progress.say",
        lambda _, text, **about: happened.append(text.split(";")[0]),
    )
    for name in ("find_sources", "cut_inputs", "make_plan"):
        monkeypatch.setattr(preparing, name, noted(name, getattr(preparing, name)))
    connected, result = InProcessCluster.connected, InProcessPool.result
    monkeypatch.setattr(InProcessCluster, "connected", noted("connected", connected))
    monkeypatch.setattr(InProcessPool, "result", noted("an actor works", result))
    model = make_tiny_model(tmp_path / "model")
    inputs = write_inputs(tmp_path / "inputs", SAMPLE_ROWS)
    settings = Settings(
        dataset=inputs["dataset"],
        prompts=inputs["prompts"],
        model=str(model),
        variants=("fp16",),
        cluster="none",
        results=tmp_path,
        max_windows=2,
        max_prompts=0,
    )
    assert sweep.run_sweep(settings) == 0
    order = [
        f"finding the model {model}…",
        "find_sources",
        "counting devices…",
        "connected",
        f"cutting {inputs['dataset']} into windows…",
        "cut_inputs",
        "hashing and planning…",
        "make_plan",
        "fp16: loading…",
        "an actor works",
    ]
    assert [one for one in happened if one in order and one != "an actor works"] == order[:-1]
    assert happened.index("fp16: loading…") < happened.index("an actor works")


def test_what_is_left_is_known_once_something_of_each_kind_is_done(tmp_path: Path) -> None:
    plan = make_test_plan(
        **write_inputs(tmp_path / "inputs", SAMPLE_ROWS),
        model=str(make_tiny_model(tmp_path / "model")),
        variants=("fp16", "nf4"),
        max_windows=4,
        shard_size=1,
        max_new_tokens=3,
        results=tmp_path,
    )
    told: list[float | None] = []

    class Told(Progress):
        def finished(self, shard: ShardRecord, seconds: float, left_seconds: float | None) -> None:
            assert seconds >= 0
            told.append(left_seconds)

    tables: dict[str, Any] = {}
    progress = Told([shard.record for shard in plan.shards], set(), Console(file=io.StringIO()))
    dispatcher = Dispatcher(
        plan,
        InProcessPool(ModelActor),
        lambda record, table: tables.update({record.fingerprint: table}),
        lambda record: tables[record.fingerprint],
        Log(lambda _: None),
        progress,
    )
    assert not dispatcher.run(set(), StopRequest()).stopped
    # Nobody knows what an answer takes before there is one.
    assert told[0] is None
    known = [seconds for seconds in told if seconds is not None]
    assert told == [None] * (len(told) - len(known)) + known
    assert len(known) > len(told) / 2
    assert all(seconds > 0 for seconds in known[:-1])
    assert known[-1] == 0


def record(variant: str, stage: str, index: int, items: int = 2) -> ShardRecord:
    name = f"{variant}{stage}{index}".ljust(16, "x")
    return ShardRecord(variant=variant, stage=stage, index=index, items=items, fingerprint=name)


def test_a_terminal_shows_a_line_of_all_beside_a_variant_of_that_name() -> None:
    shards = [record(v, "windows", n) for v in ("all", "nf4") for n in range(2)]
    said = io.StringIO()
    with Progress(shards, set(), Console(file=said, width=120, force_terminal=True)) as progress:
        # What is needed, but not counted.
        progress.loading("fp16")
        progress.loading("all")
        for shard in shards:
            progress.finished(shard, seconds=0.5, left_seconds=3.0)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.getvalue())
    assert "fp16: loading…" in text
    last = [line for line in text.splitlines() if "shards" in line][-3:]
    assert [line.split()[0] for line in last] == ["all", "nf4", "all"]
    assert ["2/2" in line for line in last] == [True, True, False]
    assert "4/4" in last[2]


def test_a_line_says_how_far_all_is_how_fast_and_how_long_it_takes() -> None:
    shards = [record(v, "windows", n) for v in ("fp16", "nf4") for n in range(3)]
    said, now = io.StringIO(), [100.0]
    with Progress(
        shards, {shards[0].fingerprint}, Console(file=said, width=200), lambda: now[0]
    ) as progress:
        progress.loading("fp16")
        now[0] += 50
        # The wait before it says nothing of its speed.
        progress.finished(shards[1], seconds=4.0, left_seconds=None)
        now[0] += 20
        progress.finished(shards[2], seconds=2.0, left_seconds=200.0)
        for shard in shards[3:]:
            progress.finished(shard, seconds=1.0, left_seconds=0.0)
    assert said.getvalue().splitlines() == [
        "fp16: loading…",
        "fp16: 2/3 shards, 0.5 windows/s; in all 2/6, 50 s",
        "fp16: 3/3 shards, 0.667 windows/s; in all 3/6, 70 s, about 3 min left",
        "nf4: 1/3 shards, 2 windows/s; in all 4/6, 70 s, about 0 s left",
        "nf4: 3/3 shards, 2 windows/s; in all 6/6, 70 s",
    ]
