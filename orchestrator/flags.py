"""What a setting says of its flag: under which title help has it, and what stands for its value."""

from typing import Any, Literal, get_args

from pydantic import Field, JsonValue
from pydantic.fields import FieldInfo

FlagGroup = Literal[
    "what is measured",
    "where and how it runs",
    "what must hold",
    "settings and results",
]
# In the order of help.
GROUPS: tuple[FlagGroup, ...] = get_args(FlagGroup)
MEASURED, RUNS, HOLDS, KEPT = GROUPS


def setting(default: Any, group: FlagGroup, description: str, value: str | None = None) -> Any:
    """A field of settings, which is a flag and a key of a YAML file.

    Args:
        group: the title that its flag stands under.
        value: what stands for its value, where its type does not say enough.
    """
    extra: dict[str, JsonValue] = {"group": group, "value": value}
    return Field(default, description=description, json_schema_extra=extra)


def group_of(field: FieldInfo) -> str | None:
    """The title that a field's flag stands under."""
    return _said(field, "group")


def value_of(field: FieldInfo) -> str | None:
    """What stands for the value of a field's flag; None where its type says it."""
    return _said(field, "value")


def flag_name(field_name: str) -> str:
    """How a field is said on a command line."""
    return f"--{field_name.replace('_', '-')}"


def _said(field: FieldInfo, key: str) -> str | None:
    extra = field.json_schema_extra
    found = extra.get(key) if isinstance(extra, dict) else None
    return None if found is None else str(found)
