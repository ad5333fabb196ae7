"""Candidates that bring their own weights: quantized by others, in folders and GGUF files."""

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from actors.loading import load_model
from actors.transformers_engine import TransformersEngine
from actors.weights import weight_bytes
from orchestrator.comparison_schema import Comparison
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.stages import LoadingPayload
from orchestrator.contract.variant_errors import CannotLoadError
from orchestrator.contract.variants import VARIANTS, CheckpointVariant
from orchestrator.errors import BadInputError
from orchestrator.inputs.models import resolve_model
from orchestrator.inputs.sourced_variants import resolve_variants
from orchestrator.inputs.sources import read_inputs
from orchestrator.planning.sizes import expected_weights_bytes, head_bytes, resident_bytes
from orchestrator.settings import Settings
from orchestrator.settings_layers import resolve_settings
from tests import oracle
from tests import quantized_checkpoints as made
from tests.gguf_models import write_gguf
from tests.models.actors.test_kernels import rounded_by_torchao
from tests.pipeline import make_test_plan, markdown_of, run_in_process, write_inputs
from tests.places import REPOSITORY
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import edit_json, make_tiny_model

LENGTH = 64


@dataclass(frozen=True)
class Format:
    """A format of checkpoints: how to make one, and what it keeps of a weight.

    Attributes:
        restored: None where the oracle quantizes by itself, as its variant `oracle`.
    """

    make: Callable[[Path, Path], Path]
    restored: Callable[[], made.Restored] | None
    packages: tuple[str, ...]
    method: str
    oracle: str = "fp32"


def gguf_format(kind: str) -> Format:
    def make(model: Path, folder: Path) -> Path:
        folder.mkdir()
        return write_gguf(model, folder / f"model-{kind}.gguf", kind)

    return Format(make, lambda: made.ggml(kind), ("gguf",), f"{kind} (14)")


FORMATS = {
    "awq": Format(made.save_awq, lambda: made.asymmetric, ("gptqmodel",), "awq"),
    "gptq": Format(made.save_gptq, lambda: made.asymmetric, ("gptqmodel", "optimum"), "gptq"),
    "w4a16": Format(
        made.save_compressed_tensors,
        lambda: made.symmetric,
        ("compressed_tensors",),
        "compressed-tensors",
    ),
    "saved-nf4": Format(made.save_nf4, None, ("bitsandbytes",), "bitsandbytes", oracle="nf4"),
    "q4_0": gguf_format("Q4_0"),
    "q4_k": gguf_format("Q4_K"),
    "q8_0": gguf_format("Q8_0"),
}


