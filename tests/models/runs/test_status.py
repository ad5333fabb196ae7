"""How far a run is, and what a command line says of itself."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock

from orchestrator.cli import run_command
from orchestrator.runs.status import progress_of
from orchestrator.storage.events import Event, EventKind
from orchestrator.storage.results_folder import run_at
from tests.pipeline import FinishedRun

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def event(seconds: float, kind: EventKind, items: int | None = None) -> Event:
    time = BEGIN + timedelta(seconds=seconds)
    return Event(time=time, event=kind, variant="nf4", items=items)


@pytest.fixture
def unfinished(finished_run: FinishedRun, tmp_path: Path) -> Path:
    """A run that lacks the windows of NF4: 6 items in one shard."""
    folder = tmp_path / "r"
    shutil.copytree(finished_run.folder, folder)
    for record in run_at(folder).read_manifest().shards:
        if (record.variant, record.stage) == ("nf4", "windows"):
            run_at(folder).shard_path(record).unlink()
    return folder


def test_speed_and_time_left_are_of_the_work_since_the_model_was_loaded(unfinished: Path) -> None:
    events = [
        # An earlier start: its speed says nothing of this one.
        event(0, "actor_loaded"),
        event(100, "shard_computed", 1),
        event(101, "actor_stopped"),
        event(1000, "actor_started"),
        event(1060, "actor_loaded"),
        event(1070, "shard_computed", 4),
        event(1078, "shard_computed", 2),
    ]
    now = BEGIN + timedelta(seconds=1080)
    fp16, int8, nf4 = progress_of(
        run_at(unfinished), run_at(unfinished).read_manifest(), events, now
    )
    assert nf4.items_per_second == pytest.approx(6 / 20)
    assert nf4.seconds_left == pytest.approx(6 / (6 / 20))
    assert str(nf4).endswith("0.3 items/s, about 20 s left")
    assert fp16.finished_shards == fp16.shards
    assert int8.items_per_second is None


def test_nothing_is_said_of_a_variant_that_nothing_works_on(unfinished: Path) -> None:
    events = [event(0, "actor_loaded"), event(5, "shard_computed", 3), event(6, "actor_stopped")]
    *_, nf4 = progress_of(run_at(unfinished), run_at(unfinished).read_manifest(), events, BEGIN)
    assert nf4.seconds_left is None
    assert str(nf4).endswith("shards, not begun or waiting")


def test_the_command_says_whether_a_run_goes_on(
    unfinished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not run_at(unfinished).is_being_written()
    assert run_command(["status", str(unfinished)]) == 0
    assert "does not run on this machine" in capsys.readouterr().out
    with FileLock(unfinished / "run.lock"):
        assert run_at(unfinished).is_being_written()
        assert run_command(["status", str(unfinished)]) == 0
        assert "does not run" not in capsys.readouterr().out


def test_the_command_says_what_would_decide_a_gate(
    finished_run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "r"
    shutil.copytree(finished_run.folder, folder)
    kl = finished_run.comparison.variants["nf4"].kl
    assert kl and kl.mean.value and kl.mean.interval
    gate = f"kl.mean <= {(kl.mean.value + kl.mean.interval[1]) / 2:.6f} for nf4"
    assert run_command(["gate", str(folder), "--gate", gate, "--write"]) == 3
    capsys.readouterr()
    assert run_command(["status", str(folder)]) == 0
    said = f"nf4: '{gate}' is undecided: its interval holds the threshold; about 24 windows"
    assert said in capsys.readouterr().out


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    whole = event(1, "actor_loaded")
    (tmp_path / "events.jsonl").write_text(whole.model_dump_json() + '\n{"time": "20')
    assert run_at(tmp_path).read_events() == ([whole], 0)
    assert run_at(tmp_path / "absent").read_events() == ([], 0)


@pytest.mark.parametrize(
    "command", [[], ["run"], ["plan"], ["report"], ["gate"], ["history"], ["status"], ["verify"]]
)
def test_help_is_for_people(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command([*command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for jargon in ("tuple[", "None", "ByteSize", "()", " str ", " Path"):
        assert jargon not in shown
    assert shown.startswith(" ".join(["usage: python -m orchestrator", *command]))


def test_help_sorts_flags_and_says_what_commands_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_command(["run", "--help"])
    shown = capsys.readouterr().out
    order = ["what is measured:", "--model TEXT", "where and how it runs:", "--cluster WHERE"]
    places = [shown.index(part) for part in order]
    assert places == sorted(places)
    with pytest.raises(SystemExit):
        run_command(["--help"])
    assert "hold a finished run against criteria" in capsys.readouterr().out
