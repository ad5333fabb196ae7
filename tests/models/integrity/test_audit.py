"""`audit MODEL` from end to end: what it says, what it returns, and what hostile files get."""

import json
import os
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.once_quantized import WAYS
from orchestrator.cli import run_command
from orchestrator.errors import ExitStatus
from orchestrator.integrity.audit import audit_files
from orchestrator.integrity.files import find_files
from orchestrator.integrity.outcome import Audit
from orchestrator.integrity.verdicts import exit_status
from tests.gguf_models import write_gguf
from tests.once_quantized_models import Tensors, changed, expanded
from tests.quantized_checkpoints import save_compressed_tensors, save_nf4
from tests.tiny_models import edit_json, make_tiny_model


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("genuine") / "model", hidden=128)


def audited(model: Path | str) -> Audit:
    return audit_files(find_files(str(model), None, "MODEL"))


def test_a_genuine_model_shows_no_trace(genuine: Path) -> None:
    for model in (genuine, "demo"):
        audit = audited(model)
        assert audit.verdict == "no trace of quantization"
        assert (audit.family, audit.block, audit.bits) == (None, None, None)
        assert audit.findings == ()
        assert exit_status(audit) == ExitStatus.DONE


@pytest.mark.parametrize("way", ["NF4 by 64", "LLM.int8", "Q4_1", "MXFP4", "FP8 E4M3 by row"])
def test_an_expanded_model_is_named(way: str, genuine: Path, tmp_path: Path) -> None:
    audit = audited(changed(genuine, tmp_path / "m", expanded(way)))
    assert audit.verdict == "on a grid"
    assert (audit.family, audit.block) == (WAYS[way].family, WAYS[way].block)
    assert exit_status(audit) == ExitStatus.GATE_FAILED
    of_linear = {t.verdict for t in audit.tensors if t.role == "linear"}
    assert of_linear == {"on a grid"}
    assert {t.verdict for t in audit.tensors if t.role != "linear"} == {"plain"}


def test_one_layer_among_genuine_ones_is_found_and_named(genuine: Path, tmp_path: Path) -> None:
    one = "model.layers.1.mlp.down_proj.weight"
    audit = audited(changed(genuine, tmp_path / "m", expanded("Q4_0", only=one)))
    assert audit.verdict == "mixed"
    assert f"on it: {one}" in audit.said
    assert exit_status(audit) == ExitStatus.GATE_FAILED


def test_one_genuine_layer_among_expanded_ones_is_named(genuine: Path, tmp_path: Path) -> None:
    one = "model.layers.0.self_attn.q_proj.weight"

    def all_but_one(tensors: Tensors) -> None:
        before = tensors[one].clone()
        expanded("NF4 by 64")(tensors)
        tensors[one] = before

    audit = audited(changed(genuine, tmp_path / "m", all_but_one))
    assert audit.verdict == "mixed"
    assert f"not: {one}" in audit.said


def test_an_embedding_on_another_grid_is_a_note(genuine: Path, tmp_path: Path) -> None:
    def change(tensors: Tensors) -> None:
        expanded("Q4_1")(tensors)
        name = "model.embed_tokens.weight"
        tensors[name] = torch.from_numpy(WAYS["Q8_0"].make(tensors[name].float().numpy())).half()

    audit = audited(changed(genuine, tmp_path / "m", change))
    assert (audit.verdict, audit.names[0]) == ("on a grid", "Q4_1")
    assert any("embed_tokens.weight (embedding)" in finding for finding in audit.findings)


def test_two_grids_are_on_a_grid_and_both_are_named(genuine: Path, tmp_path: Path) -> None:
    def change(tensors: Tensors) -> None:
        expanded("Q4_0", only="self_attn")(tensors)
        expanded("Q8_0", only="mlp")(tensors)

    audit = audited(changed(genuine, tmp_path / "m", change))
    assert audit.verdict == "on a grid"
    assert "Q4_0" in audit.said
    assert "Q8_0" in audit.said


def test_a_family_that_is_published_quantized_is_no_fault(genuine: Path, tmp_path: Path) -> None:
    model = changed(genuine, tmp_path / "m", expanded("MXFP4"))
    edit_json(model / "config.json", model_type="gpt_oss")
    audit = audited(model)
    assert audit.verdict == "natively quantized"
    assert exit_status(audit) == ExitStatus.DONE
    edit_json(model / "config.json", model_type="mistral")
    assert audited(model).verdict == "on a grid"


