"""The divergence through the whole pipeline, against both models' full logits in one process."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from orchestrator.comparison_schema import Comparison
from orchestrator.contract.variants import VARIANTS, PlainVariant
from orchestrator.inputs.models import resolve_model
from orchestrator.inputs.sources import read_inputs
from orchestrator.planning.plan import Plan, make_plan, manifest_of
from orchestrator.settings import Settings
from orchestrator.storage.results_folder import ResultsFolder, run_at
from orchestrator.storage.store import RunStore
from tests import oracle
from tests.pipeline import (
    ONE_CORE,
    make_test_plan,
    markdown_of,
    reduced,
    run_as_far_as_it_goes,
    run_in_process,
    write_inputs,
)
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import copy_tokenizer, make_tiny_model

CANDIDATES = ("bf16", "int8", "nf4")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        **write_inputs(folder, SAMPLE_ROWS),
        "model": str(make_tiny_model(folder / "model")),
        "variants": ("fp16", *CANDIDATES),
        "max_windows": 7,
        "max_prompts": 0,
        "shard_size": 3,
        "batch_tokens": 256,
    }


@pytest.fixture(scope="module")
def run(
    inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Plan, Path, Comparison]:
    results = tmp_path_factory.mktemp("results")
    plan = make_test_plan(**inputs, results=results, run_id="r")
    return plan, results / "r", run_in_process(plan)


def full_logits(plan: Plan, variant: str) -> list[Any]:
    """A model's logits of each window's scored positions, by nothing of the code under test."""
    return oracle.scored_logits(Path(plan.settings.model), variant, plan.inputs.windows)


@pytest.fixture(scope="module")
def reference_logits(run: tuple[Plan, Path, Comparison]) -> list[Any]:
    return full_logits(run[0], "fp16")


@pytest.mark.parametrize("variant", CANDIDATES)
def test_every_token_is_as_computed_from_the_full_logits(
    variant: str, run: tuple[Plan, Path, Comparison], reference_logits: list[Any]
) -> None:
    plan, folder, comparison = run
    tokens = pq.read_table(
        folder / "tables" / "tokens.parquet", filters=[("variant", "=", variant)]
    )
    windows = plan.inputs.windows
    assert tokens["token"].to_pylist() == [t for w in windows for t in w.target_ids]
    assert tokens["window"].to_pylist() == [
        number
        for number, window in zip(plan.inputs.looks[0], windows, strict=True)
        for _ in window.target_ids
    ]
    positions = [w.start + 1 + n for w in windows for n in range(len(w.target_ids))]
    assert tokens["position"].to_pylist() == positions
    pairs = zip(reference_logits, full_logits(plan, variant), windows, strict=True)
    expected = [oracle.token_measures(p, q, list(w.target_ids)) for p, q, w in pairs]
    renamed = {
        "negative_log_likelihood": "candidate_negative_log_likelihood",
        "top_token": "candidate_top_token",
        "top_probability": "candidate_top_probability",
    }
    for name in tokens.schema.names[4:]:
        values = np.concatenate([part[renamed.get(name, name)] for part in expected])
        found = tokens[name].to_numpy()
        np.testing.assert_allclose(found, values, atol=1e-5, rtol=1e-6, err_msg=name)
    figures = comparison.variants[variant]
    assert figures.kl
    assert figures.kl.mean.value == pytest.approx(
        np.concatenate([part["kl"] for part in expected]).mean(), abs=1e-6
    )


def test_the_reference_s_tokens_have_a_likelihood_and_nothing_to_be_held_against(
    run: tuple[Plan, Path, Comparison], reference_logits: list[Any]
) -> None:
    plan, folder, comparison = run
    tokens = pq.read_table(folder / "tables" / "tokens.parquet", filters=[("variant", "=", "fp16")])
    expected = [
        oracle.token_measures(p, p, list(w.target_ids))["reference_negative_log_likelihood"]
        for p, w in zip(reference_logits, plan.inputs.windows, strict=True)
    ]
    found = tokens["negative_log_likelihood"].to_numpy()
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-5)
    assert all(tokens[name].null_count == len(tokens) for name in tokens.schema.names[5:])
    assert comparison.variants["fp16"].kl is None


@pytest.mark.parametrize("variant", CANDIDATES)
def test_figures_are_those_of_the_tokens(variant: str, run: tuple[Plan, Path, Comparison]) -> None:
    plan, folder, comparison = run
    tokens = pq.read_table(
        folder / "tables" / "tokens.parquet", filters=[("variant", "=", variant)]
    ).to_pandas()
    figures = comparison.variants[variant]
    assert figures.kl
    assert figures.probability_change
    assert figures.same_top_token
    assert figures.perplexity_ratio
    own, base = tokens.negative_log_likelihood, tokens.reference_negative_log_likelihood
    for found, expected in (
        (figures.kl.mean.value, tokens.kl.mean()),
        (figures.kl.reverse_mean.value, tokens.reverse_kl.mean()),
        (figures.kl.maximum, tokens.kl.max()),
        (figures.kl.percentiles["99.9"], np.quantile(tokens.kl, 0.999)),
        (figures.kl.percentiles["50"], tokens.kl.median()),
        (figures.probability_change.mean.value, tokens.probability_change.mean()),
        (figures.probability_change.rms.value, np.sqrt((tokens.probability_change**2).mean())),
        (figures.probability_change.percentiles["1"], np.quantile(tokens.probability_change, 0.01)),
        (figures.same_top_token.value, tokens.same_top_token.mean()),
        (figures.perplexity_ratio.value, np.exp((own - base).mean())),
        (figures.log_perplexity_correlation, np.corrcoef(own, base)[0, 1]),
    ):
        assert found == pytest.approx(float(expected), rel=1e-4)
    # Of stretches: the mean of a ratio, whose jackknife agrees with linearization.
    (look,) = manifest_of(plan).looks
    assert comparison.sample.windows == look.windows == 7
    assert comparison.sample.stretches == len(look.stretches) == 3
    stretch = np.searchsorted(look.stretches, tokens.window, side="right")
    sums = tokens.groupby(stretch).kl.agg(["sum", "count"])
    total = sums.sum()
    without = (total["sum"] - sums["sum"]) / (total["count"] - sums["count"])
    n = len(sums)
    jackknife = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    assert figures.kl.mean.stderr == pytest.approx(jackknife, rel=0.15)
    assert (figures.kl.mean.n, figures.kl.mean.windows) == (n, 7) == (3, 7)
    assert figures.perplexity.n == 3


def test_a_model_does_not_diverge_from_itself(
    inputs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        VARIANTS, "fp16-again", PlainVariant(name="fp16-again", weights_dtype="float16")
    )
    chosen = {**inputs, "variants": ("fp16", "fp16-again"), "results": tmp_path}
    figures = run_in_process(make_test_plan(**chosen)).variants["fp16-again"]
    assert figures.kl
    assert figures.same_top_token
    assert figures.kl.maximum <= 1e-6
    assert abs(figures.kl.mean.value or 0) <= 1e-6
    assert figures.same_top_token.value == 1


@pytest.mark.parametrize("variant", CANDIDATES)
def test_the_worst_tokens_are_told_in_their_words(
    variant: str, run: tuple[Plan, Path, Comparison], reference_logits: list[Any]
) -> None:
    plan, folder, comparison = run
    tokenizer = AutoTokenizer.from_pretrained(plan.settings.model)
    tokens = pq.read_table(
        folder / "tables" / "tokens.parquet", filters=[("variant", "=", variant)]
    ).to_pandas()
    expected = tokens.sort_values("kl", ascending=False, kind="stable").head(20)
    figures = comparison.variants[variant]
    assert figures.kl
    logits = full_logits(plan, variant)
    for token, row in zip(figures.kl.worst_tokens, expected.itertuples(), strict=True):
        assert (token.window, token.position, token.kl) == (row.window, row.position, row.kl)
        window = plan.inputs.corpus.windows[row.window]
        taken = plan.inputs.looks[0].index(row.window)
        before = window.input_ids[: row.position]
        assert tokenizer.decode(before).endswith(token.context)
        assert len(token.context) > 20 or row.position < 32
        place = row.position - window.start - 1
        for text, chosen in (
            (token.token, window.target_ids[place]),
            (token.reference_top_token, reference_logits[taken][place].argmax()),
            (token.top_token, logits[taken][place].argmax()),
        ):
            assert text
            assert tokenizer.decode([*before, chosen]).endswith(text)
        assert token.probability - token.reference_probability == pytest.approx(
            row.probability_change, abs=1e-6
        )
        assert token.reference_top_probability == pytest.approx(row.reference_top_probability)
        assert token.top_probability == pytest.approx(row.top_probability)


def test_each_reference_window_was_forwarded_once(run: tuple[Plan, Path, Comparison]) -> None:
    plan, folder, _ = run
    lines = (folder / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    computed = Counter(e["shard"] for e in events if e["event"] == "shard_computed")
    assert computed == {shard.record.name: 1 for shard in plan.shards}
    items = [
        event["items"]
        for event in events
        if event["event"] == "shard_computed" and event["shard"].startswith("fp16/windows")
    ]
    assert sum(items) == len(plan.inputs.windows)


def divergences(comparison: Comparison) -> dict[str, Any]:
    return {
        name: figures.model_dump(
            include={"kl", "same_top_token", "probability_change", "perplexity_ratio"}
        )
        for name, figures in comparison.variants.items()
    }


@pytest.mark.parametrize(
    "change", [{"shard_size": 1}, {"shard_size": 50}, {"reference_bytes": 20_000}]
)
def test_figures_do_not_depend_on_shards_or_room(
    change: dict[str, Any],
    inputs: dict[str, Any],
    run: tuple[Plan, Path, Comparison],
    tmp_path: Path,
) -> None:
    other = run_in_process(make_test_plan(**{**inputs, **change}, results=tmp_path))
    assert divergences(other) == divergences(run[2])


def test_figures_are_the_same_after_a_resume(
    inputs: dict[str, Any], run: tuple[Plan, Path, Comparison], tmp_path: Path
) -> None:
    plan = make_test_plan(**inputs, results=tmp_path, run_id="r")
    run_in_process(plan)
    lost = next(s.record for s in plan.variants[2].shards if s.record.stage == "windows")
    run_at(tmp_path / "r").shard_path(lost).unlink()
    (tmp_path / "r" / "events.jsonl").unlink()
    assert divergences(run_in_process(plan)) == divergences(run[2])
    lines = (tmp_path / "r" / "events.jsonl").read_text().splitlines()
    computed = [json.loads(line)["shard"] for line in lines if "shard_computed" in line]
    needed = next(s.record for s in plan.variants[0].shards if s.record.stage == "windows")
    assert computed == [needed.name, lost.name]


@pytest.mark.parametrize("architecture", ["gemma2", "cohere", "granite", "qwen2", "falcon-h1"])
def test_other_heads_give_the_same_as_the_full_logits(
    architecture: str, inputs: dict[str, Any], tmp_path: Path
) -> None:
    model = make_tiny_model(tmp_path / "model", architecture)
    chosen = {**inputs, "model": str(model), "variants": ("fp16", "nf4"), "max_windows": 2}
    plan = make_test_plan(**chosen, results=tmp_path)
    comparison = run_in_process(plan)
    pairs = zip(full_logits(plan, "fp16"), full_logits(plan, "nf4"), strict=True)
    expected = [
        oracle.token_measures(p, q, list(window.target_ids))["kl"]
        for (p, q), window in zip(pairs, plan.inputs.windows, strict=True)
    ]
    figures = comparison.variants["nf4"]
    assert figures.kl
    assert figures.kl.mean.value == pytest.approx(np.concatenate(expected).mean(), abs=1e-5)
    whole = [f"{name}: its output head does not make its logits" for name in chosen["variants"]]
    notes = [note.split(",")[0] for note in comparison.notes if "output head" in note]
    assert notes == (whole if architecture == "falcon-h1" else [])


def with_candidate(inputs: dict[str, Any], candidate: Path, results: Path) -> Plan:
    """A plan whose NF4 is made of another checkpoint."""
    chosen = Settings(**{**inputs, "variants": ("fp16", "nf4"), "results": results, "run_id": "r"})
    read = read_inputs(chosen)
    other = resolve_model(str(candidate), None).checkpoint
    reference, nf4 = read.variants
    variants = (reference, replace(nf4, checkpoint=other))
    return make_plan(chosen, replace(read, variants=variants), ONE_CORE)


@pytest.mark.parametrize(
    ("vocabulary", "tokenizer", "problem"),
    [
        (400, None, r"its tokenizer differs from the reference's in 112 of 512 tokens: 400 is no "),
        (400, 512, r"it has logits of 400 tokens, not of token 400"),
    ],
)
def test_a_candidate_of_another_vocabulary_is_refused_with_what_differs(
    vocabulary: int, tokenizer: int | None, problem: str, inputs: dict[str, Any], tmp_path: Path
) -> None:
    candidate = make_tiny_model(tmp_path / "candidate", vocabulary=vocabulary)
    if tokenizer is not None:
        copy_tokenizer(Path(inputs["model"]), candidate)
    plan = with_candidate(inputs, candidate, tmp_path)
    refusal = rf"variant nf4 cannot be held against the reference: {problem}.*share a"
    comparison, (given_up,) = run_as_far_as_it_goes(plan)
    assert re.match(refusal, given_up)
    # The reference has been measured nevertheless.
    assert comparison.variants["fp16"].perplexity.value
    assert comparison.variants["nf4"].perplexity.value is None
    assert not comparison.complete


@pytest.mark.parametrize("head", ["mistral", "falcon-h1"])
@pytest.mark.parametrize(("rows", "candidate_rows"), [(512, 640), (640, 512)])
def test_of_a_padded_embedding_the_common_tokens_are_compared(
    rows: int, candidate_rows: int, head: str, inputs: dict[str, Any], tmp_path: Path
) -> None:
    tokens = make_tiny_model(tmp_path / "tokens", head, vocabulary=512)
    folders = []
    for name, count in (("reference", rows), ("candidate", candidate_rows)):
        folder = make_tiny_model(tmp_path / name, head, vocabulary=count, seed=len(name))
        copy_tokenizer(tokens, folder)
        folders.append(folder)
    model, candidate = folders
    plan = make_test_plan(
        **{**inputs, "model": str(model), "variants": ("fp16", f"padded={candidate}")},
        results=tmp_path,
    )
    comparison = run_in_process(plan)
    windows = plan.inputs.windows
    pairs = list(
        zip(
            oracle.scored_logits(model, "fp16", windows),
            oracle.scored_logits(candidate, "fp16", windows),
            windows,
            strict=True,
        )
    )
    own = [oracle.token_measures(q, q, list(w.target_ids)) for _, q, w in pairs]
    expected = [
        oracle.token_measures(p[:, :512], q[:, :512], list(w.target_ids)) for p, q, w in pairs
    ]
    figures = comparison.variants["padded"]
    assert figures.kl
    kl = np.concatenate([part["kl"] for part in expected])
    assert figures.kl.mean.value == pytest.approx(kl.mean(), rel=1e-5)
    assert figures.kl.maximum == pytest.approx(kl.max(), rel=1e-4)
    name = "candidate_negative_log_likelihood"
    perplexity = np.exp(np.concatenate([part[name] for part in own]).mean())
    assert figures.perplexity.value == pytest.approx(perplexity, rel=1e-5)
    assert (
        f"padded: its logits are over {candidate_rows} tokens, fp16's over {rows}: divergence is "
        "over the first 512, which both have; perplexity is over its own." in comparison.notes
    )


def test_a_head_of_its_own_does_not_stand_for_the_reference_s(
    inputs: dict[str, Any], tmp_path: Path
) -> None:
    candidate = make_tiny_model(tmp_path / "candidate", seed=3)
    plan = with_candidate(inputs, candidate, tmp_path)
    figures = run_in_process(plan).variants["nf4"]
    windows = plan.inputs.windows
    own = oracle.scored_logits(candidate, "nf4", windows)
    expected = [
        oracle.token_measures(p, q, list(window.target_ids))["kl"]
        for p, q, window in zip(full_logits(plan, "fp16"), own, windows, strict=True)
    ]
    assert figures.kl
    assert figures.kl.mean.value == pytest.approx(np.concatenate(expected).mean(), rel=1e-5)


def test_windows_that_are_no_numbers_are_counted_and_named_and_never_averaged(
    inputs: dict[str, Any], tmp_path: Path
) -> None:
    candidate = make_tiny_model(tmp_path / "candidate")
    weights = load_file(candidate / "model.safetensors")
    plan = with_candidate(inputs, candidate, tmp_path)
    # A token that the first windows hold and the last does not.
    windows = [set(window.input_ids) for window in plan.inputs.windows]
    token = next(iter(windows[0] - windows[-1]))
    weights["model.embed_tokens.weight"][token] = float("nan")
    save_file(weights, candidate / "model.safetensors", {"format": "pt"})
    plan = with_candidate(inputs, candidate, tmp_path)
    comparison = run_in_process(plan)
    nf4 = comparison.variants["nf4"]
    assert nf4.kl is None
    assert nf4.same_top_token is None
    assert nf4.perplexity.value is None
    assert comparison.variants["fp16"].perplexity.value
    numbers = plan.inputs.looks[0]
    broken = [str(n) for n, held in zip(numbers, windows, strict=True) if token in held]
    counted = f"nf4: {len(broken)} of 7 windows ({', '.join(broken)}) have a "
    assert [note.split("that is")[0] for note in comparison.notes if note.startswith(counted)] == [
        f"{counted}likelihood ",
        f"{counted}divergence from the reference ",
    ]
    assert "| nf4 | – | – |" in markdown_of(comparison)


def test_a_run_without_candidates_has_no_divergence(inputs: dict[str, Any], tmp_path: Path) -> None:
    chosen = {**inputs, "variants": ("nf4",), "results": tmp_path}
    plan = make_test_plan(**chosen)
    comparison = run_in_process(plan)
    assert comparison.variants["nf4"].perplexity.value
    assert comparison.variants["nf4"].kl is None
    with RunStore(ResultsFolder.at(tmp_path), manifest_of(plan)) as store:
        assert reduced(store.folder) == comparison
