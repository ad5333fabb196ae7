"""A comparison and its verdicts → `report.html`: one file, no script, nothing fetched."""

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.comparison_schema import Comparison, VariantFigures
from orchestrator.gates.verdicts import Judgement
from orchestrator.report import claims, sentences
from orchestrator.report.contents import Report
from orchestrator.report.page import html_environment, style_sheet
from orchestrator.report.tables import formats, kl_scale
from orchestrator.report.tables.quality_tables import with_kl


@dataclass(frozen=True)
class _Section:
    """A question of the reader's, and its answer in a sentence."""

    id: str
    question: str
    answer: str


@dataclass(frozen=True)
class _Card:
    """A variant at a glance.

    Attributes:
        badges: what it is, its verdict first.
    """

    name: str
    verdict: str
    badges: list[str]
    figures: list[tuple[str, str]]


def render_html(report: Report) -> str:
    """The report as a page; every number in it is a cell of the comparison or the verdicts."""
    comparison, judgement = report.comparison, report.judgement
    environment = html_environment()
    environment.filters.update(
        pair_sentence=sentences.of_pair,
        floor_sentence=sentences.of_noise_floor,
        time_sentence=sentences.of_timeline,
        significant=formats.significant,
        short_name=formats.short_name,
    )
    names = [name for name in comparison.variants if name != comparison.reference]
    return environment.get_template("report.html.jinja").render(
        **report.words,
        style=style_sheet(),
        plots=report.plots,
        sections={section.id: section for section in _sections(comparison, judgement)},
        # What is recommended stands first, wherever the screen ends.
        cards=[
            _card(name, comparison, judgement)
            for name in sorted(
                comparison.variants, key=lambda name: name != judgement.recommendation.variant
            )
        ],
        candidates=names,
        headline=sentences.headline(judgement, comparison),
        recommendation=sentences.of_choice(judgement, comparison),
        warnings=claims.of_recommended(judgement, comparison),
        whole_sentence=claims.of_whole_fit(comparison),
        # Where nothing can be told, the heading says so.
        category_sentences=[]
        if claims.has_few_prompts(comparison)
        else [
            sentences.of_categories(comparison.variants[name].generation, name, comparison)
            for name in names
        ],
        different={
            name: answers
            for name in names
            if (answers := comparison.variants[name].generation.most_different)
        },
    )


def _sections(comparison: Comparison, judgement: Judgement) -> Iterator[_Section]:
    choice = sentences.choice(judgement, comparison)
    yield _Section("choose", "Which should I take?", choice)
    yield _Section("tradeoff", "What does it cost, what do I get?", claims.of_size(comparison))
    yield _Section("perplexity", "Is it worse, really?", claims.of_perplexity(comparison))
    if with_kl(comparison):
        question = "Everywhere a little, or somewhere a lot?"
        yield _Section("distribution", question, claims.of_divergence(comparison))
    if any(v.weight_noise for v in comparison.variants.values()):
        yield _Section("noise", "What does noise in the weights cost?", claims.of_noise(comparison))
    if any(v.generation.prompts for v in comparison.variants.values()):
        yield _Section("uses", "Which of my uses suffers?", claims.of_categories(comparison))
        yield _Section("speed", "How fast, and why?", claims.of_speed(comparison))
    yield _Section("memory", "Does it fit my card?", claims.of_fit(comparison))
    yield _Section("trust", "Can I trust this?", claims.of_trust(comparison))


def _card(name: str, comparison: Comparison, judgement: Judgement) -> _Card:
    figures = comparison.variants[name]
    if name == comparison.reference:
        return _Card(
            name, "reference", ["reference"], list(_at_a_glance(figures, is_reference=True))
        )
    found = judgement.recommendation
    verdict = found.verdicts.get(name)
    badges = [{"pass": "passes", "fail": "fails", None: "no gate"}.get(verdict, str(verdict))]
    if name == found.variant:
        badges = ["recommended", "smallest"]
    badges += ["closest"] * (name == found.closest) + ["fastest"] * (name == found.fastest)
    shown = list(_at_a_glance(figures, is_reference=False))
    return _Card(name, (verdict or "reference").replace(" ", "-"), badges, shown)


def _at_a_glance(figures: VariantFigures, *, is_reference: bool) -> Iterator[tuple[str, str]]:
    memory = figures.memory
    bits = formats.significant(memory.bits_per_weight)
    each = "" if memory.bits_per_weight is None else f", {bits} bits a weight"
    yield "size", f"{formats.size(memory.size_bytes)}{each}"
    if memory.expanded:
        yield "expanded here to", formats.size(memory.running_weights_bytes)
    if memory.device_peak_bytes is not None:
        yield "device, at most", formats.size(memory.device_peak_bytes)
    yield "perplexity", formats.measure(figures.perplexity)
    if not is_reference:
        yield "change", formats.change(figures.perplexity)
        yield "KL", formats.kl(figures.kl)
        mean = None if figures.kl is None else figures.kl.mean.value
        if mean is not None and mean > 0:
            yield "on llama.cpp's scale", kl_scale.place_of(mean)
        yield "same top token", formats.percent(figures.same_top_token)
    for way, latency in figures.own_latency.items():
        yield f"tok/s, {way}", formats.measure(latency.tokens_per_second, 1)
    if not figures.own_latency:
        yield "tok/s", "not its own" if memory.expanded else "not measured"
