"""Runs at gs://: the real gcsfs, on what stands for the store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cli import run_command
from orchestrator.errors import BadInputError, ExitStatus
from orchestrator.storage.object_store import ObjectStore
from tests.commands import flags_of
from tests.faults.sweeps import tables_in
from tests.google_storage import GoogleStorage, google_storage
from tests.pipeline import write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

pytest.importorskip("gcsfs", reason="gcsfs is not installed")

RESULTS = "gs://bucket/some/runs"


@pytest.fixture
def store() -> Iterator[GoogleStorage]:
    with google_storage() as found:
        yield found


def test_an_object_is_created_once(store: GoogleStorage) -> None:
    at = ObjectStore.at(RESULTS, "--results")
    at.check_creates_once()
    assert store.objects == {}
    assert at.create("a/one", b"first")
    # Its own bytes are what a lost answer would have left.
    assert at.create("a/one", b"first")
    assert not at.create("a/one", b"second")
    at.put("a/two", b"a longer one")
    assert at.get("a/two", most_bytes=2) == b"a l"
    assert at.get_many(["a/one", "a/two", "a/three"]) == {
        "a/one": b"first",
        "a/two": b"a longer one",
    }
    assert list(at.names("a")) == ["a/one", "a/two"]
    assert at.folders() == ["a"]
    at.remove("a/one")
    assert (at.has("a/one"), at.has("a/two")) == (False, True)
    with pytest.raises(FileNotFoundError):
        at.get("a/one")
    with pytest.raises(BadInputError, match=r"gs://other/runs cannot be written \("):
        ObjectStore.at("gs://other/runs", "--results").check_creates_once()


def test_a_sweep_at_gs_has_the_tables_of_one_in_a_folder(
    store: GoogleStorage, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = flags_of(
        **write_inputs(tmp_path / "inputs", SAMPLE_ROWS, prompts=1),
        model=make_tiny_model(tmp_path / "model"),
        variants=("fp16", "nf4"),
        max_windows=4,
        shard_size=2,
        max_new_tokens=3,
        cluster="none",
        run_id="r",
    )
    assert run_command([*flags, "--results", str(tmp_path / "local")]) == ExitStatus.DONE
    assert run_command([*flags, "--results", RESULTS]) == ExitStatus.DONE
    # What is finished is found.
    written = {name: moment for name, (_, moment) in store.objects.items() if "/shards/" in name}
    assert run_command([*flags, "--results", RESULTS]) == ExitStatus.DONE
    assert written.items() <= {name: moment for name, (_, moment) in store.objects.items()}.items()
    assert run_command(["status", f"{RESULTS}/r"]) == ExitStatus.DONE
    assert "fp16: 5/5 shards" in capfd.readouterr().out
    for name, (content, _) in store.objects.items():
        path = tmp_path / "copy" / name.removeprefix("some/runs/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert tables_in(tmp_path / "copy") == tables_in(tmp_path / "local")
