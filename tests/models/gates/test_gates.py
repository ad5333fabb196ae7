"""Gates: what they say, what they refuse, what they make of a comparison."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli import parse_command, run_command
from orchestrator.comparison_schema import Comparison
from orchestrator.errors import BadInputError
from orchestrator.gates.chosen import GateSettings
from orchestrator.gates.gate_measures import GATE_MEASURES
from orchestrator.gates.language import check_gates, gate_set_names, named_gates, parse_gate
from orchestrator.gates.verdicts import GateResult, Judgement, judge
from orchestrator.report import sentences
from orchestrator.settings_layers import resolve_settings
from tests.pipeline import FinishedRun
from tests.places import REPOSITORY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("perplexity_delta_pct <= 5", ("perplexity_delta_pct", "<=", 5.0, False, None, None)),
        ("perplexity_delta_pct<=5%", ("perplexity_delta_pct", "<=", 5.0, False, None, None)),
        ("kl.mean <= 1.0 by category", ("kl.mean", "<=", 1.0, True, None, None)),
        ("success == 100%", ("success", "==", 1.0, False, None, None)),
        ("success == 1 for nf4-dq", ("success", "==", 1.0, False, None, "nf4-dq")),
        (
            "kl.mean < 0.1 in Domain Knowledge (Science) for nf4",
            ("kl.mean", "<", 0.1, False, "Domain Knowledge (Science)", "nf4"),
        ),
        ("weights_bytes <= 8GiB", ("weights_bytes", "<=", 8 * 2**30, False, None, None)),
        ("  tokens_per_second   >=  30 ", ("tokens_per_second", ">=", 30.0, False, None, None)),
    ],
)
def test_a_gate_is_a_measure_a_bound_and_whom_it_is_for(text: str, expected: Any) -> None:
    gate = parse_gate(text)
    found = (gate.measure, gate.operator, gate.threshold, gate.by_category, gate.category)
    assert (*found, gate.variant) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("kl.men <= 1", "unknown measure 'kl.men'"),
        ("kl.mean = 1", "not of the form"),
        ("kl.mean", "not of the form"),
        ("", "not of the form"),
        ("kl.mean <= much", "'much' is no number"),
        ("kl.mean <= nan", "'nan' is no number"),
        ("kl.mean <= 5%", "not in percent"),
        ("kl.mean <= -0.1", "impossible threshold, kl.mean is 0 or more"),
        ("kl.mean < 0", "impossible threshold"),
        ("success >= 101%", "impossible threshold, success is from 0 to 1"),
        ("success > 100%", "impossible threshold"),
        ("perplexity <= 0.5", "impossible threshold"),
        ("perplexity_delta_pct <= -200%", "impossible threshold"),
        ("kl.mean == 0.1", "an estimate"),
        ("weights_bytes <= 8 potatoes", "not of the form"),
        ("weights_bytes <= 8XB", "no size"),
        ("perplexity <= 9 by category", "not measured by category"),
    ],
)
def test_what_cannot_be_asked_is_refused(text: str, problem: str) -> None:
    with pytest.raises(BadInputError, match=problem.replace("(", r"\(")):
        parse_gate(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("success == 1 for awq", "variant 'awq' is not run"),
        ("kl.mean <= 1 for fp16", "fp16 is the reference"),
        ("success == 1 in Cooking", "no prompt has that category"),
    ],
)
def test_what_a_run_does_not_have_is_refused(text: str, problem: str) -> None:
    with pytest.raises(BadInputError, match=problem):
        check_gates([parse_gate(text)], ["fp16", "nf4"], "fp16", ["A", "B"])
    check_gates([parse_gate("success == 1 for fp16")], ["fp16", "nf4"], "fp16", ["A"])


def test_a_reference_alone_has_nothing_to_pass() -> None:
    with pytest.raises(BadInputError, match="no variant but the reference"):
        check_gates([parse_gate("success == 1")], ["fp16"], "fp16", None)


@pytest.mark.parametrize("gate", ["kl.men <= 1", "success >= 200%", "success == 1 for awq"])
def test_a_bad_gate_ends_a_command_before_anything_runs(
    gate: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["run", "--gate", gate, "--results", str(tmp_path / "results")]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: --gate: ")
    assert shown.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_gates_come_from_flags_files_and_named_sets(tmp_path: Path) -> None:
    file = tmp_path / "gates.yaml"
    file.write_text("gates:\n  - success == 100%\n  - kl.mean <= 0.2\n")
    settings = resolve_settings({"gate": ("kl.maximum <= 9",), "gate_set": str(file)})
    # The file may be another one when the report is made again.
    assert settings.gate_set is None
    assert settings.gate == ("kl.maximum <= 9", "success == 100%", "kl.mean <= 0.2")
    assert resolve_settings({"gate_set": "close"}).chosen() == named_gates("close")
    file.write_text("success\n")
    with pytest.raises(BadInputError, match="must hold a list of lines"):
        resolve_settings({"gate_set": str(file)})
    with pytest.raises(BadInputError, match="no set of close, defence, and no YAML file"):
        resolve_settings({"gate_set": "nothing"})


def test_every_set_that_the_package_carries_can_be_read() -> None:
    assert gate_set_names() == ["close", "defence"]
    for name in gate_set_names():
        assert named_gates(name).gates


def with_kl(comparison: Comparison, variant: str, low: float, high: float) -> Comparison:
    """The comparison with another KL of a variant."""
    content = comparison.model_dump(by_alias=True)
    mean = content["variants"][variant]["kl"]["mean"]
    mean.update(value=(low + high) / 2, interval=(low, high))
    return Comparison.model_validate(content)


def with_mean_kl(
    comparison: Comparison, value: float | None, interval: tuple[float, float] | None
) -> Comparison:
    """The same of nf4, whatever the numbers; none of them is checked."""
    nf4 = comparison.variants["nf4"]
    assert nf4.kl is not None
    mean = nf4.kl.mean.model_copy(update={"value": value, "interval": interval})
    changed = nf4.model_copy(update={"kl": nf4.kl.model_copy(update={"mean": mean})})
    return comparison.model_copy(update={"variants": {**comparison.variants, "nf4": changed}})


def test_the_set_is_read_by_its_old_name_as_well() -> None:
    assert resolve_settings({"gates": "close"}) == resolve_settings({"gate_set": "close"})
    told = "gates is the old name of gate_set; say it once"
    with pytest.raises(BadInputError, match=told):
        resolve_settings({"gates": "close", "gate_set": "close"})
    for words in (["--gates", "close"], ["--gates=close"], ["--gate-set", "close"]):
        assert parse_command(["run", *words]).resolved().gate_set == "close"


def judged(comparison: Comparison, *gates: str, **options: Any) -> Judgement:
    chosen = GateSettings(gate=gates, **options)
    return judge(comparison, chosen.chosen(), asked=chosen.asked, undecided=chosen.undecided)


def only(judgement: Judgement) -> GateResult:
    (result,) = judgement.results
    return result


@given(low=st.floats(0, 2), width=st.floats(0.001, 1), threshold=st.floats(0.001, 2))
def test_an_estimate_passes_with_its_whole_interval_or_not_at_all(
    finished_run: FinishedRun, low: float, width: float, threshold: float
) -> None:
    comparison = with_kl(finished_run.comparison, "nf4", low, low + width)
    found = only(judged(comparison, f"kl.mean <= {threshold!r} for nf4"))
    if low + width <= threshold:
        assert found.verdict == "pass"
    elif low > threshold:
        assert found.verdict == "fail"
    else:
        assert found.verdict == "undecided"
        assert str(found.reason).startswith("its interval holds the threshold")
    # The other way round nothing passes that passed, and nothing fails that failed.
    opposite = only(judged(comparison, f"kl.mean > {threshold!r} for nf4"))
    mirrored = {"pass": "fail", "fail": "pass", "undecided": "undecided"}
    assert opposite.verdict == mirrored[found.verdict]


@pytest.mark.parametrize(
    ("low", "high", "threshold", "needed", "told"),
    [
        # 6 windows; the half-width is 0.1, which is to be 0.05.
        (0.1, 0.3, 0.25, 24, "; about 24 windows would tell"),
        (0.1, 0.3, 0.15, 24, "; about 24 windows would tell"),
        # The text has 47.
        (0.1, 0.3, 0.22, 150, "; about 150 windows would tell, and this text has 47: add text"),
        (0.1, 0.3, 0.2, None, ""),
    ],
)
def test_an_undecided_gate_says_how_many_windows_would_tell(
    low: float,
    high: float,
    threshold: float,
    needed: int | None,
    told: str,
    finished_run: FinishedRun,
) -> None:
    comparison = with_kl(finished_run.comparison, "nf4", low, high)
    found = only(judged(comparison, f"kl.mean <= {threshold} for nf4"))
    assert (found.verdict, found.over, found.items) == ("undecided", "windows", 6)
    assert found.items_needed == needed
    assert found.reason == f"its interval holds the threshold{told}"


def test_of_answers_more_prompts_would_tell_and_of_what_is_counted_nothing(
    finished_run: FinishedRun,
) -> None:
    nf4 = finished_run.comparison.variants["nf4"].generation
    seconds = nf4.seconds
    assert seconds.interval and seconds.value
    threshold = (seconds.value + seconds.interval[1]) / 2
    found = only(judged(finished_run.comparison, f"seconds <= {threshold!r} for nf4"))
    assert (found.verdict, found.over, found.items) == ("undecided", "prompts", nf4.prompts)
    assert found.items_needed in (4 * nf4.prompts, 4 * nf4.prompts + 1)
    in_a = judged(finished_run.comparison, "kl.mean <= 100 in A for nf4")
    assert (only(in_a).over, only(in_a).items) == ("prompts", 5)
    counted = only(judged(finished_run.comparison, "success >= 0% for nf4"))
    assert (counted.over, counted.items, counted.items_needed) == (None, None, None)


@pytest.mark.parametrize(("policy", "passed"), [("fail", False), ("pass", True)])
def test_what_is_undecided_counts_as_the_user_says(
    finished_run: FinishedRun, policy: str, passed: bool
) -> None:
    comparison = with_kl(finished_run.comparison, "nf4", 0.1, 0.3)
    judgement = judged(comparison, "kl.mean <= 0.2 for nf4", undecided=policy)
    assert judgement.passed == passed


def test_counts_are_facts_and_what_is_not_measured_is_neither(finished_run: FinishedRun) -> None:
    found = judged(finished_run.comparison, "success >= 0%", "device_peak_bytes <= 1GiB")
    verdicts = [(r.measure, r.variant, r.verdict, r.reason) for r in found.results]
    assert verdicts == [
        ("success", "int8", "pass", None),
        ("success", "nf4", "pass", None),
        ("device_peak_bytes", "int8", "not measured", None),
        ("device_peak_bytes", "nf4", "not measured", None),
    ]


@pytest.mark.parametrize("undecided", ["fail", "pass"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [(None, None), (float("nan"), "no finite number"), (float("inf"), "no finite number")],
)
def test_what_is_not_measured_never_passes_and_is_never_recommended(
    finished_run: FinishedRun, undecided: str, value: float | None, reason: str | None
) -> None:
    comparison = with_mean_kl(finished_run.comparison, value, None)
    found = judged(comparison, "kl.mean <= 1e9", "success >= 0%", undecided=undecided)
    result = next(r for r in found.results if r.variant == "nf4")
    assert (result.verdict, result.reason) == ("not measured", reason)
    assert not found.passed
    assert found.recommendation.verdicts["nf4"] == "not measured"
    assert found.recommendation.variant != "nf4"
    assert "1 not measured" in sentences.of_gates(found)


def test_an_interval_of_no_numbers_decides_nothing(finished_run: FinishedRun) -> None:
    comparison = with_mean_kl(finished_run.comparison, 0.1, (float("nan"), float("nan")))
    assert only(judged(comparison, "kl.mean <= 1 for nf4")).verdict == "undecided"


def test_by_category_is_a_verdict_a_category(finished_run: FinishedRun) -> None:
    found = judged(finished_run.comparison, "kl.mean <= 100 by category for nf4").results
    assert [result.category for result in found] == ["A", "B"]
    answers = finished_run.comparison.variants["nf4"].generation.by_category
    assert [result.value for result in found] == [
        answers[name].kl_along_reference.value for name in "AB"
    ]


@pytest.mark.parametrize("name", GATE_MEASURES)
def test_every_measure_can_be_read_of_a_run(finished_run: FinishedRun, name: str) -> None:
    measure = GATE_MEASURES[name]
    reading = measure.of_variant(finished_run.comparison.variants["nf4"])
    if name == "device_peak_bytes":
        assert reading.value is None
        return
    assert reading.value is not None
    assert measure.least <= reading.value <= measure.most
    assert measure.is_counted <= (reading.interval is None)


def test_nothing_passes_in_a_partial_run(finished_run: FinishedRun) -> None:
    partial = finished_run.comparison.model_copy(update={"complete": False})
    found = only(judged(partial, "success >= 0% for nf4"))
    assert (found.verdict, found.reason) == ("undecided", "the run is partial")
    assert judged(partial).recommendation.variant is None
    assert not judged(partial, "success >= 0% for nf4", undecided="pass").passed


def test_the_smallest_that_passes_is_recommended(finished_run: FinishedRun) -> None:
    comparison = finished_run.comparison
    both = with_kl(with_kl(comparison, "nf4", 0.01, 0.02), "int8", 0.01, 0.02)
    gate = "kl.mean <= 0.05"
    found = judged(both, gate)
    assert found.recommendation.variant == "nf4"
    assert sentences.of_recommendation(found, both).startswith(
        "Take nf4: the smallest that passes every gate (mean KL at most 0.05 nats), at "
    )
    assert judged(with_kl(both, "nf4", 0.2, 0.3), gate).recommendation.variant == "int8"
    unsure = with_kl(with_kl(both, "nf4", 0.2, 0.3), "int8", 0.01, 0.3)
    nothing = judged(unsure, gate)
    assert nothing.recommendation.variant is None
    assert sentences.of_recommendation(nothing, unsure) == (
        "Stay with fp16: nothing smaller is shown to do what the rule asks (mean KL at most 0.05 "
        "nats). There is too little data to tell of int8."
    )


def test_of_those_that_pass_the_closest_and_the_fastest_are_named(
    finished_run: FinishedRun,
) -> None:
    content = with_kl(
        with_kl(finished_run.comparison, "nf4", 0.01, 0.02), "int8", 0.001, 0.002
    ).model_dump(by_alias=True)
    for name, speed in (("nf4", 40.0), ("int8", 50.0)):
        latency = content["variants"][name]["generation"]["latency"]["eager"]
        latency["tokens_per_second"].update(value=speed, interval=(speed - 1, speed + 1))
    comparison = Comparison.model_validate(content)
    judgement = judged(comparison, "kl.mean <= 0.05")
    found = judgement.recommendation
    assert (found.variant, found.closest, found.fastest) == ("nf4", "int8", "int8")
    assert sentences.of_others(judgement, comparison) == (
        "Of those that pass, int8 is the closest to fp16 (KL 0.0015 ± 0.0005), int8 is the fastest "
        "(50.0 ± 1.0 tokens per second)."
    )
    one = judged(comparison, "kl.mean <= 0.05", "kl.mean <= 0.0001 for int8").recommendation
    assert (one.variant, one.closest, one.fastest) == ("nf4", "nf4", "nf4")


def test_what_is_undecided_is_not_praised(finished_run: FinishedRun) -> None:
    unsure = with_kl(finished_run.comparison, "nf4", 0.01, 0.3)
    found = judged(unsure, "kl.mean <= 0.05 for nf4", undecided="pass")
    assert found.recommendation.variant == "nf4"
    said = sentences.of_recommendation(found, unsure)
    assert said.startswith(
        "Take nf4: the smallest that is not shown to fail (nf4's mean KL at most 0.05"
    )


def test_what_is_expanded_here_has_the_size_of_its_file(finished_run: FinishedRun) -> None:
    content = finished_run.comparison.model_dump(by_alias=True)
    whole = content["variants"]["fp16"]["memory"]["weights_bytes"]
    content["variants"]["nf4"]["memory"].update(
        weights_bytes=whole, size_bytes=whole // 4, compression_ratio=4.0, expanded=True
    )
    expanded = Comparison.model_validate(content)
    found = judged(expanded, "success >= 0% for nf4")
    assert found.recommendation.size_bytes["nf4"] == whole // 4
    assert "4.00× smaller than fp16" in sentences.of_recommendation(found, expanded)


def test_a_variant_that_no_gate_is_for_is_not_recommended(finished_run: FinishedRun) -> None:
    found = judged(finished_run.comparison, "success >= 0% for int8").recommendation
    assert found.verdicts == {"int8": "pass"}
    assert found.variant == "int8"


@pytest.mark.parametrize(
    ("gate", "status"), [("kl.mean <= 5", 0), ("kl.mean <= 0.0000001", 3), ("kl.men <= 1", 2)]
)
def test_the_command_says_how_a_finished_run_does_and_writes_if_it_is_told_to(
    finished_run: FinishedRun,
    gate: str,
    status: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "r"
    shutil.copytree(finished_run.folder, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert run_command(["gate", str(folder), "--gate", gate]) == status
    shown = capsys.readouterr()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    if status == 2:
        assert "unknown measure" in shown.err
        return
    assert ("Gates: passed" if status == 0 else "Gates: failed") in shown.out
    assert "Report:" not in shown.out
    assert run_command(["gate", str(folder), "--gate", gate, "--write"]) == status
    judgement = json.loads((folder / "gates.json").read_text())
    assert judgement["passed"] == (status == 0)
    assert judgement["results"][0]["gate"] == gate


def test_the_command_needs_gates(
    finished_run: FinishedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["gate", str(finished_run.folder)]) == 2
    assert "name a gate" in capsys.readouterr().err


def test_the_page_about_gates_names_every_measure_and_set() -> None:
    page = (REPOSITORY / "docs" / "gates.md").read_text(encoding="utf-8")
    for name in (*GATE_MEASURES, *gate_set_names()):
        assert f"`{name}`" in page
