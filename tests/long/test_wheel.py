"""What is installed: a wheel has all that a run needs, code and data."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.places import REPOSITORY


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a wheel puts into an environment."""
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, since building leaves files behind.
    for package in ("orchestrator", "actors"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / package, folder / "source" / package, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder / "source")
    build = ["wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(folder / "source")]
    made = subprocess.run([sys.executable, "-m", "pip", *build], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_every_file_of_the_packages_is_in_it(installed: Path) -> None:
    for package in ("orchestrator", "actors"):
        for path in (REPOSITORY / package).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                assert (installed / path.relative_to(REPOSITORY)).is_file(), path


def test_it_runs_the_demo_to_its_report(installed: Path, tmp_path: Path) -> None:
    command = ["-m", "orchestrator", "--cluster", "none", "--max-windows", "2"]
    process = subprocess.run(
        [sys.executable, *command, "--max-prompts", "1", "--max-new-tokens", "4"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    (page,) = tmp_path.glob("results/*/report.html")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
