"""A finished run → files for papers, pages and model cards, in a folder of the user's."""

from collections.abc import Iterator
from pathlib import Path

from orchestrator.console import results_console, say
from orchestrator.errors import BadInputError, CannotWriteError
from orchestrator.files import write_atomically
from orchestrator.publish import judge_run, status_of
from orchestrator.report import sentences
from orchestrator.report.contents import Report
from orchestrator.report.csv_files import render_csv
from orchestrator.report.latex_files import render_latex
from orchestrator.report.model_cards import model_cards
from orchestrator.storage.run_folder import RunFolder


def export_run(run: RunFolder, folder: Path) -> int:
    """Writes a run's pictures, tables and model cards; changes nothing of the run.

    Returns:
        FAILED for a partial run, of which its model cards say so.

    Raises:
        BadInputError: there is no run, or the folder is a file.
        CannotWriteError: a file cannot be written.
    """
    reduced, judgement = judge_run(run)
    if folder.exists() and not folder.is_dir():
        raise BadInputError("--to", f"{folder} is a file; name a folder")
    console = results_console()
    try:
        for name, content in _files(Report(reduced.comparison, judgement)):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
            say(console, str(path))
    except OSError as error:
        raise CannotWriteError(f"the files in {folder}", error) from None
    if missing := sentences.of_missing(reduced.comparison):
        say(console, missing)
    return status_of(reduced.comparison, judgement)


def _files(report: Report) -> Iterator[tuple[str, bytes]]:
    """What is written, by where in the folder."""
    for name, plot in report.plots.items():
        for ending, content in (("svg", plot.file), ("pdf", plot.pdf)):
            if content is not None:
                yield f"pictures/{name}.{ending}", content
    for name, table in report.tables.items():
        yield f"tables/{name}.csv", render_csv(table).encode()
        yield f"tables/{name}.tex", render_latex(table).encode()
    for name, card in model_cards(report).items():
        yield f"model-cards/{name}.md", card.encode()
