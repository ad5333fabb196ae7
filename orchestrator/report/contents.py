"""What all pages of a report are made of, each part made once."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.comparison_schema import Comparison
from orchestrator.gates.verdicts import Judgement
from orchestrator.report import claims, sentences
from orchestrator.report.pictures.canvas import Plot
from orchestrator.report.pictures.cost_plots import cost_plots
from orchestrator.report.pictures.noise_plots import noise_plots
from orchestrator.report.pictures.quality_plots import quality_plots
from orchestrator.report.tables import formats, kl_scale
from orchestrator.report.tables.answer_tables import answer_tables
from orchestrator.report.tables.cells import ReportTable
from orchestrator.report.tables.integrity_tables import integrity_tables
from orchestrator.report.tables.memory_tables import memory_tables
from orchestrator.report.tables.noise_tables import noise_tables
from orchestrator.report.tables.quality_tables import quality_tables, with_kl
from orchestrator.report.tables.risk_tables import risk_tables
from orchestrator.report.tables.run_tables import run_tables


@dataclass(frozen=True)
class Report:
    """A comparison and its verdicts, as people read them."""

    comparison: Comparison
    judgement: Judgement

    @cached_property
    def tables(self) -> dict[str, ReportTable]:
        """The tables that there is something for, by name."""
        found = (
            *quality_tables(self.comparison),
            *answer_tables(self.comparison),
            *risk_tables(self.comparison),
            *memory_tables(self.comparison),
            *noise_tables(self.comparison),
            *integrity_tables(self.comparison),
            *run_tables(self.comparison, self.judgement),
        )
        return {table.name: table for table in found}

    @cached_property
    def plots(self) -> dict[str, Plot]:
        """The pictures that there is something for, by name."""
        found = (
            *quality_plots(self.comparison, self.judgement),
            *noise_plots(self.comparison),
            *cost_plots(self.comparison),
        )
        return {plot.name: plot for plot in found}

    @cached_property
    def words(self) -> dict[str, Any]:
        """What both pages say of the whole, by the name that their templates have for it."""
        comparison, judgement = self.comparison, self.judgement
        return {
            "comparison": comparison,
            "judgement": judgement,
            "tables": self.tables,
            "compared": with_kl(comparison),
            "gates_sentence": sentences.of_gates(judgement),
            "partial": sentences.of_missing(comparison),
            "level": formats.level(comparison.confidence),
            "windows_taken": formats.windows_taken(comparison.provenance),
            "few_sentence": sentences.of_few(comparison),
            "success_sentence": sentences.of_success(comparison),
            "kl_source": kl_scale.SOURCE,
            "scale_sentence": sentences.of_kl_scale(),
            "others_sentence": sentences.of_others(judgement, comparison),
            "running_sentence": claims.of_running(comparison),
            "units_sentence": sentences.of_units(comparison),
            "corrections_sentence": sentences.of_corrections(comparison),
        }
