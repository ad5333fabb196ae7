"""Cells → sentences. A difference is claimed only where it is significant."""

from collections import Counter

from orchestrator.comparison_schema import Comparison, Generation, NoiseFloor, Pair, Timeline
from orchestrator.comparison_schema.measure_fields import FEWEST_PROMPTS
from orchestrator.gates.verdicts import Judgement, Verdict
from orchestrator.report import rules
from orchestrator.report.tables import formats, kl_scale
from orchestrator.runs.shifts import Shifts

_VERDICTS: dict[Verdict, str] = {
    "pass": "passed",
    "fail": "failed",
    "not measured": "not measured",
    "undecided": "undecided",
}


def of_pair(pair: Pair, comparison: Comparison) -> str:
    """Which of two candidates is closer to the reference, if these windows can tell."""
    if pair.p_value_holm is None or pair.kl_difference.value is None:
        return f"{pair.a} and {pair.b}: one stretch of text cannot tell them apart."
    p_value = formats.p_value(pair.p_value_holm)
    p = f"p < {p_value[1:]}" if p_value.startswith("<") else f"p = {p_value}"
    if not pair.significant:
        return (
            f"{pair.a} and {pair.b}: over this text, neither is shown to be closer to "
            f"{comparison.reference} ({p})."
        )
    a_is_closer = pair.kl_difference.value < 0
    closer, further = (pair.a, pair.b) if a_is_closer else (pair.b, pair.a)
    difference = formats.small(formats.positive(pair.kl_difference))
    return (
        f"{closer} is closer to {comparison.reference} than {further}: its mean KL is "
        f"{difference} nats lower ({p})."
    )


def of_timeline(timeline: Timeline) -> str:
    """When the work began, and how busy the devices were from then on."""
    begin = formats.tenths(timeline.seconds_to_first_shard)
    devices = "The device was" if len(timeline.devices) == 1 else "The devices were"
    return (
        f"The first shard began {begin} s after the command. {devices} busy "
        f"{formats.share_of_all(timeline.busy_share)} of the time between the first model and the "
        "last shard."
    )


def of_categories(generation: Generation, name: str, comparison: Comparison) -> str:
    """In which categories a variant is further from the reference's answers than the threshold."""
    along = f"along {comparison.reference}'s answers"
    if generation.kl_along_reference.value is None:
        return f"{name}: no divergence {along} was measured."
    threshold = f"{generation.kl_threshold:g} nats"
    if not generation.categories_beyond:
        intervals = [g.kl_along_reference.interval for g in generation.by_category.values()]
        if all(ends is None for ends in intervals):
            return (
                f"{name}: too few prompts a category to tell (at most {most_prompts(generation)})."
            )
        below = all(ends is not None and ends[1] <= generation.kl_threshold for ends in intervals)
        where = "below" if below else "not shown to be above"
        which = "every" if below else "any"
        return f"{name}: its mean KL {along} is {where} {threshold} in {which} category."

    def shown(category: str) -> str:
        figure = generation.by_category[category].kl_along_reference
        return f"{category} ({formats.small(figure)})"

    beyond = sorted(
        generation.categories_beyond,
        key=lambda category: -(generation.by_category[category].kl_along_reference.value or 0.0),
    )
    if 1 < len(beyond) == len(generation.by_category):
        where = f"all {len(beyond)} categories, the largest figure in {shown(beyond[0])}"
    else:
        where = ", ".join(map(shown, beyond))
    return f"{name}: its mean KL {along} is above {threshold} in {where}."


def most_prompts(generation: Generation) -> int:
    """How many prompts the largest category has."""
    return max((answers.prompts for answers in generation.by_category.values()), default=0)


def of_few(comparison: Comparison) -> str:
    """That some category has too few prompts; empty where none has."""
    categories = comparison.variants[comparison.reference].generation.by_category.values()
    if all(answers.prompts >= FEWEST_PROMPTS for answers in categories):
        return ""
    return (
        f"Fewer than {FEWEST_PROMPTS} prompts in a category are too few to tell: its figures have "
        "no interval."
    )