def needs(*packages: str) -> None:
    """Skips a test whose packages are not installed, saying which."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")


def needs_none(package: str) -> None:
    """Skips a test that is about a package that is not installed."""
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Q4_K's blocks are of 256 weights.
    return make_tiny_model(tmp_path_factory.mktemp("model"), "qwen2", hidden=256)


@pytest.fixture(scope="module")
def inputs(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {
        **write_inputs(tmp_path_factory.mktemp("inputs"), SAMPLE_ROWS, prompts=2),
        "model": str(model),
        "window_length": LENGTH,
        "max_new_tokens": 4,
        "max_prompts": 1,
    }


@pytest.mark.parametrize("name", FORMATS)
def test_a_checkpoint_of_its_own_is_as_a_plain_loop_finds_it(
    name: str, model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    form = FORMATS[name]
    needs(*form.packages)
    checkpoint = form.make(model, tmp_path / "checkpoint")
    plan = make_test_plan(
        **inputs, variants=("fp16", f"mine={checkpoint}"), results=tmp_path / "results"
    )
    comparison = run_in_process(plan)
    plain = model
    if form.restored is not None:
        plain = made.plain_model(model, tmp_path / "plain", form.restored())
    expected = oracle.perplexities(plain, SAMPLE_ROWS, "concat", variant=form.oracle, length=LENGTH)
    figures = comparison.variants["mine"]
    assert figures.perplexity.value == pytest.approx(expected.perplexity, rel=1e-4)
    windows = plan.inputs.windows
    reference = oracle.scored_logits(model, "fp16", windows)
    own = oracle.scored_logits(plain, form.oracle, windows)
    pairs = zip(reference, own, windows, strict=True)
    measured = [oracle.token_measures(p, q, list(w.target_ids)) for p, q, w in pairs]
    kl = float(np.concatenate([part["kl"] for part in measured]).mean())
    assert figures.kl
    assert figures.kl.mean.value == pytest.approx(kl, abs=1e-5)
    assert kl > 1e-4
    assert figures.method == form.method
    assert figures.checkpoint.startswith(str(tmp_path))
    assert figures.memory.disk_bytes < comparison.variants["fp16"].memory.disk_bytes
    assert figures.generation.succeeded == figures.generation.prompts == 1


@pytest.mark.parametrize("name", FORMATS)
def test_weights_are_measured_whatever_holds_them(name: str, model: Path, tmp_path: Path) -> None:
    form = FORMATS[name]
    needs(*form.packages)
    checkpoint = form.make(model, tmp_path / "checkpoint")
    settings = Settings(model=str(model), variants=("fp16", f"mine={checkpoint}"))
    _, mine = resolve_variants(settings, resolve_model(str(model), None))
    loaded = load_model(mine.checkpoint.location, mine.variant, torch.device("cpu"))
    expected = expected_weights_bytes(mine.checkpoint.tensors, mine.variant)
    assert weight_bytes(loaded).total == pytest.approx(expected, rel=0.01)


def test_what_is_expanded_to_run_is_noted(
    model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    needs("gguf")
    file = write_gguf(model, tmp_path / "q4.gguf", "Q4_0")
    plan = make_test_plan(**inputs, variants=("fp16", f"q4={file}"), results=tmp_path)
    notes = run_in_process(plan).notes
    assert any(note.startswith("q4: its weights are expanded to run: then they") for note in notes)
    assert any("Q4_0 (14)" in note and "llama.cpp also rounds" in note for note in notes)


def test_a_gguf_file_of_the_model_itself_does_not_diverge_from_it(
    model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    needs("gguf")
    blob = write_gguf(model, tmp_path / "0123abcd", "F16")
    # As the hub's cache has it.
    (tmp_path / "snapshot").mkdir()
    file = tmp_path / "snapshot" / "model-F16.gguf"
    file.symlink_to(blob)
    plan = make_test_plan(**inputs, variants=("fp16", f"same={file}"), results=tmp_path)
    comparison = run_in_process(plan)
    kl = comparison.variants["same"].kl
    assert kl
    assert kl.maximum <= 1e-6
    assert kl.indistinguishable
    assert comparison.variants["same"].method is None
    # The same weights need the same room, and that of the model's head, which may be another.
    own, reference = (planned.needed_bytes for planned in reversed(plan.variants))
    assert own and reference
    assert own - reference == head_bytes(plan.inputs.model.checkpoint.tensors, "float32")


def test_a_gguf_file_can_be_the_model(model: Path, inputs: dict[str, Any], tmp_path: Path) -> None:
    needs("gguf")
    file = write_gguf(model, tmp_path / "model-Q8_0.gguf", "Q8_0")
    chosen = {**inputs, "model": str(file)}
    plan = make_test_plan(**chosen, variants=("fp16", f"whole={model}"), results=tmp_path)
    assert plan.inputs.model.maximum_length == 128
    comparison = run_in_process(plan)
    plain = made.plain_model(model, tmp_path / "plain", made.ggml("Q8_0"))
    expected = oracle.perplexities(plain, SAMPLE_ROWS, "concat", variant="fp32", length=LENGTH)
    found = comparison.variants["fp16"].perplexity
    assert found.value == pytest.approx(expected.perplexity, rel=1e-4)
    with pytest.raises(BadInputError, match=r"nf4 cannot be made of a GGUF file; name the model"):
        read_inputs(Settings(**chosen, variants=("fp16", "nf4")))


def test_what_is_expanded_at_its_first_use_is_foreseen_as_that(
    model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    needs("compressed_tensors")
    folder = made.save_compressed_tensors(model, tmp_path / "w4a16")
    mine = make_test_plan(**inputs, variants=("fp16", f"mine={folder}")).variants[1]
    loading = TransformersEngine(mine.assignment(threads=1)).held.loading
    tensors = read_inputs(Settings(**inputs)).model.checkpoint.tensors
    foreseen = resident_bytes(
        mine.checkpoint.tensors, mine.variant, mine.compute_dtype, expanded=tensors
    )
    assert loading["weights_bytes"] < loading["running_weights_bytes"] / 4
    assert foreseen == pytest.approx(loading["running_weights_bytes"], rel=0.05)


@pytest.mark.parametrize("name", ["torchao-int8", "torchao-int4"])
def test_torchao_quantizes_as_it_says_and_takes_what_is_foreseen(
    name: str, model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    needs("torchao")
    plan = make_test_plan(**inputs, variants=("fp16", name), results=tmp_path / "results")
    comparison = run_in_process(plan)

    def restored(weight: Any) -> Any:
        """Symmetric rounding to the nearest: of rows in 8 bits, of groups of 32 in 4."""
        bits, group = (8, weight.shape[1]) if name == "torchao-int8" else (4, 32)
        # The package computes in the dtype of the weights, float16; 8 bits multiply in float32.
        grouped = torch.from_numpy(weight).half().reshape(len(weight), -1, group)
        scale = grouped.abs().amax(2, keepdim=True) / ((2**bits - 1) / 2)
        scale = scale.float() if bits == 8 else scale
        values = torch.round(grouped * (1 / scale)).float()
        values = values.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return (values * scale.float()).reshape(weight.shape).numpy()

    plain = made.plain_model(model, tmp_path / "plain", restored)
    expected = oracle.perplexities(plain, SAMPLE_ROWS, "concat", variant="fp32", length=LENGTH)
    figures = comparison.variants[name]
    assert figures.perplexity.value == pytest.approx(expected.perplexity, rel=1e-4)
    assert figures.memory.weights_bytes == figures.memory.expected_weights_bytes
    noted = [note for note in comparison.notes if "a byte each" in note]
    assert len(noted) == (name == "torchao-int4")


def test_tiles_are_rounded_alike_without_their_kernel_and_marked(
    model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    needs("torchao")
    name = "torchao-int4-tile"
    plan = make_test_plan(**inputs, variants=("fp16", name), results=tmp_path / "results")
    comparison = run_in_process(plan)

    def restored(weight: Any) -> Any:
        """By torchao's own arithmetic; what has no whole group of 128 is left as it is."""
        weights = torch.from_numpy(weight).to(torch.bfloat16)
        if weights.shape[1] % 128:
            return weights.float().numpy()
        return rounded_by_torchao(weights).float().numpy()

    plain = made.plain_model(model, tmp_path / "plain", restored)
    # What is not quantized is cast to bfloat16, too: embedding, head and norms.
    expected = oracle.perplexities(plain, SAMPLE_ROWS, "concat", variant="bf16", length=LENGTH)
    figures = comparison.variants[name]
    assert figures.perplexity.value == pytest.approx(expected.perplexity, rel=1e-4)
    assert figures.kl and figures.kl.mean.value and figures.kl.mean.value > 1e-3
    assert figures.memory.expanded and figures.own_latency == {}
    assert figures.memory.size_bytes == figures.memory.expected_weights_bytes
    assert figures.linear == "torch Linear" and figures.kernel
    notes = [
        note for note in comparison.notes if note.startswith(f"{name}: emulated: nothing here")
    ]
    assert len(notes) == 1
    assert comparison.variants["fp16"].memory.expanded is False


