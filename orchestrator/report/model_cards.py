"""A comparison → sections for the model cards of quantized checkpoints, one a candidate."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.comparison_schema import Comparison, VariantFigures
from orchestrator.gates.gate_measures import GATE_MEASURES
from orchestrator.gates.verdicts import Judgement
from orchestrator.printable import printable
from orchestrator.report import sentences
from orchestrator.report.contents import Report
from orchestrator.report.markdown import harmless, markdown_table
from orchestrator.report.rules import of_rule
from orchestrator.report.tables import formats

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

# Of the measures that gates know, those that a card has, with the words that a reader knows.
_ON_CARDS = {
    "perplexity": "Perplexity",
    "perplexity_delta_pct": "Change of perplexity, %",
    "kl.mean": "Mean KL divergence, nats",
    "kl.p99": "99% of tokens have a KL below, nats",
    "same_top_token": "Same top token",
    "size_bytes": "Size of the weights, bytes",
}


def model_cards(report: Report) -> dict[str, str]:
    """A section for each candidate's card, by variant: metadata with a `model-index`, and words."""
    comparison = report.comparison
    return {
        name: _card(name, figures, report)
        for name, figures in comparison.variants.items()
        if name != comparison.reference
    }


def _card(name: str, figures: VariantFigures, report: Report) -> str:
    # Imported here: it takes a second.
    from huggingface_hub import ModelCardData

    comparison = report.comparison
    model = comparison.provenance.model.id
    short = formats.short_name(model)
    # Of a folder nobody else knows what it is.
    is_of_hub = "/" in model and model == short
    data = ModelCardData(
        model_name=f"{short.rpartition('/')[2]}-{name}",
        base_model=model if is_of_hub else None,
        base_model_relation="quantized" if is_of_hub else None,
        eval_results=list(_results(figures, comparison)),
    )
    lines = [
        "---",
        data.to_yaml().rstrip(),
        "---",
        "",
        f"## What quantization changes: {name} against {comparison.reference}",
        "",
        *map(harmless, _words(name, report)),
        "",
        markdown_table(report.tables["summary"]),
        "Measured by:",
        "",
        f"    {printable(comparison.provenance.command)}",
        "",
    ]
    return "\n".join(lines)


def _words(name: str, report: Report) -> Iterator[str]:
    comparison = report.comparison
    p, level = comparison.provenance, formats.level(comparison.confidence)
    if missing := sentences.of_missing(comparison):
        yield f"**{missing}**"
        yield ""
    yield (
        f"On {formats.short_name(p.dataset.name)}, protocol {p.protocol}, windows of "
        f"{p.window_length} tokens{formats.windows_taken(p)}; on {', '.join(p.devices)}. Changes "
        f"are paired over the same windows; intervals are of {level}."
        f" {_verdict(name, report.judgement)}"
    )


def _verdict(name: str, judgement: Judgement) -> str:
    verdict = judgement.recommendation.verdicts.get(name)
    return "" if verdict is None else f"The rule ({of_rule(judgement)}): {verdict}."


def _results(figures: VariantFigures, comparison: Comparison) -> Iterator["EvalResult"]:
    from huggingface_hub import EvalResult

    dataset = formats.short_name(comparison.provenance.dataset.name)
    for measure, words in _ON_CARDS.items():
        found = GATE_MEASURES[measure].of_variant(figures)
        if found.value is None or not math.isfinite(found.value):
            continue
        yield EvalResult(
            task_type="text-generation",
            dataset_type=dataset,
            dataset_name=dataset,
            metric_type=measure,
            metric_value=found.value,
            metric_name=words,
        )
