"""Who may know whom: read from the imports, those within functions included."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from orchestrator.contract.environment import Environment
from orchestrator.contract.manifest import VariantRecord
from orchestrator.contract.tables import SHARDS_SCHEMA, VARIANTS_SCHEMA

REPOSITORY = Path(__file__).parents[2]
MODEL_LIBRARIES = {"torch", "transformers", "bitsandbytes", "accelerate", "triton"}


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


def test_the_driver_imports_no_model_library_but_the_tokenizer_within_a_function() -> None:
    for name, path in modules("orchestrator").items():
        assert not libraries(path, within_functions=False) & MODEL_LIBRARIES, name
        used = libraries(path) & MODEL_LIBRARIES
        assert used <= ({"transformers"} if name == "orchestrator.tokenizer" else set()), name


def test_two_modules_import_ray() -> None:
    found = {
        name
        for package in ("orchestrator", "actors")
        for name, path in modules(package).items()
        if "ray" in libraries(path)
    }
    assert found == {"orchestrator.running.cluster", "orchestrator.running.ray_pool"}


def test_one_module_knows_the_actor() -> None:
    found = {name for name, path in modules("orchestrator").items() if "actors" in libraries(path)}
    assert found == {"orchestrator.running.ray_pool"}


def test_no_room_imports_another_in_a_circle() -> None:
    """A room is a package within `orchestrator`, or a module that is in none."""
    known = modules("orchestrator")
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        parts = name.split(".")
        if len(parts) > 1:
            targets = {i for i in imports(path) if i in known and i != "orchestrator"}
            rooms = {target.split(".")[1] for target in targets}
            graph.setdefault(parts[1], set()).update(rooms - {parts[1]})
    TopologicalSorter(graph).prepare()


def test_tables_have_a_column_for_all_that_their_records_hold() -> None:
    """Arrow leaves out what its schema does not name, without a word."""
    assert set(Environment.model_fields) < set(SHARDS_SCHEMA.names)
    assert list(VariantRecord.model_fields) == VARIANTS_SCHEMA.names
