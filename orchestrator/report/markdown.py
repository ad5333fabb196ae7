"""A comparison → `report.md`."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from orchestrator.comparison_json import PERCENTILES, Comparison, VariantFigures
from orchestrator.report import formats, sentences


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
        proportion=formats.proportion,
        milliseconds=formats.milliseconds,
        thousandfold=formats.thousandfold,
        token_percentile=formats.token_percentile,
        speed=formats.speed,
        significant=formats.significant,
        percentile=formats.percentile,
        errors=formats.errors,
        p_value=formats.p_value,
        share_of_all=formats.share_of_all,
        code=formats.code,
        pair_sentence=sentences.of_pair,
        floor_sentence=sentences.of_noise_floor,
        categories_sentence=sentences.of_categories,
        with_kl=_with_kl,
        size=formats.size,
        times=formats.times,
        cell=_cell,
    )
    template = environment.get_template("report.md.jinja")
    return template.render(
        comparison=comparison,
        share=formats.share,
        absent=formats.ABSENT,
        levels=PERCENTILES,
        absence={"mean": None, "reverse_mean": None, "rms": None},
    )


def _with_kl(variants: dict[str, VariantFigures]) -> dict[str, VariantFigures]:
    """Those that are held against the reference."""
    return {name: figures for name, figures in variants.items() if figures.kl is not None}


def _cell(text: object) -> str:
    """Text that cannot end a table's cell."""
    return str(text).replace("|", "\\|").replace("\n", " ")
