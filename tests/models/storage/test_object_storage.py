"""Runs at a URL: a real S3 API, with what such stores do to their users."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cli import run_command
from orchestrator.errors import BadInputError, ExitStatus
from orchestrator.planning.plan import Plan, manifest_of
from orchestrator.publish import publish
from orchestrator.runs.finished import read_run, reduce_run
from orchestrator.storage.events import Event
from orchestrator.storage.object_files import TakenOverError
from orchestrator.storage.object_store import ObjectStore
from orchestrator.storage.results_folder import ResultsFolder, run_at
from orchestrator.storage.store import RunStore
from tests.faults.sweeps import tables_in
from tests.object_stores import Faults, each_first_time, s3_server
from tests.pipeline import make_test_plan, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

RESULTS = "s3://bucket/some/runs"


@pytest.fixture
def store() -> Iterator[Faults]:
    with s3_server() as faults:
        yield faults


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        **write_inputs(folder, SAMPLE_ROWS),
        "model": str(make_tiny_model(folder / "model")),
        "variants": ("fp16", "nf4"),
        "max_windows": 4,
        "shard_size": 2,
        "max_new_tokens": 3,
        "run_id": "r",
    }


@pytest.fixture(scope="module")
def undisturbed(inputs: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("local")
    run_in_process(make_test_plan(**inputs, results=results))
    return results


def plan_at_url(inputs: dict[str, object]) -> Plan:
    return make_test_plan(**inputs, results=RESULTS)


def objects(prefix: str = RESULTS) -> list[str]:
    return sorted(ObjectStore.at(prefix, "--results").names(""))


def fetched(folder: Path) -> Path:
    """A copy of all objects, as files."""
    at = ObjectStore.at(RESULTS, "--results")
    for name, content in at.get_many(at.names("")).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_a_run_at_a_url_has_the_tables_of_one_in_a_folder(
    store: Faults, inputs: dict[str, object], undisturbed: Path, tmp_path: Path
) -> None:
    comparison = run_in_process(plan_at_url(inputs))
    publish(run_at(f"{RESULTS}/r"))
    assert tables_in(fetched(tmp_path)) == tables_in(undisturbed)
    assert read_run(run_at(f"{RESULTS}/r")).comparison == comparison
    assert not [name for name in objects() if "probe" in name]


def test_what_is_finished_is_not_computed_again(
    store: Faults, inputs: dict[str, object], undisturbed: Path, tmp_path: Path
) -> None:
    plan = plan_at_url(inputs)
    run_in_process(plan)
    lost = next(shard.record for shard in plan.shards if shard.record.variant == "nf4")
    ObjectStore.at(RESULTS, "").remove(f"r/shards/{lost.name}.arrow")
    store.requests.clear()
    run_in_process(plan)
    put = [name for name in store.requests if name.startswith("PUT") and ".arrow" in name]
    assert put == [f"PUT /bucket/some/runs/r/shards/{lost.name}.arrow"]
    assert tables_in(fetched(tmp_path)) == tables_in(undisturbed)


def test_a_shard_whose_object_is_spoiled_is_set_aside_and_computed_again(
    store: Faults, inputs: dict[str, object], undisturbed: Path, tmp_path: Path
) -> None:
    plan = plan_at_url(inputs)
    run_in_process(plan)
    name = f"r/shards/{plan.shards[0].record.name}"
    ObjectStore.at(RESULTS, "").put(f"{name}.arrow", b"spoiled")
    run_in_process(plan)
    assert f"{name}.damaged" in objects()
    assert tables_in(fetched(tmp_path)) == tables_in(undisturbed)


@pytest.mark.parametrize("kind", ["busy", "lost", "slow"])
def test_a_store_that_fails_now_and_then_changes_nothing(
    kind: str, store: Faults, inputs: dict[str, object], undisturbed: Path, tmp_path: Path
) -> None:
    if kind == "slow":
        store.delay_seconds = 0.03
    else:
        setattr(store, kind, each_first_time("PUT", most=8))
    run_in_process(plan_at_url(inputs))
    assert tables_in(fetched(tmp_path)) == tables_in(undisturbed)


def test_a_put_whose_answer_was_lost_is_ones_own(store: Faults) -> None:
    at = ObjectStore.at(RESULTS, "--results")
    store.lost = each_first_time("PUT", most=1)
    assert at.create("shard", b"mine")
    assert sum("PUT" in request for request in store.requests) > 1
    assert not at.create("shard", b"another's")
    assert at.get("shard") == b"mine"


def test_of_two_drivers_the_newer_goes_on_and_the_older_stops(
    store: Faults, inputs: dict[str, object], undisturbed: Path, tmp_path: Path
) -> None:
    plan = plan_at_url(inputs)
    tables = {
        shard.record.name: run_at(undisturbed / "r").read_shard(shard.record)
        for shard in plan.shards
    }
    first, *rest = [shard.record for shard in plan.shards]
    with RunStore(ResultsFolder.at(RESULTS), manifest_of(plan)) as older:
        older.commit(first, tables[first.name])
        comparison = run_in_process(plan)
        with pytest.raises(TakenOverError, match="was taken over by the driver on"):
            older.commit(rest[0], tables[rest[0].name])
        with pytest.raises(TakenOverError):
            older.finish()
        with pytest.raises(TakenOverError):
            older.folder.files.write("report.html", b"of half a run")
    assert tables_in(fetched(tmp_path)) == tables_in(undisturbed)
    assert reduce_run(run_at(f"{RESULTS}/r")).comparison == comparison


def test_of_two_who_finish_a_shard_the_second_drops_its_own(
    store: Faults, inputs: dict[str, object], undisturbed: Path
) -> None:
    plan = plan_at_url(inputs)
    record = plan.shards[0].record
    table = run_at(undisturbed / "r").read_shard(record)
    first, second = (run_at(f"{RESULTS}/r") for _ in range(2))
    first.write_shard(record, table)
    kept = first.files.read(f"shards/{record.name}.arrow")
    elsewhere = table.replace_schema_metadata(
        {key: value.replace(b"3.", b"2.") for key, value in table.schema.metadata.items()}
    )
    assert elsewhere.schema.metadata != table.schema.metadata
    second.write_shard(record, elsewhere)
    assert second.files.read(f"shards/{record.name}.arrow") == kept


def test_commands_read_a_run_at_its_url(
    store: Faults, inputs: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    run_in_process(plan_at_url(inputs))
    run = f"{RESULTS}/r"
    assert run_command(["report", run]) == ExitStatus.DONE
    assert f"Report: {run}/report.html" in capsys.readouterr().out
    assert run_command(["status", run]) == ExitStatus.DONE
    assert "nf4: 8/8 shards" in capsys.readouterr().out
    assert run_command(["gate", run, "--gate", "kl.mean <= 100"]) == ExitStatus.DONE
    assert run_command(["report", run, run]) == ExitStatus.BAD_INPUT
    capsys.readouterr()
    assert run_command(["history", "--results", RESULTS]) == ExitStatus.DONE
    assert f"Report: {RESULTS}/history.html" in capsys.readouterr().out
    assert run_command(["report", "r", "--results", RESULTS]) == ExitStatus.DONE
    capsys.readouterr()
    assert run_command(["report", "s", "--results", RESULTS]) == ExitStatus.BAD_INPUT
    assert f"no run {RESULTS}/s; runs there: r" in capsys.readouterr().err


def test_a_report_of_a_run_that_goes_on_is_left_to_its_driver(
    store: Faults,
    inputs: dict[str, object],
    undisturbed: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = plan_at_url(inputs)
    record = plan.shards[0].record
    with RunStore(ResultsFolder.at(RESULTS), manifest_of(plan)) as driver:
        driver.commit(record, run_at(undisturbed / "r").read_shard(record))
        driver.log(Event(event="run_started"))
        assert run_command(["report", f"{RESULTS}/r"]) == ExitStatus.BAD_INPUT
        said = capsys.readouterr().err
        assert "writes s3://bucket/some/runs/r now" in said
        assert len(said.splitlines()) == 1
        assert run_command(["status", f"{RESULTS}/r"]) == ExitStatus.DONE
        assert "stopped" not in capsys.readouterr().out
        driver.log(Event(event="run_ended"))
    assert run_command(["status", f"{RESULTS}/r"]) == ExitStatus.DONE
    assert "It is stopped: its driver has ended" in capsys.readouterr().out
    assert run_command(["report", f"{RESULTS}/r"]) == ExitStatus.FAILED


def refusal(results: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run_command(["--cluster", "none", "--results", results]) == ExitStatus.BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_store_that_takes_a_second_object_of_a_name_is_refused(
    store: Faults, capsys: pytest.CaptureFixture[str]
) -> None:
    store.overwrites = True
    assert "takes two objects of one name" in refusal(RESULTS, capsys)
    assert objects("s3://bucket") == []


@pytest.mark.parametrize(
    ("results", "says"),
    [
        ("http://bucket/runs", "http://bucket/runs cannot be written; name a folder, s3://BUCKET"),
        ("S3://bucket/runs", "cannot be written; name a folder"),
        ("s3://", "names no bucket"),
        ("s3://bucket//runs", "names no bucket or an empty folder"),
        ("s3://no-such-bucket/runs", "The specified bucket does not exist"),
    ],
)
def test_a_url_that_cannot_be_written_is_refused_in_one_line(
    results: str, says: str, store: Faults, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refusal(results, capsys)
    assert not Path("s3:").exists()


def test_a_store_without_credentials_is_refused_in_one_line(
    store: Faults, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "credentials" in refusal(RESULTS, capsys)


@pytest.mark.parametrize(("url", "package"), [("s3://b/c", "s3fs"), ("gs://b/c", "gcsfs")])
def test_a_missing_package_is_named_with_its_extra(
    url: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    told = rf"needs the package {package} \(import of {package} halted; .*\); pip install '"
    with pytest.raises(BadInputError, match=told):
        ResultsFolder.at(url)


def test_what_a_manifest_says_is_the_run_of_a_folder(
    store: Faults, inputs: dict[str, object], undisturbed: Path
) -> None:
    run_in_process(plan_at_url(inputs))
    newest = max(name for name in objects() if "/manifests/" in name)
    said = json.loads(ObjectStore.at(RESULTS, "").get(newest))
    local = json.loads((undisturbed / "r" / "run.json").read_text())
    assert json.loads(said["run"])["identity"] == local["identity"]