def of_success(comparison: Comparison) -> str:
    """That every answer of every variant succeeded; empty where one did not."""
    answers = [figures.generation for figures in comparison.variants.values()]
    if any(found.succeeded < found.prompts for found in answers):
        return ""
    return "Every answer of every variant succeeded."


_UNSURE: dict[Verdict, str] = {
    "undecided": "There is too little data to tell of",
    "not measured": "Something that it asks for was not measured of",
}


def of_gates(judgement: Judgement) -> str:
    """How many gates pass, and what that makes of all."""
    counts: Counter[Verdict] = Counter(result.verdict for result in judgement.results)
    parts = [f"{counts[name]} {said}" for name, said in _VERDICTS.items() if counts[name]]
    verdict = "passed" if judgement.passed else "failed"
    counted = ""
    if counts["undecided"]:
        counted = f"; undecided counts as {judgement.undecided}"
    return f"Gates: {verdict} ({', '.join(parts)}{counted})."


def of_recommendation(judgement: Judgement, comparison: Comparison) -> str:
    """Which variant to take by the rule, and why, in a line."""
    return f"{choice(judgement, comparison)}: {of_choice(judgement, comparison)}"


def choice(judgement: Judgement, comparison: Comparison) -> str:
    """Which variant to take by the rule, in a word."""
    found = judgement.recommendation
    if found.variant is not None:
        return f"Take {found.variant}"
    if found.verdicts and comparison.complete:
        return f"Stay with {comparison.reference}"
    return "Nothing is recommended"


def of_choice(judgement: Judgement, comparison: Comparison) -> str:
    """Why that one."""
    found, reference = judgement.recommendation, comparison.reference
    if not found.verdicts:
        return "no variant was held against a gate."
    if not comparison.complete:
        return "the run is partial."
    rule = rules.of_rule(judgement)
    if found.variant is None:
        unsure = "".join(
            f" {problem} {', '.join(names)}."
            for verdict, problem in _UNSURE.items()
            if (names := [name for name, each in found.verdicts.items() if each == verdict])
        )
        return f"nothing smaller is shown to do what the rule asks ({rule}).{unsure}"
    ratio = found.size_ratio.get(found.variant)
    smaller = "" if ratio is None else f", {formats.times(ratio)} smaller than {reference}"
    sure = found.verdicts[found.variant] == "pass"
    does = judgement.title if sure else "is not shown to fail"
    size = formats.size(found.size_bytes[found.variant])
    measured = _measured(found.variant, comparison)
    return f"the smallest that {does} ({rule}), at {size}{smaller}.{measured}"


def _measured(name: str, comparison: Comparison) -> str:
    """What a variant's figures are, each with its interval."""
    figures = comparison.variants[name]
    if figures.kl is not None and figures.kl.identical:
        return f" Its predictions are all equal to {comparison.reference}'s."
    parts = [
        f"{what} {shown}"
        for what, shown in (
            ("perplexity", formats.change(figures.perplexity)),
            ("mean KL", formats.kl(figures.kl)),
        )
        if shown != formats.ABSENT
    ]
    return f" Measured: {', '.join(parts)}." if parts else ""


def headline(judgement: Judgement, comparison: Comparison) -> str:
    """A report's title: the model, and what to do."""
    said, found = choice(judgement, comparison), judgement.recommendation
    ratio = None if found.variant is None else found.size_ratio.get(found.variant)
    smaller = "" if ratio is None else f", {formats.times(ratio)} smaller"
    model = formats.short_name(comparison.provenance.model.id)
    return f"{model}: {said[0].lower()}{said[1:]}{smaller}"


def of_others(judgement: Judgement, comparison: Comparison) -> str:
    """Who else passes, where another is closer or faster; empty where the smallest is both."""
    found = judgement.recommendation
    reference, parts = comparison.reference, []
    if found.closest is not None and found.closest != found.variant:
        kl = formats.kl(comparison.variants[found.closest].kl)
        parts.append(f"{found.closest} is the closest to {reference} (KL {kl})")
    if found.fastest is not None and found.fastest != found.variant:
        speed = comparison.variants[found.fastest].own_speed
        assert speed is not None
        shown = formats.measure(speed, 1)
        parts.append(f"{found.fastest} is the fastest ({shown} tokens per second)")
    return f"Of those that pass, {', '.join(parts)}." if parts else ""


