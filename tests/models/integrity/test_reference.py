"""`audit MODEL --reference ORIGINAL`: by which way to quantize a model was made of its original."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from actors import requantization
from benchmarks.once_quantized import WAYS, turned
from orchestrator.cli import run_command
from orchestrator.errors import ExitStatus
from tests.once_quantized_models import Tensors, changed, expanded, is_linear
from tests.tiny_models import edit_json, make_tiny_model

Said = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("original") / "model", hidden=128)


@pytest.fixture
def compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, dict[str, Any]]]:
    """Holds a model against another: what is printed, and what `--json` has."""

    def run(suspect: Path, original: Path, *more: str) -> tuple[str, dict[str, Any]]:
        path = tmp_path / "said.json"
        flags = ["--reference", str(original), "--json", str(path), *more]
        status = run_command(["audit", str(suspect), *flags])
        held = json.loads(path.read_text())["held_against"]
        assert (status == ExitStatus.GATE_FAILED) == bool(held["differences"])
        return capsys.readouterr().out, held

    return run


def ways(held: dict[str, Any]) -> dict[str, tuple[str | None, bool]]:
    """By tensor, by which way it was made, and whether each weight is so."""
    return {
        each["name"]: (each["way"], each["equal_weights"] == each["weights"])
        for each in held["requantized"]
    }


@pytest.mark.parametrize(
    ("way", "quantization"),
    [
        ("NF4 by 64", {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
        ("FP4 by 64", {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}),
        (
            "NF4 by 64, nested",
            {
                "load_in_4bit": True,
                "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_use_double_quant": True,
            },
        ),
        ("LLM.int8", {"load_in_8bit": True}),
    ],
)
def test_what_transformers_quantized_and_expanded_is_named(
    way: str,
    quantization: dict[str, Any],
    original: Path,
    tmp_path: Path,
    compared: Callable[..., tuple[str, dict[str, Any]]],
) -> None:
    suspect = copytree(original, tmp_path / "suspect")
    model: Any = AutoModelForCausalLM.from_pretrained(
        original, quantization_config=BitsAndBytesConfig(**quantization), dtype=torch.float16
    )
    model = model.dequantize()
    model.config.__dict__.pop("quantization_config", None)
    model.save_pretrained(suspect)
    out, held = compared(suspect, original)
    names = {name for name in load_file(original / "model.safetensors") if is_linear(name)}
    assert ways(held) == dict.fromkeys(names, (way, True))
    assert f"14 tensors are the reference's, quantized as {way}, weight for weight" in out


@pytest.mark.parametrize(
    "way",
    [
        *("Q4_0", "Q8_0", "MXFP4", "NVFP4", "INT4 by 128", "torchao int8", "FP8 E4M3 by tensor"),
    ],
)
def test_other_ways_are_named(
    way: str,
    original: Path,
    tmp_path: Path,
    compared: Callable[..., tuple[str, dict[str, Any]]],
) -> None:
    _, held = compared(changed(original, tmp_path / "m", expanded(way)), original)
    assert set(ways(held).values()) == {(way, True)}


def test_weights_that_lie_the_other_way_are_seen_through(
    original: Path, tmp_path: Path, compared: Callable[..., tuple[str, dict[str, Any]]]
) -> None:
    def change(tensors: Tensors) -> None:
        for name in filter(is_linear, list(tensors)):
            made = turned(WAYS["INT4 by 32"]).make(tensors[name].float().numpy())
            tensors[name] = torch.from_numpy(made).half()

    _, held = compared(changed(original, tmp_path / "m", change), original)
    assert set(ways(held).values()) == {("INT4 by 32", True)}


def test_a_dtype_that_weights_went_through_is_named(
    original: Path, tmp_path: Path, compared: Callable[..., tuple[str, dict[str, Any]]]
) -> None:
    def widen(tensors: Tensors) -> None:
        for name in tensors:
            # More digits than float16 has.
            tensors[name] = tensors[name].float() * 1.0001

    wide = changed(original, tmp_path / "wide", widen)

    def change(tensors: Tensors) -> None:
        for name in filter(is_linear, list(tensors)):
            made = WAYS["NF4 by 64"].make(tensors[name].half().float().numpy())
            tensors[name] = torch.from_numpy(made).half().float()

    out, held = compared(changed(wide, tmp_path / "m", change), wide)
    assert set(ways(held).values()) == {("NF4 by 64", True)}
    assert "quantized as NF4 by 64, cast to float16, expanded to float16: all" in out


def test_noise_hides_a_grid_and_not_the_way_to_it(
    original: Path, tmp_path: Path, compared: Callable[..., tuple[str, dict[str, Any]]]
) -> None:
    def change(tensors: Tensors) -> None:
        expanded("NF4 by 64")(tensors)
        torch.manual_seed(0)
        for name in filter(is_linear, list(tensors)):
            noise = torch.randn(tensors[name].shape) * tensors[name].float().std() * 0.02
            tensors[name] = (tensors[name] + noise).half()

    out, held = compared(changed(original, tmp_path / "m", change), original)
    assert out.startswith("No trace of quantization in 14 linear weights.")
    assert set(ways(held).values()) == {("NF4 by 64", False)}
    for each in held["requantized"]:
        assert each["relative_error"] < 0.03 < 0.08 < each["relative_change"]


def test_what_was_trained_on_is_of_no_way(
    original: Path, tmp_path: Path, compared: Callable[..., tuple[str, dict[str, Any]]]
) -> None:
    def change(tensors: Tensors) -> None:
        torch.manual_seed(0)
        for name in filter(is_linear, list(tensors)):
            tensors[name] += 1e-3 * torch.randn(tensors[name].shape).half()

    out, held = compared(changed(original, tmp_path / "m", change), original)
    assert set(ways(held).values()) == {(None, False)}
    assert "by no quantization known here" in out


def test_what_is_no_number_is_named_and_nothing_else_said(
    original: Path, tmp_path: Path, compared: Callable[..., tuple[str, dict[str, Any]]]
) -> None:
    name = "model.layers.0.mlp.up_proj.weight"

    def change(tensors: Tensors) -> None:
        tensors[name][0, 0] = torch.nan

    out, held = compared(changed(original, tmp_path / "m", change), original)
    assert held["requantized"] == []
    assert f"  tensor {name} is changed\n" in out


def save_matrix(folder: Path, weights: torch.Tensor) -> Path:
    folder.mkdir()
    save_file({"layer.weight": weights.contiguous()}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    "way", ["FP8 E4M3 by tensor", "FP8 E4M3 by tile", "NF4 by 64, nested", "INT8 by row"]
)
def test_a_part_of_a_large_tensor_is_compared_or_all_of_it(
    way: str, tmp_path: Path, compared: Callable[..., tuple[str, dict[str, Any]]]
) -> None:
    torch.manual_seed(0)
    weights = (0.02 * torch.randn(1100, 1024)).half()
    # Of the whole tensor, and in no part that is looked at first.
    weights[-1, -1] = 0.5
    made = torch.from_numpy(WAYS[way].make(weights.float().numpy())).half()
    original, suspect = save_matrix(tmp_path / "o", weights), save_matrix(tmp_path / "s", made)
    for more, count in (((), 2**20), (("--all",), 1100 * 1024)):
        _, held = compared(suspect, original, *more)
        (found,) = held["requantized"]
        assert (found["way"], found["weights"]) == (way, count)
        # A mean of as many numbers may have another last digit.
        assert found["equal_weights"] >= count * 0.999


def test_a_change_beyond_what_is_compared_is_no_quantization(
    tmp_path: Path, compared: Callable[..., tuple[str, dict[str, Any]]]
) -> None:
    torch.manual_seed(0)
    weights = (0.02 * torch.randn(1100, 1024)).half()
    # An original that quantizing again does not change.
    weights = torch.from_numpy(WAYS["Q8_0"].make(weights.float().numpy())).half()
    changed_one = weights.clone()
    changed_one[-1, -1] += 0.5
    original = save_matrix(tmp_path / "o", weights)
    suspect = save_matrix(tmp_path / "s", changed_one)
    out, held = compared(suspect, original)
    assert ways(held) == {"layer.weight": (None, False)}
    assert "beyond the 1048576 weights compared; --all compares them all" in out
    out, held = compared(suspect, original, "--all")
    assert held["requantized"][0]["changed_weights"] == 1


def test_modules_that_are_not_here_are_named(
    original: Path,
    tmp_path: Path,
    compared: Callable[..., tuple[str, dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requantization, "find_spec", lambda _: None)
    suspect = changed(original, tmp_path / "m", expanded("INT4 by 128"))
    out, held = compared(suspect, original)
    assert set(ways(held).values()) == {("INT4 by 128", True)}
    assert "Note: ways to quantize by bitsandbytes, gguf, torchao were not tried" in out


def test_configuration_and_template_are_compared_by_what_they_say(
    original: Path, tmp_path: Path, compared: Callable[..., tuple[str, dict[str, Any]]]
) -> None:
    templated = copytree(original, tmp_path / "templated")
    edit_json(templated / "tokenizer_config.json", chat_template="{{ messages }}")
    suspect = copytree(original, tmp_path / "suspect")
    (suspect / "chat_template.jinja").write_text("{{ messages }}")
    content = json.loads((suspect / "config.json").read_text())
    content["torch_dtype"] = content.pop("dtype")
    content["transformers_version"] = "1.0"
    (suspect / "config.json").write_text(json.dumps(dict(reversed(content.items()))))
    out, held = compared(suspect, templated)
    assert held["differences"] == []
    assert out.endswith("21 tensors, and every file.\n")

    (suspect / "chat_template.jinja").write_text("{{ other }}")
    (suspect / "generation_config.json").write_text("{}")
    (suspect / "generation_config.json").unlink()
    edit_json(suspect / "config.json", rope_theta=5, num_attention_heads=8)
    out, held = compared(suspect, templated)
    assert [(each["name"], each["change"]) for each in held["differences"]] == [
        ("chat_template.jinja", "changed"),
        ("config.json", "changed"),
        ("generation_config.json", "missing"),
    ]
    assert "num_attention_heads is 8, was 4" in out


def test_gguf_metadata_is_compared_key_by_key(
    original: Path, tmp_path: Path, compared: Callable[..., tuple[str, dict[str, Any]]]
) -> None:
    pytest.importorskip("gguf")
    from tests.gguf_models import write_gguf

    one = write_gguf(original, tmp_path / "one.gguf", kind="Q8_0")
    content = bytearray(one.read_bytes())
    place = content.index(b"general.architecture")
    content[place] = ord("G")
    other = tmp_path / "other.gguf"
    other.write_bytes(content)
    out, _ = compared(other, one)
    assert "file metadata is changed: General.architecture is new; no general.architecture" in out
