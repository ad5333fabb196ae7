"""The disk, while a run or its report is written: one line, nothing half-written, it goes on."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.cli import run_command
from orchestrator.storage.results_folder import run_at
from tests.commands import tiny_sweep_flags


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte and a half."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(place)])
    if made.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A short sweep, in this process."""
    folder = tmp_path_factory.mktemp("inputs")
    few = ["--max-windows", "3", "--max-prompts", "1", "--cluster", "none", "--run-id", "r"]
    return [*tiny_sweep_flags(folder), *few]


@pytest.fixture(scope="module")
def run(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    results = tmp_path_factory.mktemp("results")
    assert run_command([*flags, "--results", str(results)]) == 0
    return results / "r"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "r")
    return tmp_path / "r"


def fill(place: Path, *, less: int = 0) -> Path:
    """Takes all room of a file system, but for some bytes."""
    filler = place / "filler"
    free = os.statvfs(place)
    size = free.f_bavail * free.f_bsize - less
    with filler.open("wb") as file:
        file.write(bytes(max(0, size)))
    return filler


def the_error(said: str) -> str:
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in said
    return line


def no_halves(folder: Path) -> bool:
    return not list(folder.rglob(".*.tmp"))


def test_a_sweep_on_a_full_disk_ends_in_a_line_and_goes_on_once_there_is_room(
    flags: list[str], small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = ["--results", str(small)]
    filler = fill(small, less=300 * 1024)
    capsys.readouterr()
    assert run_command([*flags, *results]) == 1
    line = the_error(capsys.readouterr().err)
    assert "No space left on device" in line
    assert "free some space" in line
    assert no_halves(small)
    filler.unlink()
    assert run_command([*flags, *results]) == 0
    assert (small / "r" / "report.html").exists()


def test_a_report_on_a_full_disk_keeps_what_was_there(
    run: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, small / "r")
    before = (small / "r" / "report.html").read_bytes()
    filler = fill(small)
    capsys.readouterr()
    assert run_command(["report", str(small / "r")]) == 1
    line = the_error(capsys.readouterr().err)
    assert f"the report of {small / 'r'} cannot be written (No space left on device" in line
    assert (small / "r" / "report.html").read_bytes() == before
    assert no_halves(small)
    filler.unlink()
    assert run_command(["report", str(small / "r")]) == 0


def file_for_tables(folder: Path) -> None:
    shutil.rmtree(folder / "tables")
    (folder / "tables").write_text("in the way")


def folder_for_page(folder: Path) -> None:
    (folder / "report.html").unlink()
    (folder / "report.html" / "deep").mkdir(parents=True)


def folder_for_answer(folder: Path) -> None:
    (folder / "answers" / "nf4.json").unlink()
    (folder / "answers" / "nf4.json").mkdir()


@pytest.mark.parametrize(
    ("spoil", "remedy"),
    [
        (file_for_tables, "move"),
        (folder_for_page, "move the folder that is in the way"),
        (folder_for_answer, "move the folder that is in the way"),
    ],
)
def test_what_is_in_the_way_is_told(
    spoil: Callable[[Path], None], remedy: str, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(copy)
    capsys.readouterr()
    assert run_command(["report", str(copy)]) == 1
    line = the_error(capsys.readouterr().err)
    assert "cannot be written" in line
    assert remedy in line
    assert no_halves(copy)


def test_a_disk_that_takes_nothing_is_told(
    run: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, small / "r")
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    capsys.readouterr()
    assert run_command(["report", str(small / "r")]) == 1
    line = the_error(capsys.readouterr().err)
    assert "Read-only file system" in line
    assert "have it writable, or name other --results" in line


def test_a_disk_without_inodes_is_told(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "few"
    place.mkdir()
    options = "size=50m,nr_inodes=14"
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)])
    if made.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        capsys.readouterr()
        assert run_command([*flags, "--results", str(place)]) == 1
        assert "remove files where too many are the reason" in the_error(capsys.readouterr().err)
        assert no_halves(place)
        subprocess.run(["mount", "-o", "remount,nr_inodes=1000", str(place)], check=True)
        assert run_command([*flags, "--results", str(place)]) == 0
        assert run_at(place / "r").read_manifest().finished
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
