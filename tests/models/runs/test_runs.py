"""Several runs: what stands beside what, what changed over time, and what is not compared."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import run_command
from orchestrator.comparison_schema import COMPARISON_VERSION, Comparison
from orchestrator.report.runs_pages import render_side_by_side
from orchestrator.report.tables.runs_tables import side_by_side, unlike
from orchestrator.runs.finished import read_run, read_runs
from orchestrator.runs.history import changes, series_of
from orchestrator.storage.results_folder import ResultsFolder, run_at
from orchestrator.storage.stamp import stamped
from tests.pipeline import FinishedRun


def with_parts(comparison: Comparison, **changed: Any) -> Comparison:
    """The comparison with other values; keys are paths with `__` between the names."""
    content = comparison.model_dump(by_alias=True)
    for path, value in changed.items():
        *names, last = path.split("__")
        part = content
        for name in names:
            part = part[name]
        part[last] = value
    return Comparison.model_validate(content)


def add_run(results: Path, run: FinishedRun, name: str, hour: int, **changed: Any) -> Path:
    """A copy of a run under another name, of another hour, with other values."""
    folder = results / name
    shutil.copytree(run.folder, folder)
    started = f"2026-01-01T{hour:02}:00:00Z"
    changed = {"run_id": name, "provenance__started": started, **changed}
    comparison = with_parts(run.comparison, **changed)
    (folder / "comparison.json").write_bytes(stamped(json.loads(comparison.model_dump_json())))
    return folder


def test_runs_of_the_same_text_and_prompts_stand_in_one_table(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    runs = [read_run(run_at(add_run(tmp_path, finished_run, name, 1))) for name in ("a", "b")]
    tables = list(side_by_side(runs))
    assert [table.name for table in tables] == ["quality_1", "speed_1", "memory"]
    names = [(row[0].text, row[2].text) for row in tables[0].rows]
    assert names == [(run, v) for run in "ab" for v in ("fp16", "int8", "nf4")]
    assert unlike(runs) == []


@pytest.mark.parametrize(
    ("changed", "kinds", "said"),
    [
        (
            {"provenance__window_length": 7},
            ["quality_1", "quality_2", "speed_1", "memory"],
            "unlike texts, protocols or windows",
        ),
        (
            {"provenance__window_choice": "first"},
            ["quality_1", "quality_2", "speed_1", "memory"],
            "unlike texts, protocols or windows",
        ),
        (
            {"provenance__dataset__content_hash": "0" * 64},
            ["quality_1", "quality_2", "speed_1", "memory"],
            "unlike texts, protocols or windows",
        ),
        (
            {"provenance__devices": ["Card B"]},
            ["quality_1", "speed_1", "speed_2", "memory"],
            "on unlike devices",
        ),
        (
            {"provenance__max_new_tokens": 99},
            ["quality_1", "speed_1", "speed_2", "memory"],
            "unlike prompts",
        ),
    ],
)
def test_unlike_things_are_never_in_one_table(
    changed: dict[str, Any],
    kinds: list[str],
    said: str,
    finished_run: FinishedRun,
    tmp_path: Path,
) -> None:
    runs = [
        read_run(run_at(add_run(tmp_path, finished_run, "a", 1))),
        read_run(run_at(add_run(tmp_path, finished_run, "b", 2, **changed))),
    ]
    assert [table.name for table in side_by_side(runs)] == kinds
    assert said in unlike(runs)[0]


def test_a_page_of_runs_says_how_sure_each_one_s_intervals_are(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    surer = {"confidence": 0.99, "provenance__decided_at_windows": 8}
    runs = [
        read_run(run_at(add_run(tmp_path, finished_run, "a", 1))),
        read_run(run_at(add_run(tmp_path, finished_run, "b", 2, **surer))),
    ]
    assert "± and [ ] are 95% intervals." in render_side_by_side(runs[:1]).html
    assert "± and [ ] are 95% (a), 99% (b) intervals." in render_side_by_side(runs).html
    # What was seen until gates were decided is not what was chosen beforehand.
    tables = list(side_by_side(runs))
    assert [table.name for table in tables][:2] == ["quality_1", "quality_2"]
    assert tables[0].caption.endswith("tokens, 6 spread over the text")
    assert tables[1].caption.endswith("tokens, 8 spread over the text, which decided its gates")


def test_tokens_of_unlike_models_are_not_compared(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    other = {"provenance__model__content_hash": "1" * 64, "provenance__model__id": "other"}
    # All of the text is the same text, whatever the tokens.
    everything = {"provenance__max_windows": None}
    runs = [
        read_run(run_at(add_run(tmp_path, finished_run, "a", 1, **everything))),
        read_run(run_at(add_run(tmp_path, finished_run, "b", 2, **everything, **other))),
    ]
    (quality,) = [table for table in side_by_side(runs) if table.name.startswith("quality")]
    heads = [column.head for column in quality.columns]
    assert all(row[heads.index("perplexity")].is_absent for row in quality.rows)
    assert not any(row[heads.index("bits per byte")].is_absent for row in quality.rows)
    # Some windows are other parts of it.
    runs = [
        read_run(run_at(add_run(tmp_path, finished_run, "c", 1))),
        read_run(run_at(add_run(tmp_path, finished_run, "d", 2, **other))),
    ]
    assert [t.name for t in side_by_side(runs)][:2] == ["quality_1", "quality_2"]


def test_what_changed_between_two_runs_is_named(finished_run: FinishedRun, tmp_path: Path) -> None:
    before = read_run(run_at(add_run(tmp_path, finished_run, "a", 1)))
    versions = {**finished_run.comparison.provenance.versions, "torch": ["9.9"], "driver": ["570"]}
    after = read_run(
        run_at(
            add_run(
                tmp_path,
                finished_run,
                "b",
                2,
                provenance__versions=versions,
                provenance__model__revision="abc",
                provenance__devices=["Card B"],
            )
        )
    )
    said = changes(before, after)
    (torch,) = finished_run.comparison.provenance.versions["torch"]
    (device,) = finished_run.comparison.provenance.devices
    assert said == [
        "revision none → abc",
        f"device {device} → Card B",
        "driver none → 570",
        f"torch {torch} → 9.9",
    ]
    assert changes(before, before) == []


def test_a_series_is_one_model_measured_the_same_way_in_order_of_time(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    add_run(tmp_path, finished_run, "late", 3)
    add_run(tmp_path, finished_run, "early", 1)
    add_run(tmp_path, finished_run, "shorter", 2, provenance__window_length=7)
    runs, unread = read_runs(ResultsFolder.at(tmp_path))
    assert unread == []
    found = [[run.name for run in series.runs] for series in series_of(runs)]
    assert found == [["early", "late"], ["shorter"]]


def test_history_names_changes_and_holds_the_newest_run_against_gates(
    finished_run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(tmp_path, finished_run, "a", 1)
    kl = finished_run.comparison.variants["nf4"].kl
    assert kl
    assert kl.mean.value
    gate = ["--gate", f"kl.mean <= {2 * kl.mean.value} for nf4"]
    history = ["history", "--results", str(tmp_path)]
    assert run_command([*history, *gate]) == 0
    worse = kl.mean.model_dump() | {"value": 9.0, "interval": (8.0, 10.0)}
    add_run(
        tmp_path,
        finished_run,
        "b",
        2,
        variants__nf4__kl__mean=worse,
        provenance__model__revision="abc",
    )
    capsys.readouterr()
    assert run_command([*history, *gate]) == 3
    shown = capsys.readouterr().out
    assert "b, the newest of its model, does not pass" in shown
    page = (tmp_path / "history.html").read_text()
    assert "revision none → abc" in page
    assert page.count("<svg") == 3
    assert run_command([*history, "--model", "nothing"]) == 2
    assert run_command([*history, "--gate", "success == 1 for awq"]) == 2
    assert "variant 'awq' is not run" in capsys.readouterr().err
    # A run whose worst day was long ago does not fail today.
    add_run(tmp_path, finished_run, "c", 3)
    assert run_command([*history, *gate]) == 0


@pytest.fixture
def gated(finished_run: FinishedRun, tmp_path: Path) -> list[str]:
    """A history of one run whose gate passes."""
    add_run(tmp_path, finished_run, "old", 1)
    words = ["history", "--results", str(tmp_path), "--gate", "success >= 0 for nf4"]
    assert run_command(words) == 0
    return words


def damaged(folder: Path) -> None:
    path = folder / "comparison.json"
    path.write_bytes(path.read_bytes().replace(b'"value": ', b'"value": 1', 1))


def without_a_report(folder: Path) -> None:
    (folder / "comparison.json").unlink()


def without_anything(folder: Path) -> None:
    (folder / "comparison.json").unlink()
    (folder / "run.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (damaged, "comparison.json is not as it was written; `report new` writes it again"),
        (without_a_report, "has no comparison.json; `report new` writes it"),
        (without_anything, "has no comparison.json"),
    ],
)
def test_a_gate_does_not_pass_by_a_newest_run_that_cannot_be_read(
    spoil: Callable[[Path], None],
    said: str,
    gated: list[str],
    finished_run: FinishedRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = json.loads((finished_run.folder / "run.json").read_bytes())
    manifest.pop("sha256")
    new = add_run(tmp_path, finished_run, "new", 2)
    (new / "run.json").write_bytes(stamped({**manifest, "started": "2026-01-01T02:00:00Z"}))
    assert run_command(gated) == 0
    spoil(new)
    capsys.readouterr()
    assert run_command(gated) == 3
    shown = " ".join(capsys.readouterr().out.split())
    assert "cannot be judged, and is the newest of its model" in shown
    assert said in shown
    # Without a gate it is told of, and no more.
    assert run_command(gated[:3]) == 0
    # A newer one that can be judged ends that.
    add_run(tmp_path, finished_run, "newest", 23, provenance__started="2096-01-01T00:00:00Z")
    assert run_command(gated) == 0


@pytest.mark.parametrize("undecided", [[], ["--undecided", "pass"]])
def test_a_gate_does_not_pass_by_a_newest_run_that_is_partial_or_lacks_the_variant(
    undecided: list[str],
    gated: list[str],
    finished_run: FinishedRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_run(tmp_path, finished_run, "partial", 2, complete=False)
    assert run_command([*gated, *undecided]) == 3
    assert "partial, the newest of its model, does not pass" in capsys.readouterr().out
    variants = finished_run.comparison.model_dump(by_alias=True)["variants"]
    rest = {name: figures for name, figures in variants.items() if name != "nf4"}
    add_run(tmp_path, finished_run, "without", 3, variants=rest)
    assert run_command([*gated, *undecided]) == 3
    shown = " ".join(capsys.readouterr().out.split())
    assert "without, the newest of its model, does not pass" in shown
    assert "the run has no such variant" in shown


def test_runs_that_cannot_be_read_are_named(
    finished_run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(tmp_path, finished_run, "a", 1)
    newer = add_run(tmp_path, finished_run, "newer", 1)
    (newer / "comparison.json").write_text('{"version": 99}')
    bare = add_run(tmp_path, finished_run, "bare", 1)
    (bare / "comparison.json").unlink()
    assert run_command(["history", "--results", str(tmp_path)]) == 0
    told = capsys.readouterr().err
    assert f"not of version {COMPARISON_VERSION}" in told
    assert "`report bare` writes it" in told
    assert run_command(["report", str(tmp_path / "a"), str(newer)]) == 2
    assert run_command(["report", str(tmp_path / "a"), str(tmp_path / "a")]) == 2
    assert "named twice" in capsys.readouterr().err


def test_several_reports_make_one_page(
    finished_run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        add_run(tmp_path, finished_run, name, 1)
    assert run_command(["report", "a", "b", "--results", str(tmp_path)]) == 0
    assert "side-by-side.html" in capsys.readouterr().out
    page = (tmp_path / "side-by-side.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "Side by side: a, b" in page