def test_what_the_configuration_declares_is_no_fault(genuine: Path, tmp_path: Path) -> None:
    for make in (save_nf4, save_compressed_tensors):
        model = make(genuine, tmp_path / make.__name__)
        audit = audited(model)
        assert audit.verdict == "quantized as declared", make
        assert exit_status(audit) == ExitStatus.DONE
        config = json.loads((model / "config.json").read_text())
        for key in ("quantization_config", "compression_config"):
            config.pop(key, None)
        (model / "config.json").write_text(json.dumps(config))
        hidden = audited(model)
        assert "does not say" in hidden.said
        assert exit_status(hidden) == ExitStatus.GATE_FAILED


def test_expanded_weights_that_are_declared_are_no_fault(genuine: Path, tmp_path: Path) -> None:
    model = changed(genuine, tmp_path / "m", expanded("INT4 with zero-points by 128"))
    edit_json(model / "config.json", quantization_config={"quant_method": "gptq"})
    audit = audited(model)
    assert (audit.verdict, audit.declared) == ("on a grid", "gptq")
    assert exit_status(audit) == ExitStatus.DONE


def test_weights_that_are_declared_quantized_and_are_not(genuine: Path, tmp_path: Path) -> None:
    model = changed(genuine, tmp_path / "m", lambda _: None)
    edit_json(model / "config.json", quantization_config={"quant_method": "gptq"})
    audit = audited(model)
    assert any("declares gptq" in finding for finding in audit.findings)


def test_a_gguf_file_says_itself_what_is_quantized(genuine: Path, tmp_path: Path) -> None:
    quantized = write_gguf(genuine, tmp_path / "q.gguf", kind="Q8_0")
    assert audited(quantized).verdict == "quantized as declared"
    assert exit_status(audited(quantized)) == ExitStatus.DONE
    plain = write_gguf(genuine, tmp_path / "p.gguf", kind="F16")
    assert audited(plain).verdict == "no trace of quantization"
    once = changed(genuine, tmp_path / "m", expanded("Q4_0"))
    hidden = audited(write_gguf(once, tmp_path / "h.gguf", kind="F16"))
    assert (hidden.verdict, hidden.names[0]) == ("on a grid", "Q4_0")
    assert exit_status(hidden) == ExitStatus.GATE_FAILED


def test_layers_that_are_broken_or_twice_there_are_named(genuine: Path, tmp_path: Path) -> None:
    first, second = (f"model.layers.{i}.mlp.up_proj.weight" for i in (0, 1))
    broken, constant = (f"model.layers.0.mlp.{n}_proj.weight" for n in ("gate", "down"))

    def change(tensors: Tensors) -> None:
        tensors[second] = tensors[first].clone()
        tensors[broken][3, 5] = float("nan")
        tensors[constant][:] = 0.25

    audit = audited(changed(genuine, tmp_path / "m", change))
    assert audit.verdict == "no trace of quantization"
    assert f"{second} is the same as {first}, to the last bit" in audit.findings
    assert f"{broken} has weights that are NaN or infinite" in audit.findings
    assert f"{constant} every weight read is 0.25" in audit.findings