def test_original_weights_of_another_folder_are_a_candidate_too(
    model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    other = shutil.copytree(model, tmp_path / "tuned")
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"] *= 1.1
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    plan = make_test_plan(
        **inputs, variants=("fp16", f"tuned={other}", f"same={model}"), results=tmp_path
    )
    comparison = run_in_process(plan)
    tuned, same = (comparison.variants[name].kl for name in ("tuned", "same"))
    assert tuned and same
    assert (tuned.mean.value or 0) > 1e-3
    assert same.maximum <= 1e-6
    records = {shard.record.variant: shard.record.fingerprint for shard in plan.shards}
    assert len(set(records.values())) == 3


def test_a_revision_and_a_mapping_are_understood(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("model: x/y\nvariants:\n  fp16:\n  nf4:\n  awq: ORG/NAME-AWQ@v2\n")
    settings = resolve_settings({}, config=file)
    assert settings.variants == ("fp16", "nf4", "awq=ORG/NAME-AWQ@v2")
    assert [(c.name, c.source) for c in settings.choices] == [
        ("fp16", None),
        ("nf4", None),
        ("awq", "ORG/NAME-AWQ@v2"),
    ]


@pytest.mark.parametrize(
    ("variants", "problem"),
    [
        ("mine=a,mine=b", "a variant is named twice"),
        ("fp16,fp16", "a variant is named twice"),
        ("nf4=./folder", "'nf4' has a meaning already; choose another name"),
        ("auto=./folder", "'auto' has a meaning already"),
        ("a b=./folder", "is no NAME=CHECKPOINT"),
        ("../x=./folder", "is no NAME=CHECKPOINT"),
        ("mine=", "is no NAME=CHECKPOINT"),
        ("int3", "unknown variant 'int3'; known are fp32"),
    ],
)
def test_names_that_cannot_be_are_told(variants: str, problem: str) -> None:
    with pytest.raises(BadInputError, match=f"^--variants: .*{problem}"):
        resolve_settings({"variants": tuple(variants.split(","))})


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("absent.gguf", None, r"no file .*absent\.gguf; name one, or a hub id as org/name:file"),
        ("text.gguf", b"hello, this is text", r"text\.gguf is no GGUF file; name one"),
        (
            "cut.gguf",
            b"GGUF\x03\x00\x00\x00",
            r"cut\.gguf is not a whole GGUF file .*fetch it again",
        ),
        ("/no/folder", None, r"no folder /no/folder; name one, or a hub id"),
    ],
)
def test_a_checkpoint_that_is_none_is_told_in_one_line(
    name: str, content: bytes | None, problem: str, inputs: dict[str, Any], tmp_path: Path
) -> None:
    needs("gguf")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=rf"^--variants: .*{problem}") as caught:
        read_inputs(Settings(**inputs, variants=("fp16", f"mine={tmp_path / name}")))
    assert "\n" not in str(caught.value)


