"""All tables of a report, by name: what Markdown, HTML and the CSV files show."""

from orchestrator.comparison_json import Comparison
from orchestrator.gates.verdicts import Judgement
from orchestrator.report.answer_tables import answer_tables
from orchestrator.report.cells import ReportTable
from orchestrator.report.quality_tables import quality_tables
from orchestrator.report.run_tables import run_tables


def report_tables(comparison: Comparison, judgement: Judgement) -> dict[str, ReportTable]:
    """The tables that there is something for."""
    found = (
        *quality_tables(comparison),
        *answer_tables(comparison),
        *run_tables(comparison, judgement),
    )
    return {table.name: table for table in found}
