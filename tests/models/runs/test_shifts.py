"""What changed from one run to the next beyond chance and rounding, and the alarm of it."""

from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.cli import run_command
from orchestrator.errors import ExitStatus
from orchestrator.runs import finished as runs
from orchestrator.runs.shifts import Shifts, shifts_between
from orchestrator.storage.results_folder import run_at
from orchestrator.storage.run_folder import RunFolder
from tests.commands import flags_of
from tests.pipeline import FinishedRun, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

Change = Callable[[dict[str, Any]], None]


def altered(run: Path, folder: Path, stage: str, variant: str, change: Change) -> RunFolder:
    """A run's folder with other rows of a stage and variant, as if they had been measured."""
    made = run_at(copytree(run, folder))
    for record in made.read_manifest().shards:
        if (record.stage, record.variant) == (stage, variant):
            table = made.read_shard(record)
            rows = table.to_pylist()
            for row in rows:
                change(row)
            made.write_shard(record, pa.Table.from_pylist(rows, schema=table.schema))
    return made


def shifted(before: FinishedRun, after: RunFolder) -> Shifts:
    return shifts_between(
        runs.FinishedRun(run_at(before.folder), before.comparison),
        runs.FinishedRun(after, before.comparison),
    )


def each_token(row: dict[str, Any], column: str, added: Callable[[int], Any]) -> None:
    values = added(len(row["tokens"]))
    for token, value in zip(row["tokens"], values, strict=True):
        token[column] = float(token[column] + value)


def test_the_same_run_again_has_not_changed(finished_run: FinishedRun, tmp_path: Path) -> None:
    again = run_at(copytree(finished_run.folder, tmp_path / "r"))
    found = shifted(finished_run, again)
    assert len(found.compared) == 8  # perplexity of three, KL of two, speed of three
    assert found.changes == []
    assert all(shift.before == shift.after for shift in found.compared)


def test_rounding_raises_no_alarm_in_twenty_tries(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)

        def another_order(row: dict[str, Any], rng: np.random.Generator = rng) -> None:
            # Each window a little off in one direction, each token besides.
            off = rng.normal(0, 2e-6)
            each_token(row, "negative_log_likelihood", lambda n: off + rng.normal(0, 1e-5, n))

        again = altered(finished_run.folder, tmp_path / str(seed), "windows", "nf4", another_order)
        assert shifted(finished_run, again).changes == []


def test_chance_raises_an_alarm_no_more_often_than_it_says(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    """Windows that differ in either direction, as of another sampling of the same thing."""
    alarms = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)

        def in_either_direction(row: dict[str, Any], rng: np.random.Generator = rng) -> None:
            off = rng.normal(0, 0.01)
            each_token(row, "negative_log_likelihood", lambda n: np.full(n, off))

        again = altered(
            finished_run.folder, tmp_path / str(seed), "windows", "nf4", in_either_direction
        )
        alarms += bool(shifted(finished_run, again).changes)
    assert alarms <= 3


@pytest.mark.parametrize(
    ("column", "measure"),
    [("negative_log_likelihood", "perplexity, as nats a token,"), ("kl", "mean KL")],
)
def test_a_change_is_named_with_both_values(
    column: str, measure: str, finished_run: FinishedRun, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)

    def worse(row: dict[str, Any]) -> None:
        each_token(row, column, lambda n: 0.02 + rng.normal(0, 0.002, n))

    again = altered(finished_run.folder, tmp_path / "r", "windows", "nf4", worse)
    (found,) = shifted(finished_run, again).changes
    assert (found.variant, found.measure) == ("nf4", measure)
    assert found.after - found.before == pytest.approx(0.02, abs=1e-3)
    assert f"nf4: {measure}" in str(found)


def test_a_slower_run_is_named_on_like_devices_alone(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    def slower(row: dict[str, Any]) -> None:
        row["seconds"] *= 2
        for timing in row["timings"]:
            timing["seconds"] *= 2

    again = altered(finished_run.folder, tmp_path / "r", "generations", "int8", slower)
    (found,) = shifted(finished_run, again).changes
    assert (found.variant, found.measure) == ("int8", "tokens per second")
    assert found.after == pytest.approx(found.before / 2)
    comparison = finished_run.comparison
    provenance = comparison.provenance.model_copy(update={"devices": ["another"]})
    shifts = shifts_between(
        runs.FinishedRun(run_at(finished_run.folder), comparison),
        runs.FinishedRun(again, comparison.model_copy(update={"provenance": provenance})),
    )
    assert shifts.changes == []
    assert "int8: speed is not compared: the runs were on unlike devices" in shifts.left_out


def test_a_little_slower_is_no_change(finished_run: FinishedRun, tmp_path: Path) -> None:
    def slower(row: dict[str, Any]) -> None:
        row["seconds"] *= 1.08

    again = altered(finished_run.folder, tmp_path / "r", "generations", "int8", slower)
    assert shifted(finished_run, again).changes == []


def test_what_is_no_number_is_left_out(finished_run: FinishedRun, tmp_path: Path) -> None:
    def broken(row: dict[str, Any]) -> None:
        row["tokens"][0]["kl"] = float("nan")

    again = altered(finished_run.folder, tmp_path / "r", "windows", "nf4", broken)
    shifts = shifted(finished_run, again)
    assert shifts.changes == []
    assert "nf4: mean KL is not compared: not all of it is a finite number" in shifts.left_out


def test_history_raises_an_alarm_where_a_variant_was_swapped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = write_inputs(tmp_path, SAMPLE_ROWS, prompts=1)
    model = make_tiny_model(tmp_path / "model")
    candidate = copytree(model, tmp_path / "candidate")
    results = tmp_path / "results"

    def run(run_id: str) -> None:
        said = flags_of(
            **inputs,
            model=model,
            variants=("fp16", f"mine={candidate}"),
            max_windows=8,
            max_prompts=0,
            cluster="none",
            results=results,
            run_id=run_id,
        )
        assert run_command(said) == ExitStatus.DONE

    history = ["history", "--results", str(results)]
    run("first")
    assert run_command([*history, "--alarm"]) == ExitStatus.DONE
    run("second")
    capsys.readouterr()
    assert run_command([*history, "--alarm"]) == ExitStatus.DONE
    assert "From first to second none of 3 figures changed beyond chance." in (
        capsys.readouterr().out.replace("\n", " ")
    )
    make_tiny_model(candidate, seed=1)
    run("third")
    capsys.readouterr()
    assert run_command(history) == ExitStatus.DONE
    assert run_command([*history, "--alarm"]) == ExitStatus.GATE_FAILED
    out = capsys.readouterr().out
    assert "Changed from second to third: mine: mean KL 0 → " in out
    assert "Changed from second to third: mine: mean KL" in ((results / "history.html").read_text())
