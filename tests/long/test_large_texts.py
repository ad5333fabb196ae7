"""A large text of which little is measured takes little memory."""

from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.commands import start_cli
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model


def held_bytes(pid: int) -> int:
    """What a process and those that it started hold at the moment."""
    held = 0
    try:
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            held += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return held


@pytest.mark.parametrize("ending", [".txt", ".parquet"])
def test_30_mb_of_which_two_windows_are_scored_take_less_than_1_5_gb(
    tmp_path: Path, ending: str
) -> None:
    rows = SAMPLE_ROWS * (30_000_000 // sum(len(row.encode()) for row in SAMPLE_ROWS) + 1)
    text = tmp_path / f"text{ending}"
    if ending == ".txt":
        text.write_text("".join(rows), encoding="utf-8")
    else:
        parquet.write_table(pa.table({"text": rows}), text)
    model = make_tiny_model(tmp_path / "model")
    flags = ["--model", str(model), "--dataset", str(text)]
    most = 0
    with start_cli(["plan", *flags, "--max-windows", "2", "--max-prompts", "0"]) as process:
        while process.poll() is None:
            most = max(most, held_bytes(process.pid))
        out, error = process.communicate()
    assert process.returncode == 0, error
    assert "windows: 2 of the text's " in out
    assert most < 1.5e9
