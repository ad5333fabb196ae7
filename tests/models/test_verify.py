"""Whoever doubts a run computes a part of it again."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli import run_command
from orchestrator.contract.environment import environment_of, with_environment
from orchestrator.contract.shards import ShardRecord
from orchestrator.runs.verified import difference_of, sample_of
from orchestrator.storage.results_folder import run_at
from orchestrator.storage.run_folder import RunFolder
from tests.pipeline import FinishedRun
from tests.tiny_models import make_tiny_model

Row = dict[str, object]


@pytest.fixture
def run(finished_run: FinishedRun, tmp_path: Path) -> RunFolder:
    folder = tmp_path / "r"
    shutil.copytree(finished_run.folder, folder)
    return run_at(folder)


def record_of(run: RunFolder, variant: str, stage: str) -> ShardRecord:
    return next(
        one
        for one in run.read_manifest().shards
        if (one.variant, one.stage, one.index) == (variant, stage, 0)
    )


def change(
    run: RunFolder, record: ShardRecord, edit: Callable[[list[Row]], object], **elsewhere: str
) -> None:
    """Writes a shard's file again with other numbers, as one who knows how digests are made.

    Args:
        elsewhere: what its environment says instead.
    """
    table = run.read_shard(record)
    rows = table.to_pylist()
    edit(rows)
    made = pa.Table.from_pylist(rows, schema=table.schema.remove_metadata())
    environment = environment_of(table.schema).model_copy(update=elsewhere)
    run.write_shard(record, with_environment(made, environment))


def on_another_device(run: RunFolder, record: ShardRecord) -> None:
    """Has a shard be from a GPU that no machine has."""

    def edit(rows: list[Row]) -> None:
        for row in rows:
            row["device_allocated_bytes"] = 1

    change(run, record, edit, device="made-up GPU")


def verify(run: RunFolder, *flags: str) -> int:
    return run_command(["verify", str(run), *flags])


def files_of(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_an_honest_run_holds_and_nothing_is_written(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_of(run.path.parent)
    assert verify(run, "--sample", "100") == 0
    out = capsys.readouterr().out
    assert "no difference is larger than 0.0001 nats" in out
    # FP16, LLM.int8 and NF4: six windows and ten answers each.
    tokens = sum(
        row["scored_tokens"]
        for record in run.read_manifest().shards
        if record.variant == "nf4" and record.stage in ("windows", "teacher_forced")
        for row in run.read_shard(record).to_pylist()
    )
    rows = [line.split() for line in out.splitlines() if line.startswith("│")]
    assert [row[1] for row in rows] == ["fp16", "int8", "nf4"]
    assert [int(row[5]) for row in rows] == [tokens] * 3
    assert files_of(run.path.parent) == before


def add_to_token(field: str, amount: float) -> Callable[[list[Row]], object]:
    def edit(rows: list[Row]) -> None:
        tokens = rows[0]["tokens"]
        assert isinstance(tokens, list)
        tokens[2][field] += amount

    return edit


def add_to_window(rows: list[Row]) -> None:
    total, count = rows[0]["negative_log_likelihood"], rows[0]["scored_tokens"]
    assert isinstance(total, float) and isinstance(count, int)
    rows[0]["negative_log_likelihood"] = total + 0.01 * count


@pytest.mark.parametrize(
    ("variant", "stage", "edit", "told"),
    [
        ("fp16", "windows", add_to_token("negative_log_likelihood", 0.01), 0.01),
        ("nf4", "windows", add_to_token("kl", 0.25), 0.25),
        ("nf4", "teacher_forced", add_to_token("kl", -0.0005), 0.0005),
        ("int8", "windows", add_to_window, 0.01),
        ("nf4", "windows", add_to_token("negative_log_likelihood", math.nan), math.inf),
        ("nf4", "windows", add_to_token("token", 1), math.inf),
    ],
)
def test_a_changed_number_is_found(
    run: RunFolder,
    capsys: pytest.CaptureFixture[str],
    variant: str,
    stage: str,
    edit: Callable[[list[Row]], object],
    told: float,
) -> None:
    record = record_of(run, variant, stage)
    change(run, record, edit)
    assert verify(run, "--sample", "100") == 1
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if "more than 0.0001" in line)
    assert line.startswith(f"{record.name} differs by ")
    assert float(line.split(" by ")[1].split()[0]) == pytest.approx(told, rel=0.01)
    # As large a difference may be let pass.
    if told < 1:
        assert verify(run, "--sample", "100", "--tolerance", str(2 * told)) == 0


def test_a_small_sample_may_miss_what_another_seed_finds(run: RunFolder) -> None:
    change(run, record_of(run, "nf4", "windows"), add_to_token("kl", 0.25))
    assert {verify(run, "--sample", "1", "--seed", str(seed)) for seed in range(2)} == {0}
    found = {verify(run, "--sample", "3", "--seed", str(seed)) for seed in range(6)}
    assert found == {0, 1}


def test_what_was_computed_elsewhere_is_refused_unless_a_tolerance_is_named(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    on_another_device(run, record_of(run, "nf4", "windows"))
    assert verify(run, "--sample", "100") == 2
    error = capsys.readouterr().err
    assert "--tolerance: it was computed on made-up GPU, and would be on cpu here" in error
    assert verify(run, "--sample", "100", "--tolerance", "0.01") == 0


def test_another_dtype_is_refused_unless_a_tolerance_is_named(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    # As where a GPU computed in the variant's own dtype, and this processor does not.
    manifest = run.read_manifest()
    identity = manifest.identity
    variants = tuple(
        one.model_copy(update={"compute_dtype": "bfloat16"}) for one in identity.variants
    )
    identity = identity.model_copy(update={"variants": variants})
    run.write_manifest(manifest.model_copy(update={"identity": identity}))
    assert verify(run) == 2
    said = "fp16 was computed in bfloat16, and would be in float32 here; name the largest"
    assert said in capsys.readouterr().err
    assert verify(run, "--tolerance", "0.01") == 0


def test_inputs_are_looked_for_where_they_are_now_and_must_be_the_same(
    run: RunFolder,
    finished_run: FinishedRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(finished_run.folder.parent / "model", moved)
    assert verify(run, "--sample", "2", "--model", str(moved)) == 0
    other = make_tiny_model(tmp_path / "other", seed=1)
    assert verify(run, "--model", str(other)) == 2
    error = capsys.readouterr().err
    assert "what is here is not what the run was of (model_content_hash, variants)" in error
    assert verify(run, "--model", str(tmp_path / "absent")) == 2


def test_a_damaged_file_is_told_of(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    record = record_of(run, "int8", "windows")
    path = run.shard_path(record)
    path.write_bytes(path.read_bytes()[:-1])
    assert verify(run, "--sample", "100") == 1
    assert f"{record.name}: its file is damaged" in capsys.readouterr().err


def test_a_run_without_windows_has_nothing_to_verify(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    for record in run.read_manifest().shards:
        if record.stage in ("windows", "teacher_forced"):
            run.shard_path(record).unlink()
    assert verify(run) == 2
    assert "has no finished shard of windows or answers" in capsys.readouterr().err


records = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["windows", "teacher_forced", "generations", "loading"]),
        st.integers(0, 9),
    ),
    unique=True,
).map(
    lambda keys: [
        ShardRecord(variant=v, stage=s, index=n, items=1, fingerprint=f"{v}{s}{n}".ljust(16, "x"))
        for v, s, n in keys
    ]
)


@given(records, st.integers(1, 20), st.integers(0, 5))
def test_a_sample_is_fair_to_variants_and_the_same_for_a_seed(
    finished: list[ShardRecord], count: int, seed: int
) -> None:
    usable = [one for one in finished if one.stage in ("windows", "teacher_forced")]
    drawn = sample_of(finished, count, seed)
    assert drawn == sample_of(finished, count, seed)
    assert len(drawn) == min(count, len(usable))
    assert drawn == [one for one in usable if one in drawn]
    of = {v: sum(one.variant == v for one in drawn) for v in "abc"}
    left = {v: sum(one.variant == v for one in usable) - of[v] for v in "abc"}
    for v in "abc":
        # Nobody has two more than another who has some left.
        assert all(of[v] <= of[w] + 1 for w in "abc" if left[w])


def test_what_is_equally_no_number_does_not_differ(run: RunFolder) -> None:
    record = record_of(run, "nf4", "windows")
    change(run, record, add_to_token("kl", math.nan))
    table = run.read_shard(record)
    assert difference_of(record, table, table).largest == 0
