"""A variant has one size, wherever it is shown, and no speed that is not its own."""

import importlib.metadata
import re
import shutil

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from orchestrator.comparison_schema import Comparison, DeviceMemory
from orchestrator.contract.version import VERSION
from orchestrator.report import claims, sentences
from orchestrator.report.contents import Report
from orchestrator.report.html import render_html
from orchestrator.report.tables import formats
from orchestrator.report.tables.memory_tables import memory_tables
from tests.gguf_models import write_gguf
from tests.pipeline import judgement_of, make_test_plan, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

pytest.importorskip("gguf", reason="gguf is not installed")

FILES = ("q4", "q8")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """FP16 weights that were expanded from a Q8_0 file, that file, a Q4_0 file, and NF4."""
    folder = tmp_path_factory.mktemp("sizes")
    original = make_tiny_model(folder / "original")
    q8 = write_gguf(original, folder / "q8.gguf", "Q8_0")
    expanded = shutil.copytree(original, folder / "expanded")
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=q8.name, dtype=torch.float16)
    save_file(dict(model.state_dict()), expanded / "model.safetensors", {"format": "pt"})
    q4 = write_gguf(expanded, folder / "q4.gguf", "Q4_0")
    return run_in_process(
        make_test_plan(
            **write_inputs(folder / "inputs", SAMPLE_ROWS),
            model=str(expanded),
            variants=("fp16", "nf4", f"q4={q4}", f"q8={q8}"),
            max_windows=4,
            max_new_tokens=4,
            batch_sizes=(1, 2),
            results=folder,
            run_id="r",
        )
    )


@pytest.fixture(scope="module")
def page(comparison: Comparison) -> str:
    rendered = render_html(Report(comparison, judgement_of(comparison, "kl.mean <= 5")))
    return re.sub(
        r"\s+", " ", re.sub(r"<svg.*?</svg>|<style>.*?</style>", "", rendered, flags=re.S)
    )


def test_a_file_has_its_own_size_and_what_it_takes_here_apart(comparison: Comparison) -> None:
    reference = comparison.variants["fp16"].memory
    for name in FILES:
        memory = comparison.variants[name].memory
        assert memory.expanded
        assert memory.size_bytes == memory.disk_bytes
        assert memory.weights_bytes == reference.weights_bytes
        assert memory.running_weights_bytes == reference.running_weights_bytes
        assert memory.compression_ratio == pytest.approx(reference.size_bytes / memory.disk_bytes)
    nf4 = comparison.variants["nf4"].memory
    assert not nf4.expanded
    assert nf4.size_bytes == nf4.weights_bytes


def test_every_printed_size_of_a_variant_is_the_same_cell(
    comparison: Comparison, page: str
) -> None:
    judgement = judgement_of(comparison, "kl.mean <= 5")
    assert judgement.recommendation.variant == "q4"
    report = Report(comparison, judgement)
    for name, figures in comparison.variants.items():
        memory = figures.memory
        size = formats.size(memory.size_bytes)
        assert judgement.recommendation.size_bytes[name] == memory.size_bytes
        card = re.search(rf"<h3>{name} .*?</li>", page)
        assert card and f"<dt>size</dt><dd>{size}, " in card[0]
        for table in ("summary", "memory", "cards"):
            heads = [column.head for column in report.tables[table].columns]
            (row,) = (row for row in report.tables[table].rows if row[0].text == name)
            assert row[heads.index("size")].text == size
        times = formats.times(memory.compression_ratio)
        assert (f"{name} {times} smaller" in claims.of_size(comparison)) == (name != "fp16")
        assert memory.bits_per_weight == pytest.approx(
            16 * memory.size_bytes / comparison.variants["fp16"].memory.size_bytes
        )
    chosen = comparison.variants["q4"].memory
    said = sentences.of_recommendation(judgement, comparison)
    assert f"at {formats.size(chosen.size_bytes)}, " in said
    assert f"{formats.times(chosen.compression_ratio)} smaller than fp16" in said


def test_a_speed_that_is_not_a_formats_own_is_in_no_claim_and_no_plot(
    comparison: Comparison, page: str
) -> None:
    report = Report(comparison, judgement_of(comparison, "kl.mean <= 5"))
    assert "q4" not in claims.of_speed(comparison)
    assert "slower" not in "".join(claims.of_recommended(report.judgement, comparison))
    for name in ("tradeoff-speed", "throughput", "category-seconds"):
        drawn = str(report.plots[name])
        assert "nf4" in drawn
        assert not any(each in drawn for each in FILES), name
    (row,) = (row for row in report.tables["summary"].rows if row[0].text == "q4")
    assert row[-2].is_absent
    latency = [row[0].text for row in report.tables["latency"].rows]
    assert latency == ["fp16", "nf4", "q4 (expanded)", "q8 (expanded)"]
    assert "<dt>tok/s</dt><dd>not its own</dd>" in page
    gate = judgement_of(comparison, "tokens_per_second >= 0 for q4", "success >= 0% for q4")
    assert [result.verdict for result in gate.results] == ["not measured", "pass"]
    assert "no speed of its own" in str(gate.results[0].reason)


def test_what_single_variants_are_loaded_by_is_named_with_its_version(
    comparison: Comparison,
) -> None:
    versions = comparison.provenance.versions
    for package in ("gguf", "torch", "bitsandbytes"):
        assert versions[package] == [importlib.metadata.version(package)]
    assert versions["orchestrator"] == [VERSION]
    rows = Report(comparison, judgement_of(comparison)).tables["environment"].rows
    assert ["gguf", versions["gguf"][0]] in [[cell.text for cell in row] for row in rows]


def test_a_file_that_the_reference_was_expanded_from_is_told_as_that(
    comparison: Comparison,
) -> None:
    kl = comparison.variants["q8"].kl
    assert kl is not None and kl.identical
    told = "q8: identical, every prediction is equal to fp16's: is fp16 this file, expanded?"
    assert told in comparison.notes
    assert not any(note.startswith("q4: identical") for note in comparison.notes)


def test_what_was_foreseen_of_a_device_stands_beside_what_scoring_took(
    comparison: Comparison,
) -> None:
    nf4 = comparison.variants["nf4"]
    assert nf4.memory.foreseen_device_bytes is not None
    # As on a GPU, which this is not.
    phases = {
        name: DeviceMemory(allocated_bytes=2**20, peak_bytes=peak, reserved_bytes=2**24)
        for name, peak in (("loading", 2**20), ("scoring", 5 * 2**20))
    }
    on_a_gpu = {
        "phases": phases,
        "device_context_bytes": 700 * 2**20,
        "foreseen_device_bytes": 720 * 2**20,
    }
    memory = nf4.memory.model_copy(update=on_a_gpu)
    changed = {"nf4": nf4.model_copy(update={"memory": memory})}
    tables = memory_tables(comparison.model_copy(update={"variants": changed}))
    (table,) = [one for one in tables if one.name == "memory_phases"]
    names = [column.key for column in table.columns]
    loading, scoring = (dict(zip(names, row, strict=True)) for row in table.rows)
    assert (loading["taken_bytes"].text, scoring["taken_bytes"].text) == ("701 MiB", "705 MiB")
    assert scoring["foreseen_device_bytes"].text == "720 MiB"
    assert loading["foreseen_device_bytes"].value is None
