"""The command, from end to end, as a user runs it."""

import json
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pyarrow.parquet as pq
import pytest

from orchestrator.cli import run_command
from orchestrator.report.write import comparison_schema
from tests.commands import run_cli, start_cli, told


def comparison_in(results: Path) -> dict[str, Any]:
    (path,) = results.glob("*/comparison.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


ONE_A_SHARD = ["--shard-size", "1", "--batch-tokens", "1"]


def shard_files(results: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in results.glob("*/shards/**/*.arrow")}


def test_a_sweep_leaves_a_comparison_and_is_not_computed_again(
    tiny_sweep: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run_cli(["--cluster", "local", *tiny_sweep, "--results", str(tmp_path)])
    assert first.returncode == 0, first.stderr
    comparison = comparison_in(tmp_path)
    jsonschema.validate(comparison, json.loads(comparison_schema()))
    assert comparison["complete"]
    assert comparison["notes"] == []
    nf4 = comparison["variants"]["nf4"]
    assert nf4["perplexity"]["delta_pct"] != 0
    assert nf4["generation"]["prompts"] == 6
    assert set(nf4["generation"]["by_category"]) == {"A", "B"}
    assert nf4["memory"]["compression_ratio"] > 1
    assert comparison["variants"]["fp16"]["perplexity"]["delta_pct"] is None
    (run,) = tmp_path.glob("*/")
    assert str(run / "report.html") in first.stdout
    assert {path.name for path in (run / "tables").iterdir()} == {
        "variants.parquet",
        "prompts.parquet",
        "shards.parquet",
        "integrity.parquet",
        "loading.parquet",
        "windows.parquet",
        "tokens.parquet",
        "worst_tokens.parquet",
        "noise.parquet",
        "noise_tokens.parquet",
        "generations.parquet",
        "timings.parquet",
        "throughput.parquet",
        "teacher_forced.parquet",
        "teacher_forced_tokens.parquet",
    }
    assert (run / "kl.svg").read_bytes().endswith(b"</svg>\n")
    windows = pq.read_table(run / "tables" / "windows.parquet")
    assert windows.num_rows == 2 * nf4["perplexity"]["windows"]

    before = shard_files(tmp_path)
    gate = ["--gate", "weights_bytes <= 1"]
    capsys.readouterr()
    assert run_command(["--cluster", "local", *tiny_sweep, *gate, "--results", str(tmp_path)]) == 3
    assert "Gates: failed (1 failed)." in capsys.readouterr().out
    assert json.loads((run / "gates.json").read_text())["asked"]
    assert shard_files(tmp_path) == before
    assert comparison_in(tmp_path) == comparison

    lost, kept = sorted(before)[0], sorted(before)[1:]
    lost.unlink()
    damaged = kept.pop()
    damaged.write_bytes(damaged.read_bytes()[:-10])
    assert run_command(["status", run.name, "--results", str(tmp_path)]) == 0
    *variants, last = capsys.readouterr().out.splitlines()
    done = [line.split(": ")[1].split("/")[0] for line in variants]
    assert "does not run on this machine" in last
    # Whether a file is whole is seen when it is read.
    assert sum(map(int, done)) == len(before) - 1
    # Wherever it goes on.
    assert run_command(["--cluster", "none", *tiny_sweep, "--results", str(tmp_path)]) == 0
    after = shard_files(tmp_path)
    assert after.keys() == before.keys()
    assert {path: after[path] for path in kept} == {path: before[path] for path in kept}
    assert damaged.with_suffix(".damaged").exists()


def test_numbers_do_not_depend_on_shards_or_actors(tiny_sweep: list[str], tmp_path: Path) -> None:
    values = []
    cuts = (
        ["--shard-size", "8", "--cluster", "none"],
        ["--shard-size", "3", "--replicas", "2"],
    )
    for number, cut in enumerate(cuts):
        results = tmp_path / str(number)
        small = ["--max-prompts", "0", "--batch-tokens", "512", "--results", str(results)]
        assert run_command([*tiny_sweep, *cut, *small]) == 0
        variants = comparison_in(results)["variants"]
        values.append({name: v["perplexity"]["value"] for name, v in variants.items()})
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_a_signal_stops_early_and_the_same_command_resumes(
    tiny_sweep: list[str], tmp_path: Path
) -> None:
    arguments = [*tiny_sweep, *ONE_A_SHARD, "--results", str(tmp_path)]
    process = start_cli(arguments)
    deadline = time.monotonic() + 120
    while not shard_files(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    # The terminal was closed, or the connection to it lost.
    process.send_signal(signal.SIGHUP)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 75, error
    assert "To resume: python -m orchestrator" in error
    assert "Traceback" not in error
    kept = shard_files(tmp_path)
    resumed = run_cli(arguments)
    assert resumed.returncode == 0, resumed.stderr
    assert f"{len(kept)} shards done" in resumed.stderr
    after = shard_files(tmp_path)
    assert {path: after[path] for path in kept} == kept
    assert comparison_in(tmp_path)["complete"]


def actor_processes(driver: int) -> list[psutil.Process]:
    """Ray names a worker by what it does; only this run's are children of its driver."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith("ray::ModelActor.evaluate"):
                found.append(process)
    return found


def test_a_killed_actor_is_replaced_and_nothing_is_missing(
    tiny_sweep: list[str], tmp_path: Path
) -> None:
    arguments = [*tiny_sweep, *ONE_A_SHARD, "--results", str(tmp_path)]
    process = start_cli(arguments)
    deadline = time.monotonic() + 120
    while not (victims := actor_processes(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    # What it does is timed: it gives way to nothing that the command would not give way to.
    assert victims[0].nice() == psutil.Process().nice()
    victims[0].kill()
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert "ActorDiedError" in error
    assert "trying again" in error
    assert comparison_in(tmp_path)["complete"]


def check_refusal(said: str, setting: str, remedy: str, results: Path) -> None:
    """One line that names the setting and the remedy, and nothing left behind."""
    lines = told(said)
    assert len(lines) == 1, said
    assert lines[0].startswith(f"error: {setting}: ")
    assert remedy in lines[0]
    assert not results.exists() or not list(results.iterdir())


@pytest.mark.parametrize(
    ("arguments", "setting", "remedy"),
    [
        (["--max-new-tokens", "127"], "--max-new-tokens", "exceeds the model's maximum"),
        (["--model", "no-one/nothing"], "--model", "hub cannot be reached"),
    ],
)
def test_bad_input_is_told_in_one_line_and_leaves_nothing(
    arguments: list[str], setting: str, remedy: str, tiny_sweep: list[str], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    process = run_cli([*tiny_sweep, "--results", str(results), *arguments])
    assert process.returncode == 2, process.stderr
    check_refusal(process.stderr, setting, remedy, results)


@pytest.mark.parametrize(
    ("arguments", "setting", "remedy"),
    [
        (["--window-length", "4096"], "--window-length", "model's maximum of 128"),
        (["--protocol", "strided", "--stride", "999"], "--stride", "lower it"),
        (["--dataset", "absent.txt"], "--dataset", "no file absent.txt"),
        (["--prompts", "absent.jsonl"], "--prompts", "cannot read absent.jsonl"),
        (["--device", "cuda"], "--device", "--device cpu"),
        (["--cluster", "127.0.0.1:9"], "--cluster", "ray start --head"),
        (["--results", "/proc/nowhere"], "--results", "name another"),
    ],
)
def test_bad_input_that_needs_no_process_is_told_alike(
    arguments: list[str],
    setting: str,
    remedy: str,
    tiny_sweep: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = tmp_path / "results"
    assert run_command([*tiny_sweep, "--results", str(results), *arguments]) == 2
    check_refusal(capsys.readouterr().err, setting, remedy, results)


def test_a_cluster_that_was_stopped_is_told_at_once(
    tiny_sweep: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    process = run_cli([*tiny_sweep, "--cluster", "auto", "--results", str(tmp_path)], 60)
    assert process.returncode == 2
    (line,) = told(process.stderr)
    assert line.startswith("error: --cluster: cannot join 'auto' (")


def test_a_temporary_folder_that_ray_cannot_use_is_told_with_the_remedy(
    tiny_sweep: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    process = run_cli([*tiny_sweep, "--results", str(tmp_path / "r")], 60)
    assert process.returncode == 2
    (line,) = told(process.stderr)
    assert line.startswith("error: --cluster: Ray cannot be started on this machine (")
    assert f"set RAY_TMPDIR (now {long})" in line


def test_a_home_that_cannot_be_written_is_told_with_the_remedy(
    tiny_sweep: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/proc")
    process = run_cli([*tiny_sweep, "--results", str(tmp_path / "r")], 60)
    assert process.returncode == 2
    (line,) = told(process.stderr)
    assert "and HOME if that cannot be written" in line