def of_kl_scale() -> str:
    """What a mean KL may be read by: what a table has, whose figures are not of this run."""
    shown = ", ".join(
        f"{name} {formats.significant(kl, 2)}" for name, kl in kl_scale.KL_OF_FORMATS.items()
    )
    return f"has, of Llama 3 8B over WikiText-2, in nats: {shown}."


def of_missing(comparison: Comparison) -> str:
    """The sentence that a report is partial, and of what; empty where it is whole."""
    if comparison.complete:
        return ""
    parts = [
        f"{name} {', '.join(f'{part.finished} of {part.planned} {stage}' for stage, part in gaps)}"
        for name, stages in comparison.progress.items()
        if (
            gaps := [
                (stage.replace("_", " "), part)
                for stage, part in stages.items()
                if part.finished < part.planned
            ]
        )
    ]
    return f"This report is partial. It has {'; '.join(parts)}."


def of_noise_floor(floor: NoiseFloor, comparison: Comparison) -> str:
    """What the floor is, and which variants do not rise above it."""
    names = [
        name
        for name, figures in comparison.variants.items()
        if figures.kl is not None and figures.kl.indistinguishable
    ]
    verdict = (
        f"That holds for {', '.join(names)}." if names else "That holds for none of the variants."
    )
    return (
        f"The noise floor is {floor.how}. A mean KL whose whole interval is within "
        f"{floor.factor:g} times it, or within {floor.resolution:f} nats, is indistinguishable "
        f"from another order of the same arithmetic. {verdict}"
    )


def of_units(comparison: Comparison) -> str:
    """What intervals take for independent, why, and what they are about."""
    sample, level = comparison.sample, formats.level(comparison.confidence)
    if not sample.windows:
        return f"{level} intervals take prompts for units."
    alike = ""
    if sample.autocorrelation is not None:
        correlated = formats.significant(sample.autocorrelation, 2)
        alike = f"; the mean likelihoods of one of these and the next correlate by {correlated}"
    return (
        f"Windows that are near each other tell the same story. So {level} intervals and tests "
        f"take {_counted(sample.stretches, 'stretch', 'stretches')} of the text for units (in "
        f"which {_counted(sample.windows, 'window lies', 'windows lie')}{alike}), and of answers "
        "the prompts. They are about text of this kind; of the text that was scored, each figure "
        "is exact."
    )


def of_corrections(comparison: Comparison) -> str:
    """Which comparisons are corrected for being many, and which are not."""
    pairs = len(comparison.pairs)
    corrected = ""
    if pairs:
        count = _counted(pairs, "comparison", "comparisons")
        corrected = f"Candidate against candidate is corrected for {count} (Holm). "
    looks = comparison.provenance.looks
    if looks:
        seen = ", ".join(map(str, looks))
        corrected += (
            f"The gates were looked at with {seen} windows, until they were decided: at "
            f"{formats.level(comparison.confidence)} each, in at most 5% of such runs one of these "
            "looks passes what should fail. "
        )
    misses = round(1 / (1 - comparison.confidence))
    return (
        f"{corrected}No interval is corrected for being one of many: about one in {misses} misses."
    )


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def of_shifts(shifts: Shifts | None) -> list[str]:
    """What changed between two runs beyond chance and rounding; nothing where there is one run."""
    if shifts is None:
        return []
    pair = f"{shifts.before} to {shifts.after}"
    changes = [f"Changed from {pair}: {shift}." for shift in shifts.changes]
    if not changes and shifts.compared:
        changes = [f"From {pair} none of {len(shifts.compared)} figures changed beyond chance."]
    return [*changes, *(f"From {pair}: {line}." for line in shifts.left_out)]
