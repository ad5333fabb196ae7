"""Where a table's numbers were computed, carried by the table itself as metadata."""

import pyarrow as pa

from orchestrator.contract.frozen import Frozen

_KEY = b"orchestrator.environment"


class Environment(Frozen):
    """A device and the versions of all that computed on it.

    Attributes:
        packages: what else the variant is loaded by, each with its version: `gguf 0.19.0`.
        linear: what multiplied in most linear layers, a package and a class; None in what was
            computed before it was noted.
        orchestrator_version: this program's; None in what was computed before it was noted.
    """

    device: str
    driver_version: str | None
    python_version: str
    torch_version: str
    transformers_version: str
    bitsandbytes_version: str | None
    ray_version: str | None
    packages: tuple[str, ...] = ()
    linear: str | None = None
    orchestrator_version: str | None = None


def with_environment(table: pa.Table, environment: Environment) -> pa.Table:
    """The table with an environment in its schema's metadata."""
    metadata = {**(table.schema.metadata or {}), _KEY: environment.model_dump_json().encode()}
    return table.replace_schema_metadata(metadata)


def environment_of(schema: pa.Schema) -> Environment:
    """The environment that a table carries.

    Raises:
        ValueError: it carries none, or one that cannot be read.
    """
    return Environment.model_validate_json((schema.metadata or {}).get(_KEY, b""))
