"""A comparison → `report.md`."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from orchestrator.comparison_json import Comparison
from orchestrator.report import formats


def render_markdown(comparison: Comparison) -> str:
    """The report as Markdown; every number in it is a cell of the comparison."""
    environment = Environment(
        loader=PackageLoader("orchestrator.report", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters.update(
        measure=formats.measure,
        change=formats.change,
        kl=formats.kl,
        small=formats.small,
        percent=formats.percent,
        significant=formats.significant,
        size=formats.size,
        times=formats.times,
        cell=_cell,
    )
    template = environment.get_template("report.md.jinja")
    return template.render(comparison=comparison, share=formats.share, absent=formats.ABSENT)


def _cell(text: object) -> str:
    """Text that cannot end a table's cell."""
    return str(text).replace("|", "\\|").replace("\n", " ")
