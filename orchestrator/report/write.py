"""Writes the files of a report beside the tables that they are made of."""

import json
from collections.abc import Sequence
from pathlib import Path

from orchestrator.comparison_schema import Comparison
from orchestrator.figures.timeline import Start
from orchestrator.files import write_atomically
from orchestrator.gates.verdicts import Judgement
from orchestrator.report.answer_files import answer_files
from orchestrator.report.contents import Report
from orchestrator.report.csv_files import render_csv
from orchestrator.report.html import render_html
from orchestrator.report.markdown import render_markdown
from orchestrator.report.trace import render_trace
from orchestrator.storage.reduce import Tables


def comparison_schema() -> str:
    """The JSON Schema of `comparison.json`."""
    return json.dumps(Comparison.model_json_schema(), indent=2) + "\n"


def write_report(folder: Path, comparison: Comparison, judgement: Judgement) -> Path:
    """Writes `comparison.json`, `gates.json` and the reports into a run's folder.

    Returns:
        The path of `report.html`.
    """
    report = Report(comparison, judgement)
    write_atomically(
        folder / "comparison.json", comparison.model_dump_json(indent=2).encode() + b"\n"
    )
    write_atomically(folder / "gates.json", judgement.model_dump_json(indent=2).encode() + b"\n")
    write_atomically(folder / "comparison.schema.json", comparison_schema().encode())
    _write_folder(
        folder / "summary",
        {f"{name}.csv": render_csv(table).encode() for name, table in report.tables.items()},
    )
    if "kl" in report.plots:
        write_atomically(folder / "kl.svg", report.plots["kl"].file)
    else:
        (folder / "kl.svg").unlink(missing_ok=True)
    write_atomically(folder / "report.md", render_markdown(report).encode())
    page = folder / "report.html"
    write_atomically(page, render_html(report).encode())
    return page


def write_answers(folder: Path, tables: Tables) -> None:
    """Writes a run's `answers/VARIANT.json`."""
    files = {f"{name}.json": content for name, content in answer_files(tables).items()}
    _write_folder(folder / "answers", files)


def write_trace(folder: Path, starts: Sequence[Start]) -> None:
    """Writes a run's `trace.json`, or takes away one that no event bears out."""
    path = folder / "trace.json"
    if starts:
        write_atomically(path, render_trace(starts).encode())
    else:
        path.unlink(missing_ok=True)


def _write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Writes files into a folder of their own; those of another time go."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()
    for name, content in files.items():
        write_atomically(folder / name, content)
