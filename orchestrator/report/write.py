"""Writes the files of a report beside the tables that they are made of."""

import json
from pathlib import Path

from orchestrator.comparison_json import Comparison
from orchestrator.files import write_atomically
from orchestrator.gates.verdicts import Judgement
from orchestrator.report.distribution_plot import draw_distributions
from orchestrator.report.markdown import render_markdown


def comparison_schema() -> str:
    """The JSON Schema of `comparison.json`."""
    return json.dumps(Comparison.model_json_schema(), indent=2) + "\n"


def write_report(folder: Path, comparison: Comparison, judgement: Judgement) -> Path:
    """Writes `comparison.json`, `gates.json` and the reports into a run's folder.

    Returns:
        The path of `report.md`.
    """
    write_atomically(
        folder / "comparison.json", comparison.model_dump_json(indent=2).encode() + b"\n"
    )
    write_atomically(folder / "gates.json", judgement.model_dump_json(indent=2).encode() + b"\n")
    write_atomically(folder / "comparison.schema.json", comparison_schema().encode())
    picture = draw_distributions(comparison)
    if picture is None:
        (folder / "kl.svg").unlink(missing_ok=True)
    else:
        write_atomically(folder / "kl.svg", picture)
    report = folder / "report.md"
    write_atomically(report, render_markdown(comparison, judgement).encode())
    return report
