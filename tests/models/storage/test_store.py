"""Nothing that a disk, a copy or a hand changed in a run's files is taken for a measurement."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.comparison_schema import Comparison
from orchestrator.errors import BadInputError
from orchestrator.planning.plan import Plan
from orchestrator.storage.results_folder import run_at
from tests.pipeline import make_test_plan, read_comparison, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

TIMES = 350


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path, Comparison]:
    folder = tmp_path_factory.mktemp("run")
    plan = make_test_plan(
        **write_inputs(folder, SAMPLE_ROWS),
        model=str(make_tiny_model(folder / "model")),
        variants=("fp16", "nf4"),
        max_windows=4,
        shard_size=2,
        batch_tokens=1,
        max_new_tokens=3,
        results=folder,
        run_id="r",
    )
    return plan, folder / "r", run_in_process(plan)


def flip(content: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """One bit."""
    place = chance.randrange(len(content))
    changed = bytearray(content)
    changed[place] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(content: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """A stretch gone, from either end or from within."""
    first = chance.choice([0, chance.randrange(len(content))])
    last = chance.choice([len(content), chance.randrange(first + 1, len(content) + 1)])
    return content[:first] + content[last:]


def swap(content: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Another shard's file, whole or in part, or two stretches that changed places."""
    other = chance.choice(others)
    place = chance.randrange(1, len(content))
    return chance.choice(
        [other, content[:place] + other[place:], content[place:] + content[:place]]
    )


@pytest.mark.parametrize("change", [flip, cut, swap])
def test_no_changed_shard_file_is_accepted(
    change: Callable[[bytes, list[bytes], random.Random], bytes],
    run: tuple[Plan, Path, Comparison],
) -> None:
    plan, folder, _ = run
    chance = random.Random(change.__name__)
    records = [shard.record for shard in plan.shards]
    whole = {record: run_at(folder).shard_path(record).read_bytes() for record in records}
    assert all(run_at(folder).has_shard(record) for record in records)
    for _ in range(TIMES):
        record = chance.choice(records)
        others = [content for other, content in whole.items() if other is not record]
        changed = change(whole[record], others, chance)
        assert changed != whole[record]
        path = run_at(folder).shard_path(record)
        path.write_bytes(changed)
        try:
            assert not run_at(folder).has_shard(record)
            read = [
                found for found, _ in run_at(folder).read_shards(run_at(folder).read_manifest())
            ]
            assert read == [other for other in records if other is not record]
        finally:
            path.write_bytes(whole[record])


def test_a_changed_float_is_computed_again_and_never_shown(
    run: tuple[Plan, Path, Comparison],
) -> None:
    plan, folder, before = run
    record = next(s.record for s in plan.variants[1].shards if s.record.stage == "windows")
    path = run_at(folder).shard_path(record)
    content = bytearray(path.read_bytes())
    # The exponent of one likelihood or another: far into the body, before the digest.
    content[len(content) * 3 // 4] ^= 0x40
    path.write_bytes(bytes(content))
    partial = read_comparison(folder)
    assert not partial.complete
    assert partial.variants["nf4"].perplexity.delta_pct is None
    again = run_in_process(plan)
    assert again.complete
    assert again.variants["nf4"].perplexity == before.variants["nf4"].perplexity
    assert path.with_suffix(".damaged").exists()


@pytest.mark.parametrize("name", ["tokens", "words", "bytes", "reference", "finished"])
def test_a_changed_manifest_is_refused(name: str, run: tuple[Plan, Path, Comparison]) -> None:
    path = run[1] / "run.json"
    whole = path.read_text()
    content = json.loads(whole)
    content[name] = content[name] + 1 if isinstance(content[name], int) else "nf4"
    path.write_text(json.dumps(content))
    try:
        with pytest.raises(BadInputError, match=r"run\.json is not as it was written; set the"):
            run_at(run[1]).read_manifest()
    finally:
        path.write_text(whole)


def test_a_manifest_that_was_only_laid_out_anew_is_read(
    run: tuple[Plan, Path, Comparison],
) -> None:
    path = run[1] / "run.json"
    whole = path.read_text()
    before = run_at(run[1]).read_manifest()
    path.write_text(json.dumps(json.loads(whole)))
    assert run_at(run[1]).read_manifest() == before
    path.write_text(whole)
