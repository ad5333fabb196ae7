"""`manifest MODEL`, and models held against one or against another: what differs is named."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from safetensors.torch import load_file, save_file

from orchestrator.cli import run_command
from orchestrator.errors import ExitStatus
from tests.gguf_models import write_gguf
from tests.tiny_models import edit_json, make_tiny_model

WEIGHT = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "model")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def called(*arguments: object) -> tuple[int, str]:
        status = run_command(list(map(str, arguments)))
        out, error = capsys.readouterr()
        return status, out + error

    return called


def change_weights(model: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(model / "model.safetensors")
    change(tensors)
    save_file(tensors, model / "model.safetensors")


def one_element(tensors: dict[str, torch.Tensor]) -> None:
    tensors[WEIGHT][3, 5] += 0.01


def make_keys(folder: Path) -> tuple[Path, Path]:
    private = ed25519.Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    (folder / "key.pem").write_bytes(
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "public.pem").write_bytes(
        private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return folder / "key.pem", folder / "public.pem"


def test_what_is_as_published_holds(
    model: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    manifest = tmp_path / "manifest.json"
    assert run("manifest", model, "--to", manifest) == (0, f"Manifest: {manifest}\n")
    status, out = run("audit", model, "--manifest", manifest)
    assert status == ExitStatus.DONE
    assert "21 tensors, and every file" in out


def test_one_element_of_one_tensor_is_found_and_named(
    model: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    manifest, said = tmp_path / "manifest.json", tmp_path / "audit.json"
    run("manifest", model, "--to", manifest)
    change_weights(model, one_element)
    status, out = run("audit", model, "--manifest", manifest, "--json", said)
    assert status == ExitStatus.GATE_FAILED
    assert out.endswith(f"  tensor {WEIGHT} is changed\n")
    held = json.loads(said.read_text())["held_against"]
    assert held["differences"] == [
        {"of": "tensor", "name": WEIGHT, "change": "changed", "detail": None}
    ]


def test_all_that_differs_is_named_each_once(
    model: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    manifest = model / "manifest.json"
    run("manifest", model, "--to", manifest)

    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[WEIGHT] = tensors[WEIGHT].bfloat16()
        tensors["added.weight"] = torch.zeros(2, 2)
        del tensors["model.norm.weight"]

    change_weights(model, change)
    edit_json(model / "generation_config.json", do_sample=True)
    (model / "tokenizer_config.json").unlink()
    (model / "chat_template.jinja").write_text("{{ messages }}")
    status, out = run("audit", model, "--manifest", manifest)
    assert status == ExitStatus.GATE_FAILED
    assert out.splitlines()[-6:] == [
        "  tensor added.weight is added",
        f"  tensor {WEIGHT} is changed: BF16 [128, 64], was F16 [128, 64]",
        "  tensor model.norm.weight is missing",
        "  file chat_template.jinja is added",
        "  file generation_config.json is changed",
        "  file tokenizer_config.json is missing",
    ]


def test_the_same_tensors_in_other_files_are_the_same(
    model: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    run("manifest", model, "--to", tmp_path / "manifest.json")
    change_weights(model, lambda tensors: None)
    assert run("audit", model, "--manifest", tmp_path / "manifest.json")[0] == ExitStatus.DONE


def test_a_model_is_held_against_its_original(
    model: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    other = make_tiny_model(tmp_path / "other")
    status, out = run("audit", model, "--reference", other)
    assert (status, out.splitlines()[-1]) == (
        ExitStatus.DONE,
        f"As {other} says: 21 tensors, and every file.",
    )
    change_weights(model, one_element)
    status, out = run("audit", model, "--reference", other)
    assert (status, out.splitlines()[-1]) == (
        ExitStatus.GATE_FAILED,
        f"  tensor {WEIGHT} is changed: 1 of 8192 weights, relative change 0.00056, by no "
        "quantization known here",
    )


def test_a_gguf_files_tensors_and_metadata_are_told_apart(
    model: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    path = write_gguf(model, tmp_path / "m.gguf", kind="Q8_0")
    manifest = tmp_path / "manifest.json"
    run("manifest", path, "--to", manifest)
    assert run("audit", path, "--manifest", manifest)[0] == ExitStatus.DONE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    _, out = run("audit", path, "--manifest", manifest)
    (line,) = (line for line in out.splitlines() if line.endswith("is changed"))
    assert line.startswith("  tensor ")
    content[-1] ^= 1
    place = content.index(b"general.architecture")
    content[place] = ord("G")
    path.write_bytes(content)
    assert "file metadata is changed" in run("audit", path, "--manifest", manifest)[1]


def test_a_signature_says_whose_the_manifest_is(
    model: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    manifest = tmp_path / "manifest.json"
    key, public = make_keys(tmp_path)
    (tmp_path / "else").mkdir()
    _, stranger = make_keys(tmp_path / "else")
    run("manifest", model, "--to", manifest, "--key", key)
    status, out = run("audit", model, "--manifest", manifest, "--public-key", public)
    assert (status, "signed by this key" in out) == (ExitStatus.DONE, True)
    status, out = run("audit", model, "--manifest", manifest, "--public-key", stranger)
    assert (status, "is not of this key" in out) == (ExitStatus.GATE_FAILED, True)
    # As openssl has it.
    openssl = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public]
    files = ["-in", manifest, "-sigfile", f"{manifest}.sig"]
    assert subprocess.run([*openssl, *files], capture_output=True).returncode == 0
    # Another manifest under the old signature.
    manifest.write_bytes(manifest.read_bytes() + b" ")
    assert run("audit", model, "--manifest", manifest, "--public-key", public)[0] == (
        ExitStatus.GATE_FAILED
    )
    # One that is not signed takes an older signature away.
    run("manifest", model, "--to", manifest)
    assert not (tmp_path / "manifest.json.sig").exists()


def test_bad_input_gets_one_line(
    model: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    key, public = make_keys(tmp_path)
    manifest = tmp_path / "manifest.json"
    run("manifest", model, "--to", manifest)
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "other.pem").write_bytes(other)
    (tmp_path / "empty.json").write_text("{}")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for arguments, said in (
        (("manifest", "/nowhere"), "no folder /nowhere"),
        (("manifest", model, "--to", tmp_path), "is a folder"),
        (("manifest", model, "--to", manifest, "--key", tmp_path / "none.pem"), "cannot be read"),
        (("manifest", model, "--to", manifest, "--key", public), "no Ed25519 private key"),
        (("manifest", model, "--to", manifest, "--key", tmp_path / "other.pem"), "no Ed25519"),
        (("audit", model, "--manifest", tmp_path / "none.json"), "is no manifest"),
        (("audit", model, "--manifest", tmp_path / "empty.json"), "is no manifest"),
        (("audit", model, "--manifest", tmp_path / "deep.json"), "is no manifest"),
        (("audit", model, "--manifest", model), "is no manifest"),
        (("audit", model, "--manifest", "/dev/zero"), "is no manifest"),
        (("audit", model, "--public-key", public), "is of a manifest"),
        (("audit", model, "--manifest", manifest, "--reference", "demo"), "two originals"),
        (("audit", model, "--manifest", manifest, "--public-key", key), "no Ed25519 public key"),
        (("audit", model, "--manifest", manifest, "--public-key", public), "json.sig cannot be"),
        (("audit", model, "--reference", "/nowhere"), "--reference: no folder"),
    ):
        status, out = run(*arguments)
        assert status == ExitStatus.BAD_INPUT, arguments
        assert said in out, (arguments, out)
        assert len(out.splitlines()) == 1, (arguments, out)
