"""Writes the files of a report beside the tables that they are made of."""

import json
from collections.abc import Sequence

from orchestrator.comparison_schema import Comparison, StampedComparison
from orchestrator.figures.timeline import Start
from orchestrator.gates.verdicts import Judgement
from orchestrator.report.answer_files import answer_files
from orchestrator.report.contents import Report
from orchestrator.report.csv_files import render_csv
from orchestrator.report.html import render_html
from orchestrator.report.markdown import render_markdown
from orchestrator.report.trace import render_trace
from orchestrator.storage.file_names import RunFile, RunGroup
from orchestrator.storage.reduce import Tables
from orchestrator.storage.run_folder import RunFolder
from orchestrator.storage.stamp import stamped


def comparison_schema() -> str:
    """The JSON Schema of `comparison.json`."""
    return json.dumps(StampedComparison.model_json_schema(), indent=2) + "\n"


def write_report(folder: RunFolder, comparison: Comparison, judgement: Judgement) -> None:
    """Writes a run's comparison, verdicts and reports."""
    report = Report(comparison, judgement)
    folder.write(RunFile.COMPARISON, stamped(json.loads(comparison.model_dump_json())))
    folder.write(RunFile.GATES, judgement.model_dump_json(indent=2).encode() + b"\n")
    folder.write(RunFile.COMPARISON_SCHEMA, comparison_schema().encode())
    tables = {f"{name}.csv": render_csv(table).encode() for name, table in report.tables.items()}
    folder.write_group(RunGroup.SUMMARY, tables)
    folder.write(RunFile.KL_PLOT, report.plots["kl"].file if "kl" in report.plots else None)
    folder.write(RunFile.MARKDOWN, render_markdown(report).encode())
    folder.write(RunFile.PAGE, render_html(report).encode())


def write_answers(folder: RunFolder, tables: Tables) -> None:
    """Writes a run's answers, a file a variant."""
    files = {f"{name}.json": content for name, content in answer_files(tables).items()}
    folder.write_group(RunGroup.ANSWERS, files)


def write_trace(folder: RunFolder, starts: Sequence[Start]) -> None:
    """Writes a run's trace, or takes away one that no event bears out."""
    folder.write(RunFile.TRACE, render_trace(starts).encode() if starts else None)