def test_a_cut_off_gguf_file_is_told(model: Path, inputs: dict[str, Any], tmp_path: Path) -> None:
    needs("gguf")
    file = write_gguf(model, tmp_path / "q4.gguf", "Q4_0")
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(BadInputError, match=r"q4\.gguf is not a whole GGUF file"):
        read_inputs(Settings(**inputs, variants=("fp16", f"mine={file}")))


def test_an_architecture_that_transformers_does_not_know_in_a_gguf_file_is_told(
    model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    needs("gguf")
    file = write_gguf(model, tmp_path / "odd.gguf", "F16", architecture="oddity")
    told = r"odd\.gguf: models of architecture 'oddity' are not read"
    with pytest.raises(BadInputError, match=told):
        read_inputs(Settings(**inputs, variants=("fp16", f"mine={file}")))


@pytest.mark.parametrize(
    ("method", "package"),
    [("awq", "gptqmodel"), ("aqlm", "aqlm"), ("spqr", r"spqr_quant\[gpu\]")],
)
def test_a_package_that_is_missing_is_named(
    method: str, package: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package.split("\\")[0], None)
    told = rf"mine needs {package}.*pip install {package}, or"
    variant = CheckpointVariant(name="mine", weights_dtype="float16", method=method)
    with pytest.raises(CannotLoadError, match=told):
        load_model(ModelLocation(id_or_path=str(model)), variant, torch.device("cpu"))


def test_a_package_that_is_missing_here_is_told_before_anything_runs(
    model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    needs_none("vptq")
    other = shutil.copytree(model, tmp_path / "other")
    edit_json(other / "config.json", quantization_config={"quant_method": "vptq"})
    with pytest.raises(BadInputError, match=r"^--variants: variant mine needs vptq.*pip install"):
        read_inputs(Settings(**inputs, variants=("fp16", f"mine={other}")))


@pytest.mark.parametrize("variant", ["fp16", "int8", "nf4"])
def test_values_beyond_float16_are_named_with_the_remedy(variant: str, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    weights = {n: w.to(torch.bfloat16) for n, w in load_file(folder / "model.safetensors").items()}
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name][3, 4] = 1e5
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    edit_json(folder / "config.json", dtype="bfloat16")
    told = rf"1 tensors have values beyond the range of float16 \({name}\); take bf16 or fp32"
    location = ModelLocation(id_or_path=str(folder))
    with pytest.raises(CannotLoadError, match=told):
        load_model(location, VARIANTS[variant], torch.device("cpu"))
    load_model(location, VARIANTS["bf16"], torch.device("cpu"))


@pytest.mark.parametrize(("dtype", "picked"), [("bfloat16", "bf16"), ("float16", "fp16")])
def test_the_natural_reference_is_the_checkpoint_s_own_dtype(
    dtype: str, picked: str, inputs: dict[str, Any], tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path)
    edit_json(folder / "config.json", dtype=dtype)
    chosen = {**inputs, "model": str(folder)}
    read = read_inputs(Settings(**chosen, variants=("nf4",), reference="auto"))
    assert read.reference == picked
    assert [candidate.name for candidate in read.variants] == [picked, "nf4"]
    # Casting what is kept in bfloat16 is said.
    notes = [*map(str, read_inputs(Settings(**chosen, variants=("fp16", "nf4"))).notes)]
    assert any("kept in bfloat16" in note for note in notes) == (dtype == "bfloat16")


def test_a_quantized_reference_is_said(model: Path, inputs: dict[str, Any], tmp_path: Path) -> None:
    folder = made.save_nf4(model, tmp_path / "nf4")
    chosen = Settings(**inputs, variants=(f"mine={folder}", "fp16"), reference="mine")
    (note,) = map(str, read_inputs(chosen).notes)
    assert note.startswith("mine, the reference, is quantized itself")


@pytest.mark.parametrize("kind", ["gguf", "folder"])
def test_weights_beyond_float16_of_a_candidate_have_a_remedy_of_their_own(
    kind: str, model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    needs("gguf")
    folder = shutil.copytree(model, tmp_path / "large")
    edit_json(folder / "config.json", dtype="float16")
    weights = {name: w.float() for name, w in load_file(folder / "model.safetensors").items()}
    weights["model.norm.weight"][3] = 1e6
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    source = folder if kind == "folder" else write_gguf(folder, tmp_path / "large.gguf")
    read = read_inputs(Settings(**inputs, variants=("fp16", f"mine={source}")))
    mine = read.variants[1]
    remedy = {
        "gguf": r"name it as --model, with --variants bf16 or fp32$",
        "folder": r"say a dtype of bfloat16 in its config\.json$",
    }[kind]
    with pytest.raises(CannotLoadError, match=remedy) as caught:
        load_model(mine.checkpoint.location, mine.variant, torch.device("cpu"))
    assert f"variant mine of {source}:" in str(caught.value)
    # And it can be followed.
    if kind == "folder":
        edit_json(folder / "config.json", dtype="bfloat16")
        (_, mine) = read_inputs(Settings(**inputs, variants=("fp16", f"mine={source}"))).variants
        load_model(mine.checkpoint.location, mine.variant, torch.device("cpu"))
    else:
        location = resolve_model(str(source), None).checkpoint.location
        load_model(location, VARIANTS["bf16"], torch.device("cpu"))


def test_a_candidate_may_name_ids_that_the_reference_does_not(
    model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    """GGUF files have a token for each row of a padded embedding."""
    fewer = make_tiny_model(tmp_path / "model", vocabulary=512)
    other = shutil.copytree(fewer, tmp_path / "other")
    content = json.loads((fewer / "tokenizer.json").read_text())
    last = max(content["model"]["vocab"], key=content["model"]["vocab"].__getitem__)
    merges = content["model"]["merges"]
    content["model"]["merges"] = [m for m in merges if "".join(m) != last]
    del content["model"]["vocab"][last]
    (fewer / "tokenizer.json").write_text(json.dumps(content))
    chosen = {**inputs, "model": str(fewer)}
    plan = make_test_plan(**chosen, variants=("fp16", f"mine={other}"), results=tmp_path)
    kl = run_in_process(plan).variants["mine"].kl
    assert kl
    assert kl.maximum <= 1e-6


def test_the_report_says_which_weights_a_candidate_is_made_of(
    model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    folder = made.save_nf4(model, tmp_path / "nf4")
    plan = make_test_plan(**inputs, variants=("fp16", f"mine={folder}"), results=tmp_path)
    comparison: Comparison = run_in_process(plan)
    assert f"| mine | {folder}, bitsandbytes |" in markdown_of(comparison)
    loading = (
        TransformersEngine(plan.variants[1].assignment(threads=1))
        .evaluate(LoadingPayload())
        .to_pylist()
    )
    assert loading[0]["running_weights_bytes"] >= loading[0]["weights_bytes"]


def test_the_readme_has_every_variant_once() -> None:
    page = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    table = page[page.index("## What can be compared") : page.index("The first eight are made")]
    for name in VARIANTS:
        assert table.count(f"`{name}`") == 1


def test_a_candidate_without_a_tokenizer_is_refused_at_once(
    model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    other = shutil.copytree(model, tmp_path / "other")
    (other / "tokenizer.json").unlink()
    with pytest.raises(BadInputError, match=r"^--variants: .*other has no tokenizer; save one"):
        read_inputs(Settings(**inputs, variants=("fp16", f"mine={other}")))
