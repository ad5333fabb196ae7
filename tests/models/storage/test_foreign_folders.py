"""A run's folder may be a stranger's: nothing outside it is touched, nor what is not of a run."""

import json
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from orchestrator.cli import run_command
from orchestrator.errors import BadInputError
from orchestrator.runs.finished import read_run
from orchestrator.settings_layers import resolve_settings
from orchestrator.storage import local_files
from orchestrator.storage.file_names import RunGroup
from orchestrator.storage.results_folder import run_at
from orchestrator.storage.stamp import stamped
from tests.commands import flags_of
from tests.pipeline import FinishedRun, make_test_plan, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model


@pytest.fixture
def folder(finished_run: FinishedRun, tmp_path: Path) -> Path:
    """A run with its report, to be spoiled."""
    shutil.copytree(finished_run.folder, tmp_path / "r")
    assert run_command(["report", str(tmp_path / "r")]) == 0
    return tmp_path / "r"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Somebody's folder."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / "letter.txt").write_text("dear")
    return place


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", ["answers", "summary", "tables"])
def test_a_report_follows_no_link(
    name: str, folder: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(folder / name)
    (folder / name).symlink_to(elsewhere)
    before = content(elsewhere)
    capsys.readouterr()
    assert run_command(["report", str(folder)]) == 2
    said = capsys.readouterr().err
    assert said == (
        f"error: RUN: {folder / name} is a link, and what is written there would be elsewhere; "
        "remove it\n"
    )
    assert content(elsewhere) == before


@pytest.mark.parametrize("name", ["report.html", "comparison.json", "kl.svg", "written.json"])
def test_a_link_in_the_place_of_a_file_is_replaced(name: str, folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("[]")
    (folder / name).unlink()
    (folder / name).symlink_to(mine)
    assert run_command(["report", str(folder)]) == 0
    assert mine.read_text() == "[]"
    assert not (folder / name).is_symlink()


@pytest.mark.parametrize("name", ["run.lock", "events.jsonl", "shards"])
def test_a_sweep_follows_no_link(
    name: str, tmp_path: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = sweep_settings(tmp_path)
    assert run_command(words(settings)) == 0
    path = tmp_path / "s" / name
    aside = tmp_path / "aside"
    path.rename(aside) if name != "shards" else shutil.rmtree(path)
    target = elsewhere if name == "shards" else elsewhere / "letter.txt"
    path.symlink_to(target)
    shutil.rmtree(tmp_path / "s" / "shards") if name != "shards" else None
    before = content(elsewhere)
    capsys.readouterr()
    assert run_command(words(settings)) in (1, 2)
    assert content(elsewhere) == before
    assert capsys.readouterr().err.count("error: ") == 1


def test_foreign_files_stay(folder: Path) -> None:
    for group in ("answers", "summary"):
        (folder / group / "notes.txt").write_text("mine")
        (folder / group / "deep").mkdir()
    assert run_command(["report", str(folder)]) == 0
    for group in ("answers", "summary"):
        assert (folder / group / "notes.txt").read_text() == "mine"
        assert (folder / group / "deep").is_dir()


@pytest.mark.parametrize(
    "listed", ["../run.json", "../../elsewhere/letter.txt", "/etc/passwd", "", "..", "."]
)
def test_nothing_is_taken_away_that_a_list_names_elsewhere(
    listed: str, folder: Path, elsewhere: Path
) -> None:
    (folder / "written.json").write_text(json.dumps({"answers": [listed], "summary": listed}))
    assert run_command(["report", str(folder)]) == 0
    assert (folder / "run.json").exists()
    assert (elsewhere / "letter.txt").exists()


@pytest.mark.parametrize("written", ["", "[]", "{", '{"answers": 3}', "[" * 100_000])
def test_a_list_that_cannot_be_read_names_nothing(written: str, folder: Path) -> None:
    (folder / "written.json").write_text(written)
    run_at(folder).write_group(RunGroup.ANSWERS, {"a.json": b"{}"})
    assert (folder / "answers" / "nf4.json").exists()


@pytest.mark.parametrize(
    "line", [b"\xff\xfe\n", b"\x00" * 50 + b"\n", b'{"time": 3}\n', b"[" * 100_000 + b"\n"]
)
def test_a_line_of_events_that_cannot_be_read_is_counted_and_left_out(
    line: bytes, folder: Path
) -> None:
    before = run_at(folder).read_events()
    path = folder / "events.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, line, *rest]))
    assert run_at(folder).read_events() == (before.events, 1)
    assert run_command(["report", str(folder)]) == 0
    comparison = read_run(run_at(folder)).comparison
    told = [note for note in comparison.notes if "events.jsonl" in note]
    assert told == [
        "1 lines of events.jsonl cannot be read: what they told of is missing from the times of "
        "devices."
    ]
    assert told[0] in (folder / "report.md").read_text()


def test_a_line_that_a_kill_cut_off_spoils_no_other(folder: Path) -> None:
    files = run_at(folder)
    events = files.read_events().events
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"time": "2026-')
    files.append_events(events[:1])
    assert files.read_events() == ([*events, events[0]], 1)


def test_characters_that_end_lines_elsewhere_end_none_of_events(folder: Path) -> None:
    files = run_at(folder)
    event = files.read_events().events[0].model_copy(update={"reason": "a\u2028b\x85c"})
    files.append_events([event])
    assert files.read_events().events[-1] == event


Change = Callable[[dict[str, Any]], None]


def rename_variant(content: dict[str, Any]) -> None:
    content["variants"][0]["variant"] = "../../elsewhere/x"


def rename_shard(content: dict[str, Any]) -> None:
    content["shards"][0]["variant"] = "../.."


def rename_stage(content: dict[str, Any]) -> None:
    content["shards"][0]["stage"] = "/etc"


def other_fingerprint(content: dict[str, Any]) -> None:
    content["shards"][0]["fingerprint"] = "../x"


def other_reference(content: dict[str, Any]) -> None:
    content["reference"] = "\x1b[31m"


def other_id(content: dict[str, Any]) -> None:
    content["run_id"] = "../r"


def no_identity(content: dict[str, Any]) -> None:
    content["version"] = 9
    del content["identity"]


@pytest.mark.parametrize(
    "change",
    [
        *(rename_variant, rename_shard, rename_stage, other_fingerprint, other_reference),
        *(other_id, no_identity),
    ],
)
@pytest.mark.parametrize("command", ["report", "status", "gate"])
def test_names_in_a_manifest_are_such_as_one_may_type(
    command: str, change: Change, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil_manifest(folder, change)
    capsys.readouterr()
    assert run_command([command, str(folder)]) == 2
    assert "run.json is not as it was written; set the folder aside" in capsys.readouterr().err


def gates_in_a_file(content: dict[str, Any]) -> None:
    content["settings"]["gate_set"] = "/dev/zero"


def gates_of_numbers(content: dict[str, Any]) -> None:
    content["settings"]["gate"] = {"a": 3}


@pytest.mark.parametrize(
    ("change", "said"),
    [(gates_in_a_file, "its gates are in a file"), (gates_of_numbers, "its gates cannot be read")],
)
def test_a_foreign_run_has_no_file_read(
    change: Change, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil_manifest(folder, change)
    capsys.readouterr()
    assert run_command(["report", str(folder)]) == 2
    assert said in capsys.readouterr().err


def spoil_manifest(folder: Path, change: Change) -> None:
    """Another content with the right digest."""
    content = json.loads((folder / "run.json").read_bytes())
    content.pop("sha256")
    change(content)
    (folder / "run.json").write_bytes(stamped(content))


def test_two_reports_take_turns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(folder / "report.lock"):
        waiting = threading.Thread(target=run_command, args=(["report", str(folder)],))
        waiting.start()
        waiting.join(1.0)
        assert waiting.is_alive()
    waiting.join(60)
    assert not waiting.is_alive()
    assert "Report: " in capsys.readouterr().out


def test_a_report_does_not_wait_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local_files, "_TURN_SECONDS", 0.1)
    with FileLock(folder / "report.lock"):
        assert run_command(["report", str(folder)]) == 2
    assert "another process writes the report" in capsys.readouterr().err


def test_what_a_kill_left_half_written_goes_at_the_next_start(tmp_path: Path) -> None:
    settings = sweep_settings(tmp_path)
    assert run_command(words(settings)) == 0
    run = tmp_path / "s"
    halves = [
        run / ".run.json.7.tmp",
        run / "shards" / "fp16" / ".windows-00000-0123.arrow.77.tmp",
        run / "tables" / ".tokens.parquet.777.tmp",
        run / "answers" / ".fp16.json.7.tmp",
        run / ".report.html.7.tmp",
    ]
    foreign = [run / ".notes.7.tmp", run / "shards" / "fp16" / ".hidden"]
    for path in (*halves, *foreign):
        path.write_bytes(b"half")
    assert run_command(words(settings)) == 0
    assert [path for path in halves if path.exists()] == []
    assert all(path.exists() for path in foreign)


def test_a_link_where_a_file_is_written_first_is_not_followed(
    folder: Path, elsewhere: Path
) -> None:
    (folder / f".report.md.{os.getpid()}.tmp").symlink_to(elsewhere / "letter.txt")
    assert run_command(["report", str(folder)]) == 0
    assert (elsewhere / "letter.txt").read_text() == "dear"


def test_a_runs_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    assert run_command(words(sweep_settings(tmp_path))) == 0
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700


def sweep_settings(folder: Path) -> dict[str, Any]:
    return {
        **write_inputs(folder / "inputs", SAMPLE_ROWS),
        "model": str(make_tiny_model(folder / "model")),
        "variants": ("fp16", "nf4"),
        "max_windows": 4,
        "shard_size": 1,
        "max_new_tokens": 2,
        "results": folder,
        "run_id": "s",
    }


def words(settings: dict[str, Any]) -> list[str]:
    return flags_of(**settings, cluster="none")


@pytest.mark.parametrize("stage", ["windows", "generations"])
def test_a_shard_that_is_found_damaged_is_computed_again_in_the_same_command(
    stage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = sweep_settings(tmp_path)
    whole = run_in_process(make_test_plan(**settings))
    folder = run_at(tmp_path / "s")
    records = folder.read_manifest().shards
    damaged = next(one for one in records if one.stage == stage)
    unfinished = next(one for one in records if one.variant == "nf4" and one.stage == "windows")
    spoiled = bytearray(folder.shard_path(damaged).read_bytes())
    spoiled[len(spoiled) // 2] ^= 1
    folder.shard_path(damaged).write_bytes(spoiled)
    folder.shard_path(unfinished).unlink()
    capsys.readouterr()
    assert run_command(words(settings)) == 0
    assert "1 files of shards are damaged" in capsys.readouterr().err
    assert folder.shard_path(damaged).with_suffix(".damaged").exists()
    again = read_run(folder).comparison
    for name in ("fp16", "nf4"):
        assert again.variants[name].perplexity == whole.variants[name].perplexity
        assert again.variants[name].kl == whole.variants[name].kl


def test_a_whole_run_of_which_a_shard_is_damaged_is_made_whole(tmp_path: Path) -> None:
    settings = sweep_settings(tmp_path)
    whole = run_in_process(make_test_plan(**settings))
    folder = run_at(tmp_path / "s")
    path = folder.shard_path(folder.read_manifest().shards[2])
    path.write_bytes(path.read_bytes()[:-1])
    assert run_command(words(settings)) == 0
    assert path.with_suffix(".damaged").exists()
    assert read_run(folder).comparison.variants["fp16"].perplexity == (
        whole.variants["fp16"].perplexity
    )


@pytest.mark.parametrize("name", ["a" * 101, "../x", ".hidden", "a/b", "a\nb"])
def test_a_name_that_no_folder_should_have_is_refused_before_anything_runs(
    name: str, tmp_path: Path
) -> None:
    settings = sweep_settings(tmp_path)
    with pytest.raises(BadInputError, match="--run-id"):
        resolve_settings({**settings, "run_id": name})
    with pytest.raises(BadInputError, match="--variants"):
        resolve_settings({**settings, "variants": ("fp16", f"{name}={settings['model']}")})
