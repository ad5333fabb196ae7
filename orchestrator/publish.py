"""A run's shards → its tables, comparison, verdicts, reports and other files; and a terminal."""

from dataclasses import dataclass

from orchestrator.comparison_schema import Comparison
from orchestrator.console import results_console, say
from orchestrator.errors import ExitStatus
from orchestrator.gates.chosen import GateSettings
from orchestrator.gates.verdicts import Judgement, judge
from orchestrator.report.terminal import print_comparison, print_judgement
from orchestrator.report.write import write_answers, write_report, write_trace
from orchestrator.runs.finished import ReducedRun, reduce_run
from orchestrator.storage.file_names import RunFile
from orchestrator.storage.reduce import write_tables
from orchestrator.storage.run_folder import RunFolder


@dataclass(frozen=True)
class Published:
    """What was made of a run.

    Attributes:
        folder: its files.
    """

    folder: RunFolder
    run: ReducedRun
    judgement: Judgement


def publish(folder: RunFolder, gates: GateSettings | None = None) -> Published:
    """Makes all files of a run from its shards.

    Args:
        gates: as of `judge_run`.

    Raises:
        BadInputError: as of `judge_run`.
    """
    run, judgement = judge_run(folder, gates)
    with folder.publishing():
        write_tables(folder, run.tables)
        write_report(folder, run.comparison, judgement)
        write_answers(folder, run.tables)
        write_trace(folder, run.starts)
    return Published(folder, run, judgement)


def show(published: Published) -> ExitStatus:
    """Prints a run's comparison and verdicts.

    Returns:
        As `status_of`.
    """
    comparison, judgement = published.run.comparison, published.judgement
    console = results_console()
    print_comparison(comparison, console)
    print_judgement(judgement, comparison, console)
    say(console, f"Report: {published.folder.where(RunFile.PAGE)}")
    return status_of(comparison, judgement)


def status_of(comparison: Comparison, judgement: Judgement) -> ExitStatus:
    """DONE, FAILED for a partial run, GATE_FAILED where gates were asked for and one fails."""
    if not comparison.complete:
        return ExitStatus.FAILED
    if judgement.asked and not judgement.passed:
        return ExitStatus.GATE_FAILED
    return ExitStatus.DONE


def judge_run(folder: RunFolder, gates: GateSettings | None = None) -> tuple[ReducedRun, Judgement]:
    """Makes a run's comparison from its shards, and holds it against gates; writes nothing.

    Args:
        gates: what it must pass; those that it was run with where None.

    Raises:
        BadInputError: a gate is of a variant or category that the run does not have.
    """
    run = reduce_run(folder)
    manifest, comparison = run.manifest, run.comparison
    chosen = GateSettings.among(manifest.settings) if gates is None else gates
    categories = (prompt.category for prompt in manifest.prompts)
    chosen.check(list(comparison.variants), comparison.reference, categories)
    judgement = judge(comparison, chosen.chosen(), asked=chosen.asked, undecided=chosen.undecided)
    return run, judgement
