"""Messages as JSON, for who collects them."""

import json
from pathlib import Path
from typing import Any

from tests.commands import run_cli, tiny_sweep_flags


def read(messages: str) -> list[dict[str, Any]]:
    """Every line: none is anything else."""
    return [json.loads(line) for line in messages.splitlines()]


def test_every_message_and_event_of_a_sweep_is_an_object_a_line(tmp_path: Path) -> None:
    flags = [*tiny_sweep_flags(tmp_path / "inputs"), "--cluster", "none", "--run-id", "told"]
    ran = run_cli([*flags, "--results", str(tmp_path / "results"), "--log-format", "json"])
    assert ran.returncode == 0, ran.stderr
    lines = read(ran.stderr)
    for line in lines:
        assert {"time", "level", "run", "message"} <= line.keys()
        assert line["run"] == "told"
        assert line["level"] == "info"
    # As the run keeps them, each once, in order.
    kept = (tmp_path / "results" / "told" / "events.jsonl").read_text().splitlines()
    told = [line for line in lines if "event" in line]
    assert [line["event"] for line in told] == [json.loads(line)["event"] for line in kept]
    shards = [line for line in told if line["event"] == "shard_computed"]
    assert {line["variant"] for line in shards} == {"fp16", "nf4"}
    assert all(line["shard"] in line["message"] for line in shards)
    # Results are what they were.
    assert "perplexity" in ran.stdout


def test_an_error_is_one_too(tmp_path: Path) -> None:
    ran = run_cli(["--model", str(tmp_path / "nowhere"), "--log-format", "json"])
    assert ran.returncode == 2
    last = read(ran.stderr)[-1]
    assert last["level"] == "error"
    assert last["message"].startswith("error: --model")


def test_a_secret_is_told_in_no_format(tmp_path: Path) -> None:
    secret = "hf_" + "Planted" * 5
    model = f"https://user:{secret}@{tmp_path.name}/a?token={secret}"
    for chosen in ("text", "json"):
        ran = run_cli(["--model", model, "--log-format", chosen])
        assert ran.returncode == 2
        assert secret not in ran.stderr + ran.stdout, chosen
        # What stands behind it is told.
        assert "a?token=***; name one" in ran.stderr
