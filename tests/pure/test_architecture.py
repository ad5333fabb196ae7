"""Who may know whom: read from the imports, those within functions included."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from orchestrator.contract.environment import Environment
from orchestrator.contract.manifest import VariantRecord
from orchestrator.contract.tables import SHARDS_SCHEMA, VARIANTS_SCHEMA
from orchestrator.storage.file_names import RunFile
from tests.places import REPOSITORY

GGUF_READERS = (
    "orchestrator.inputs.gguf_configuration",
    "orchestrator.contract.gguf_tokenizer",
)
MODEL_LIBRARIES = {"torch", "transformers", "bitsandbytes", "accelerate", "triton"}
# Of the driver, from the ground up: each may import those before it. What lies in no room are the
# leaves, the settings, and the commands.
ROOMS = (
    *(
        "contract",
        "errors",
        "files",
        "json_files",
        "text_files",
        "printable",
        "units",
        "locations",
        "gpus_wanted",
        "suggestions",
        "background",
    ),
    *("console", "help", "process"),
    *("comparison_schema", "gates", "settings", "settings_layers"),
    *("inputs", "integrity", "calibration", "planning", "storage", "running", "figures", "runs"),
    *("report.tables", "report.pictures", "report"),
    *("publish", "export", "tracking", "preparing", "sweep", "show_plan", "api", "verify"),
    *("audit", "check_calibration", "run_commands", "cli", "__main__"),
    # What a script imports, of all these.
    "orchestrator",
)


def modules(package: str) -> dict[str, Path]:
    """The modules of a package by their dotted names."""
    found = {}
    for path in sorted((REPOSITORY / package).rglob("*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports(path: Path, *, within_functions: bool = True) -> Iterator[str]:
    """The dotted names that a module imports."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if within_functions else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(path: Path) -> set[str]:
    """Those of the two packages that a module imports: of `from room import module` the module."""
    known = modules("orchestrator").keys() | modules("actors").keys()
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            taken = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (taken & known) if taken <= known else {*(taken & known), str(node.module)}
    return found & known


def room_of(module: str) -> str:
    """The room of a module of the driver, or the module where it lies in none."""
    within = module.removeprefix("orchestrator.")
    rooms = [room for room in ROOMS if f"{within}.".startswith(f"{room}.")]
    return max(rooms, key=len, default=within)


def libraries(path: Path, **options: bool) -> set[str]:
    return {name.split(".")[0] for name in imports(path, **options)}


def test_actors_know_the_contract_and_nothing_else_of_the_driver() -> None:
    for name, path in modules("actors").items():
        for imported in imports(path):
            if imported.split(".")[0] == "orchestrator":
                assert imported.startswith("orchestrator.contract"), f"{name} imports {imported}"


def test_the_contract_knows_nobody() -> None:
    for name, path in modules("orchestrator.contract".replace(".", "/")).items():
        for imported in imports(path):
            if imported.split(".")[0] in ("orchestrator", "actors"):
                assert imported.startswith("orchestrator.contract"), f"{name} imports {imported}"


def test_the_driver_imports_no_model_library_but_to_read_inputs_within_a_function() -> None:
    for name, path in modules("orchestrator").items():
        assert not libraries(path, within_functions=False) & MODEL_LIBRARIES, name
        used = libraries(path) & MODEL_LIBRARIES
        # Tokenizers, chat templates, and configurations.
        texts = ("orchestrator.inputs.tokenizer", "orchestrator.inputs.chat_templates")
        reads = name in (*texts, *GGUF_READERS)
        assert used <= ({"transformers"} if reads else set()), name


def test_four_modules_import_ray_by_their_names() -> None:
    found = {
        name
        for package in ("orchestrator", "actors")
        for name, path in modules(package).items()
        if "ray" in libraries(path)
    }
    running = "orchestrator.running"
    assert found == {f"{running}.ray_{name}" for name in ("cluster", "metrics", "nodes", "pool")}


def test_three_modules_know_the_actors_two_of_them_when_they_are_called() -> None:
    known = modules("orchestrator").items()
    found = {name for name, path in known if "actors" in libraries(path)}
    assert found == {
        "orchestrator.running.in_process",
        "orchestrator.running.ray_pool",
        "orchestrator.integrity.requantized",
    }
    at_once = {name for name, path in known if "actors" in libraries(path, within_functions=False)}
    assert at_once == {"orchestrator.running.ray_pool"}


def test_every_module_lies_in_a_room_or_is_named_here() -> None:
    for name in modules("orchestrator"):
        assert room_of(name) in ROOMS, f"{name} has no place in ROOMS"


def test_no_arrow_runs_back() -> None:
    """A room imports itself and those before it in `ROOMS`."""
    for name, path in modules("orchestrator").items():
        for imported in imported_modules(path) & modules("orchestrator").keys():
            here, there = ROOMS.index(room_of(name)), ROOMS.index(room_of(imported))
            assert there <= here, f"{name} imports {imported}, which comes after it"


@pytest.mark.parametrize("package", ["orchestrator", "actors"])
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    graph = {name: imported_modules(path) for name, path in modules(package).items()}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("package", ["orchestrator", "actors"])
def test_every_room_says_in_a_line_what_it_is(package: str) -> None:
    for path in (REPOSITORY / package).rglob("__init__.py"):
        said = ast.get_docstring(ast.parse(path.read_text()))
        assert said, f"{path} says nothing"
        assert said.splitlines()[0].endswith("."), f"{path} says no whole sentence"


def test_one_module_knows_the_names_of_a_runs_files() -> None:
    names = {*map(str, RunFile), "run.json", "events.jsonl"}
    for name, path in modules("orchestrator").items():
        found = {
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        if name != "orchestrator.storage.file_names":
            assert not found & names, f"{name} names {found & names}"


def test_one_function_makes_tables_of_rows() -> None:
    """Arrow takes a mistyped column for one of nulls."""
    for package in ("orchestrator", "actors"):
        for name, path in modules(package).items():
            if name != "orchestrator.contract.tables":
                assert "from_pylist" not in path.read_text(), f"{name}: take make_table"


def test_tables_have_a_column_for_all_that_their_records_hold() -> None:
    """Arrow leaves out what its schema does not name, without a word."""
    assert set(Environment.model_fields) < set(SHARDS_SCHEMA.names)
    assert list(VariantRecord.model_fields) == VARIANTS_SCHEMA.names
