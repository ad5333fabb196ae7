"""The commands that read runs: how far one is, its report, several side by side, all over time."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from orchestrator.console import messages_console, results_console, say
from orchestrator.errors import BadInputError, ExitStatus
from orchestrator.gates.chosen import GateSettings
from orchestrator.gates.verdicts import Judgement, judge
from orchestrator.publish import judge_run, publish, show, status_of
from orchestrator.report import sentences
from orchestrator.report.runs_pages import render_history, render_side_by_side
from orchestrator.report.tables.runs_tables import unlike
from orchestrator.report.terminal import print_judgement, print_table
from orchestrator.runs.finished import FinishedRun, UnreadRun, read_run, read_runs
from orchestrator.runs.history import Series, series_of
from orchestrator.runs.shifts import Shifts, shifts_between
from orchestrator.runs.status import progress_of, undecided_gates
from orchestrator.storage.results_folder import ResultsFolder
from orchestrator.storage.run_folder import RunFolder


def show_reports(folders: Sequence[RunFolder]) -> int:
    """Makes a run's report again, or shows several side by side.

    Returns:
        FAILED where the one run is partial, GATE_FAILED where one of its own gates fails.

    Raises:
        BadInputError: there is no such run, nothing in it, or one is named twice.
    """
    if len(folders) == 1:
        check_has_shards(folders[0])
        return show(publish(folders[0]))
    if len(set(folders)) < len(folders):
        raise BadInputError("RUN", "a run is named twice; name each once")
    for folder in folders:
        # Of another version it is refused in the words of the reports.
        folder.read_manifest()
    runs = [read_run(folder) for folder in folders]
    page = render_side_by_side(runs)
    console = results_console()
    for table in page.tables:
        print_table(table, console)
    for line in unlike(runs):
        say(console, f"Note: {line}")
    written = ResultsFolder.of(folders[0]).write_page("side-by-side", page.html)
    say(console, f"Report: {written}")
    return ExitStatus.DONE


def show_gates(folder: RunFolder, gates: GateSettings, *, write: bool = False) -> int:
    """Holds a run against gates, its own if none are given.

    Args:
        write: whether its report is to say how it did; else nothing in its folder changes.

    Returns:
        GATE_FAILED where one fails, FAILED where the run is partial.

    Raises:
        BadInputError: there is no such run, nothing in it, or no gate.
    """
    check_has_shards(folder)
    if not gates.asked and not GateSettings.among(folder.read_manifest().settings).asked:
        raise BadInputError("--gate", "name a gate, or a set of them by --gate-set")
    chosen = gates if gates.asked else None
    if write:
        return show(publish(folder, chosen))
    run, judgement = judge_run(folder, chosen)
    console = results_console()
    print_judgement(judgement, run.comparison, console)
    if missing := sentences.of_missing(run.comparison):
        say(console, missing)
    return status_of(run.comparison, judgement)


def show_status(folder: RunFolder) -> int:
    """Prints how far each variant of a run is and, while it runs, how fast it goes."""
    manifest = folder.read_manifest()
    console = results_console()
    running = folder.is_being_written()
    events = folder.read_events().events if running else []
    found = progress_of(folder, manifest, events, datetime.now(UTC), is_running=running)
    for status in found:
        say(console, str(status))
    for line in undecided_gates(folder):
        say(console, line)
    if all(status.finished_shards == status.shards for status in found):
        return ExitStatus.DONE
    if not running:
        say(
            console,
            f"It is stopped: {folder.silence}. The command that started it resumes it, with the "
            "same --results.",
        )
    return ExitStatus.DONE


def show_history(
    results: ResultsFolder, model: str | None, gates: GateSettings, *, alarm: bool = False
) -> int:
    """Shows each model of a results folder over time, and what changed beyond chance at the end.

    Args:
        alarm: whether such a change is a failure.

    Returns:
        GATE_FAILED where the newest run of a series does not pass, or cannot be judged.

    Raises:
        BadInputError: there is no run, or a gate is of what no run has.
    """
    # A gate that cannot be read is refused before any run is.
    gate_set = gates.chosen()
    runs, unread = read_runs(results)
    if model is not None:
        runs = [run for run in runs if run.comparison.provenance.model.id == model]
        unread = [one for one in unread if one.model in (model, None)]
    if not runs:
        of_model = "" if model is None else f" of {model}"
        raise BadInputError("--results", f"no finished run{of_model} in {results}")
    if gates.asked:
        _check_gates_of(runs, gates)

    def judged(run: FinishedRun) -> Judgement | None:
        if not gates.asked:
            return None
        return judge(run.comparison, gate_set, asked=True, undecided=gates.undecided)

    found = [(series, list(map(judged, series.runs))) for series in series_of(runs)]
    shifts = [_newest_shifts(series) for series, _ in found]
    page = render_history(found, shifts, [one.problem for one in unread])
    console = results_console()
    for table in page.tables:
        print_table(table, console)
    for one in unread:
        say(messages_console(), f"not read: {one.problem}")
    for line in (line for each in shifts for line in sentences.of_shifts(each)):
        say(console, line)
    say(console, f"Report: {results.write_page('history', page.html)}")
    problems: list[str] = []
    if gates.asked:
        problems += _failed([judgements[-1] for _, judgements in found])
    if gates.asked or alarm:
        problems += _newer(runs, unread)
    for problem in problems:
        say(console, problem)
    changed = alarm and any(each is not None and each.changes for each in shifts)
    return ExitStatus.GATE_FAILED if problems or changed else ExitStatus.DONE


def _newest_shifts(series: Series) -> Shifts | None:
    """What changed from the run before the newest one to it; None where there is none before."""
    if len(series.runs) < 2:
        return None
    *_, before, newest = series.runs
    try:
        return shifts_between(before, newest)
    except BadInputError as error:
        problem = str(error).removeprefix("RUN: ")
        return Shifts(before.name, newest.name, (), (f"nothing is compared: {problem}",))


def _failed(newest: Sequence[Judgement | None]) -> Iterator[str]:
    """Which of the newest runs do not pass, each with the gates that it does not."""
    for judgement in newest:
        if judgement is not None and not judgement.passed:
            named = ", ".join(dict.fromkeys(judgement.failing)) or "the run is partial"
            yield f"{judgement.run_id}, the newest of its model, does not pass: {named}"


def _newer(runs: Sequence[FinishedRun], unread: Sequence[UnreadRun]) -> Iterator[str]:
    """Which unread runs are newer than the newest read one of a model that they may be of."""
    newest: dict[str, datetime] = {}
    for run in runs:
        provenance = run.comparison.provenance
        newest[provenance.model.id] = provenance.started
    for one in unread:
        # Of a model that no other run is of, it is the newest, too.
        after = [newest.get(one.model)] if one.model is not None else [*newest.values()]
        if any(moment is None or one.started > moment for moment in after):
            yield f"cannot be judged, and is the newest of its model: {one.problem}"


def _check_gates_of(runs: Sequence[FinishedRun], gates: GateSettings) -> None:
    """Refuses gates of what none of the runs has."""
    for run in reversed(runs):
        comparison = run.comparison
        categories = comparison.variants[comparison.reference].generation.by_category
        try:
            return gates.check(list(comparison.variants), comparison.reference, categories)
        except BadInputError as error:
            problem = error
    raise problem


def check_has_shards(folder: RunFolder) -> None:
    """Refuses a run of which nothing is finished."""
    if not folder.finished(folder.read_manifest()):
        raise BadInputError("RUN", f"{folder} has no finished shard yet; run it first")
