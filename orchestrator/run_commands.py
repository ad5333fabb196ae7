"""The commands that read runs: how far one is, its report, several side by side, all over time."""

from collections.abc import Sequence
from datetime import UTC, datetime

from orchestrator.console import messages_console, results_console, say
from orchestrator.errors import BadInputError, ExitStatus
from orchestrator.gates.chosen import GateSettings
from orchestrator.gates.verdicts import Judgement, judge
from orchestrator.publish import publish
from orchestrator.report.runs_pages import render_history, render_side_by_side
from orchestrator.report.tables.runs_tables import unlike
from orchestrator.report.terminal import print_table
from orchestrator.runs.finished import FinishedRun, read_run, read_runs
from orchestrator.runs.history import series_of
from orchestrator.runs.status import status_of, undecided_gates
from orchestrator.storage.run_folder import ResultsFolder, RunFolder


def show_reports(folders: Sequence[RunFolder]) -> int:
    """Makes a run's report again, or shows several side by side.

    Returns:
        FAILED where the one run is partial, GATE_FAILED where one of its own gates fails.

    Raises:
        BadInputError: there is no such run, nothing in it, or one is named twice.
    """
    if len(folders) == 1:
        check_has_shards(folders[0])
        return publish(folders[0]).exit_status
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
    written = ResultsFolder(folders[0].path.parent).write_page("side-by-side", page.html)
    say(console, f"Report: {written}")
    return ExitStatus.DONE


def show_gates(folder: RunFolder, gates: GateSettings) -> int:
    """Holds a run against gates, its own if none are given; its report then says how it did.

    Returns:
        GATE_FAILED where one fails, FAILED where the run is partial.

    Raises:
        BadInputError: there is no such run, nothing in it, or no gate.
    """
    check_has_shards(folder)
    if not gates.asked and not GateSettings.among(folder.read_manifest().settings).asked:
        raise BadInputError("--gate", "name a gate, or a set of them by --gate-set")
    return publish(folder, gates if gates.asked else None).exit_status


def show_status(folder: RunFolder) -> int:
    """Prints how far each variant of a run is and, while it runs, how fast it goes."""
    manifest = folder.read_manifest()
    console = results_console()
    running = folder.is_being_written()
    events = folder.read_events() if running else []
    found = status_of(folder, manifest, events, datetime.now(UTC))
    for status in found:
        say(console, str(status))
    for line in undecided_gates(folder):
        say(console, line)
    if all(status.finished_shards == status.shards for status in found):
        return ExitStatus.DONE
    if not running:
        say(console, "It does not run on this machine; the command that started it resumes it.")
    return ExitStatus.DONE


def show_history(results: ResultsFolder, model: str | None, gates: GateSettings) -> int:
    """Shows each model of a results folder over time.

    Returns:
        GATE_FAILED where the newest run of a series fails a gate.

    Raises:
        BadInputError: there is no run, or a gate is of what no run has.
    """
    # A gate that cannot be read is refused before any run is.
    gate_set = gates.chosen()
    runs, problems = read_runs(results)
    if model is not None:
        runs = [run for run in runs if run.comparison.provenance.model.id == model]
    if not runs:
        of_model = "" if model is None else f" of {model}"
        raise BadInputError("--results", f"no finished run{of_model} in {results}")
    found = [(series, [_judged(run, gates) for run in series.runs]) for series in series_of(runs)]
    if gates.asked and not any(judgement for _, each in found for judgement in each):
        # What the newest run lacks, no run has.
        _check_gates_of(runs[-1], gates)
    page = render_history(found, problems)
    console = results_console()
    for table in page.tables:
        print_table(table, console)
    for problem in problems:
        say(messages_console(), f"not read: {problem}")
    say(console, f"Report: {results.write_page('history', page.html)}")
    newest = [judgements[-1] for _, judgements in found]
    failed = [judgement for judgement in newest if judgement is not None and not judgement.passed]
    for judgement in failed:
        named = ", ".join(gate.text for gate in gate_set.gates)
        say(console, f"{judgement.run_id}, the newest of its model, does not pass: {named}")
    return ExitStatus.GATE_FAILED if failed else ExitStatus.DONE


def _judged(run: FinishedRun, gates: GateSettings) -> Judgement | None:
    """How a run does; None where there are no gates, or it does not have what one is of."""
    if not gates.asked:
        return None
    try:
        _check_gates_of(run, gates)
    except BadInputError:
        return None
    gate_set = gates.chosen()
    return judge(run.comparison, gate_set, asked=True, undecided=gates.undecided)


def _check_gates_of(run: FinishedRun, gates: GateSettings) -> None:
    comparison = run.comparison
    categories = comparison.variants[comparison.reference].generation.by_category
    gates.check(list(comparison.variants), comparison.reference, categories)


def check_has_shards(folder: RunFolder) -> None:
    """Refuses a run of which nothing is finished."""
    if not folder.finished(folder.read_manifest()):
        raise BadInputError("RUN", f"{folder} has no finished shard yet; run it first")