class Bomb:
    """What runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, (f"touch {self.path}",)

    def __init__(self, path: Path) -> None:
        self.path = path


def test_files_that_are_code_are_named_and_never_loaded(genuine: Path, tmp_path: Path) -> None:
    model = changed(genuine, tmp_path / "m", lambda _: None)
    proof = tmp_path / "it-ran"
    for name in ("pytorch_model.bin", "harmless.txt"):
        (model / name).write_bytes(pickle.dumps(Bomb(proof)))
    torch.save({"a": torch.zeros(2)}, model / "extra.weights")
    (model / "modeling_own.py").write_text("raise SystemExit")
    edit_json(model / "config.json", auto_map={"AutoModel": "modeling_own.Own"})
    audit = audited(model)
    found = "\n".join(audit.code)
    for name in ("pytorch_model.bin is", "harmless.txt is", "extra.weights is", "_own.py is code"):
        assert name in found
    assert "auto_map: AutoModel" in found
    assert audit.verdict == "no trace of quantization"
    assert not proof.exists()


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = run_command(["audit", *arguments])
    out, error = capsys.readouterr()
    return status, out, error


def test_the_command_says_it_and_writes_it(
    genuine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = changed(genuine, tmp_path / "m", expanded("NF4 by 64"))
    path = tmp_path / "audit.json"
    status, out, error = run([str(model), "--json", str(path)], capsys)
    assert (status, error) == (ExitStatus.GATE_FAILED, "")
    assert out.startswith("On a grid: NF4 (bitsandbytes NF4), groups of 64; 14 of 14 linear")
    written = json.loads(path.read_text())
    assert (written["verdict"], written["family"]) == ("on a grid", "NF4")
    assert (written["block"], written["bits"]) == (64, 4)
    assert written["log10_p"] < -100
    assert written["p_value"] == pytest.approx(0, abs=1e-100)
    assert len(written["tensors"]) == 16
    assert Audit.model_validate(written) == audited(model)
    # All of it says the same.
    all_status, all_out, _ = run([str(model), "--all"], capsys)
    assert (all_status, all_out.splitlines()[0]) == (status, out.splitlines()[0])
    assert "all their weights show" in all_out


def header(tensors: Mapping[str, Any], *, length: int | None = None) -> bytes:
    said = json.dumps(tensors).encode()
    return struct.pack("<Q", len(said) if length is None else length) + said


def entry(shape: list[int], begin: int, end: int, dtype: str = "F16") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "a header of a gigabyte": struct.pack("<Q", 2**30) + b"{" * 1000,
    "a header beyond any": struct.pack("<Q", 2**64 - 1),
    "a header that is no JSON": header({})[:-1] + b"x",
    "a shape that lies": header({"a.weight": entry([64, 64], 0, 100)}) + bytes(100),
    "a place outside": header({"a.weight": entry([64, 64], 0, 8192)}) + bytes(100),
    "an overlap": header(
        {"a.weight": entry([64, 64], 0, 8192), "b.weight": entry([64, 64], 4096, 12288)}
    )
    + bytes(12288),
    "a negative shape": header({"a.weight": entry([-64, 64], 0, 8192)}) + bytes(8192),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_get_one_line(
    name: str, genuine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = changed(genuine, tmp_path / "m", lambda _: None)
    (model / "model.safetensors").write_bytes(HOSTILE[name])
    status, out, error = run([str(model)], capsys)
    assert (status, out) == (ExitStatus.BAD_INPUT, "")
    assert len(error.splitlines()) == 1
    assert "model.safetensors" in error


def test_links_out_of_the_folder_are_refused(
    genuine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = changed(genuine, tmp_path / "m", lambda _: None)
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to(genuine / "model.safetensors")
    status, _, error = run([str(model)], capsys)
    assert status == ExitStatus.BAD_INPUT
    assert "is a link out of the folder" in error


def test_links_of_the_hubs_cache_are_followed(genuine: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "c0ffee"
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for i, path in enumerate(genuine.iterdir()):
        (blobs / str(i)).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("..") / ".." / "blobs" / str(i))
    assert audited(snapshot).verdict == "no trace of quantization"


def test_a_tensor_of_a_million_millions_is_sampled(genuine: Path, tmp_path: Path) -> None:
    """2 TB of zeros that take no place on the disk."""
    model = changed(genuine, tmp_path / "m", lambda _: None)
    size = 2 * 10**12
    with (model / "model.safetensors").open("wb") as file:
        head = header({"layers.0.weight": entry([10**6, 10**6], 0, size, "BF16")})
        file.write(head)
        file.truncate(len(head) + size)
    audit = audited(model)
    assert audit.verdict == "cannot tell"
    assert exit_status(audit) == ExitStatus.FAILED
    assert audit.tensors[0].reason == "every weight read is 0"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/nowhere/at/all"], "no folder /nowhere/at/all"),
        (["nothing.gguf"], "nothing.gguf"),
        (["demo", "--json", "/"], "is a folder"),
        (["demo", "--json", "/nowhere/audit.json"], "cannot be written"),
        (["demo", "--al"], "unrecognized arguments: --al"),
        ([], "MODEL"),
    ],
)
def test_bad_input_gets_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, error = run(arguments, capsys)
    assert status in (ExitStatus.BAD_INPUT, ExitStatus.FAILED)
    assert said in error
    assert len(error.splitlines()) == 1
