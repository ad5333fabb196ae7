"""Flags, files and sweeps, layered; what cannot be used is one clear line."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import parse_command, run_command
from orchestrator.errors import BadInputError
from orchestrator.figures.command import command_of
from orchestrator.inputs.prompts import load_prompts
from orchestrator.settings import Settings
from orchestrator.settings_layers import resolve_settings
from tests.commands import told
from tests.places import REPOSITORY


def test_saying_nothing_runs_the_embedded_demo() -> None:
    settings = resolve_settings({})
    assert (settings.model, settings.dataset, settings.max_prompts) == ("demo", "demo", 24)


def test_naming_an_input_asks_for_all_prompts() -> None:
    assert resolve_settings({"dataset": "some.parquet"}).max_prompts is None


def test_flags_win_over_the_file_and_the_file_over_the_sweep(tmp_path: Path) -> None:
    config = tmp_path / "sweep.yaml"
    config.write_text("protocol: rows\nmax-windows: 7\nvariants: fp16, nf4\n")
    settings = resolve_settings({"max_windows": 3}, sweep="qwen-0.5b", config=config)
    assert settings.model == "Qwen/Qwen2.5-0.5B-Instruct"
    assert settings.protocol == "rows"
    assert settings.variants == ("fp16", "nf4")
    assert settings.max_windows == 3


def test_the_reference_is_fp16_or_else_the_first() -> None:
    assert Settings(variants=("nf4", "fp16")).reference_variant == "fp16"
    assert Settings(variants=("bf16", "nf4")).reference_variant == "bf16"


@pytest.mark.parametrize(
    ("arguments", "setting", "remedy"),
    [
        (["--variants", "fp16,int3"], "--variants", "known are fp32, fp16"),
        (["--variants", "nf4", "--reference", "fp16"], "--reference", "add it"),
        (["--protocol", "sentences"], "--protocol", "'concat'"),
        (["--window-length", "1"], "--window-length", "greater than or equal to 2"),
        (["--shard-size", "many"], "--shard-size", "valid integer"),
        (["--run-id", "../elsewhere"], "--run-id", "pattern"),
        (["--sweep", "llama"], "--sweep", "known are demo"),
        (["--config", "absent.yaml"], "--config", "name a YAML file"),
        (["--window-size", "3"], "--window-size", "unrecognized"),
        (["--variants", "awq"], "--variants", "awq=ORG/NAME-AWQ"),
        (["--variants", "fp16,GGUF"], "--variants", "gguf=FILE.gguf"),
        (["--variants", "FP16"], "--variants", "did you mean 'fp16'?"),
        (["--variants", "fp16,nf5"], "--variants", "did you mean 'nf4'?"),
        (["runn"], "command", "no 'runn'; did you mean 'run'?"),
        (["measure"], "command", "there are run, plan"),
        (["plan", "--max-window", "3"], "--max-window", "did you mean '--max-windows'?"),
        (["--model", __file__], "--model", f"name its folder, {Path(__file__).parent}"),
        (["--model", "https://huggingface.co/a/b-7"], "--model", "name the model as a/b-7"),
        (["--model", "hf.co/a/b-7/tree/main?x=y"], "--model", "name the model as a/b-7"),
        (["report", "absent"], "RUN", "no run"),
        (["status", "absent"], "RUN", "no run"),
    ],
)
def test_bad_input_is_one_line_that_names_the_setting(
    arguments: list[str], setting: str, remedy: str, tmp_path: Path
) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        cwd=tmp_path,
    )
    assert process.returncode == 2
    assert setting in process.stderr
    assert remedy in process.stderr
    assert len(told(process.stderr)) == 1
    assert process.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_key_of_a_file_is_named(tmp_path: Path) -> None:
    config = tmp_path / "sweep.yaml"
    config.write_text("modell: demo\n")
    with pytest.raises(BadInputError, match=r"modell: unknown setting; did you mean 'model'\?"):
        resolve_settings({}, config=config)
    config.write_text("weather: fine\n")
    with pytest.raises(BadInputError, match=r"weather: unknown setting; known are .*model"):
        resolve_settings({}, config=config)


def test_a_misspelt_field_of_a_prompt_is_named(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"id": "a", "category": "b", "txt": "Say something"}\n')
    with pytest.raises(BadInputError, match=r"line 1: txt: unknown field; did you mean 'text'\?"):
        load_prompts(str(path))


@pytest.mark.parametrize("text", ["- a\n- list\n", "a: [unclosed\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    config = tmp_path / "sweep.yaml"
    config.write_text(text)
    with pytest.raises(BadInputError, match="--config"):
        resolve_settings({}, config=config)


def test_help_needs_no_model_library(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys; from orchestrator.cli import run_command\n"
        "try: run_command(['run', '--help'])\n"
        "except SystemExit: pass\n"
        "loaded = {'torch', 'transformers', 'ray', 'datasets', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert "--window-length" in process.stdout


def test_no_module_of_the_driver_imports_torch() -> None:
    code = (
        "import importlib, pkgutil, sys, orchestrator\n"
        "for module in pkgutil.walk_packages(orchestrator.__path__, 'orchestrator.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "loaded = {'torch', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_a_missing_model_names_the_setting(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status = run_command(["plan", "--model", str(tmp_path / "absent")])
    assert status == 2
    assert "--model: no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"model": "some/model", "variants": ("fp16", "mine=./a folder"), "max_windows": 3},
        {"model": "some/model", "variants": ("fp16", "mine=./a,b", "c=d")},
        {"dataset": "texts.txt", "decoding": ("eager",), "batch_sizes": (1, 8), "repeats": 2},
        {"max_prompts": 0, "reference_bytes": 2**30, "compute_dtype": "bfloat16"},
    ],
)
def test_the_command_of_a_run_gives_the_same_settings(given: dict[str, Any]) -> None:
    settings = resolve_settings(given)
    elsewhere = settings.model_copy(update={"results": Path("/x"), "run_id": "y", "gate": ("z",)})
    words = shlex.split(command_of(elsewhere.model_dump(mode="json")))
    assert words[:4] == ["python", "-m", "orchestrator", "run"]
    assert parse_command(words[3:]).resolved() == settings


def test_gates_are_part_of_the_command_where_they_end_the_run() -> None:
    gates = ("kl.mean <= 0.05 for nf4", "success >= 99%")
    given = {"until_decided": True, "gate": gates, "gate_set": "close", "max_windows": 40}
    settings = resolve_settings(given)
    words = shlex.split(command_of(settings.model_dump(mode="json")))
    assert parse_command(words[3:]).resolved() == settings
    assert "True" not in words


def test_a_yaml_file_says_until_decided(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("model: demo\nuntil-decided: true\ngate: kl.mean <= 0.05\n")
    settings = resolve_settings({}, config=file)
    assert settings.until_decided
    assert [gate.text for gate in settings.gates_over_windows()] == ["kl.mean <= 0.05"]


def test_a_comma_in_a_name_stands_in_quotes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    quoted = 'fp16,"mine=./a,b"'
    assert parse_command(["run", "--variants", quoted]).resolved().variants == (
        "fp16",
        "mine=./a,b",
    )
    file = tmp_path / "sweep.yaml"
    file.write_text(f"model: x/y\nvariants: '{quoted}'\n")
    assert resolve_settings({}, config=file).variants == ("fp16", "mine=./a,b")
    assert run_command(["plan", "--variants", "fp16,mine=./a,b"]) == 2
    told = 'in double quotes where it has a comma (fp16,"mine=./a,b")'
    assert told in capsys.readouterr().err
