"""What a setting says of its flag, and a command line's help made of that, as a person reads it."""

import argparse
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
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

# What stands for a value, by what the settings call its type.
_METAVARS = {
    "tuple[str,...]": "A,B,…",
    "tuple[int,...]": "N,M,…",
    "tuple[{eager,graph},...]": "eager,graph",
    "str": "TEXT",
    "int": "N",
    "float": "X",
    "Path": "PATH",
    "ByteSize": "SIZE",
}
_NO_DEFAULT = re.compile(r"\s*\(default( factory: [^)]*|: (None|False|\(\)))\)")
_TUPLE_DEFAULT = re.compile(r"\(default: \(([^)]*)\)\)")


def setting(default: Any, group: FlagGroup, description: str, value: str | None = None) -> Any:
    """A field of settings, which is a flag and a key of a YAML file.

    Args:
        default: the value, or a function that makes it of the settings before it, by name.
        group: the title that its flag stands under.
        value: what stands for its value, where its type does not say enough.
    """
    extra: dict[str, JsonValue] = {"group": group, "value": value}
    if callable(default):
        return Field(default_factory=default, description=description, json_schema_extra=extra)
    return Field(default, description=description, json_schema_extra=extra)


def flag_name(field_name: str) -> str:
    """How a field is said on a command line."""
    return f"--{field_name.replace('_', '-')}"


def make_readable(parser: argparse.ArgumentParser, fields: Mapping[str, FieldInfo]) -> None:
    """Rewrites the help of a parser and of its commands.

    Args:
        fields: what settings there are, by name, with what they say of their flags.
    """
    said = ((flag_name(name), _said(field, "value")) for name, field in fields.items())
    values = {flag: value for flag, value in said if value is not None}
    groups: dict[str, list[str]] = {title: [] for title in GROUPS}
    for name, field in fields.items():
        if (title := _said(field, "group")) is not None:
            groups[title].append(flag_name(name))
    for each in _parsers(parser):
        if each.description:
            each.description = inspect.cleandoc(each.description)
        flags = [action for action in each._actions if action.option_strings]
        for action in each._actions:
            _rewrite(action, values)
        if len(flags) > 4:
            each.usage = f"{each.prog} [options]" + "".join(
                f" {action.metavar}" for action in each._actions if not action.option_strings
            )
            _regroup(each, groups)


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _parsers(command)


def _rewrite(action: argparse.Action, values: Mapping[str, str]) -> None:
    flag = action.option_strings[0] if action.option_strings else ""
    if isinstance(action.metavar, str):
        plain = _METAVARS.get(action.metavar, action.metavar)
        action.metavar = values.get(flag, plain)
    if isinstance(action.help, str):
        said = _NO_DEFAULT.sub("", action.help)
        said = _TUPLE_DEFAULT.sub(lambda found: f"(default: {_joined(found[1])})", said)
        # Where the words name a default already, the value behind them says no more.
        action.help = re.sub(r"(\(default: [^)]*\))\s*\(default: [^)]*\)", r"\1", said)


def _joined(items: str) -> str:
    return ",".join(item.strip(" '") for item in items.split(",") if item.strip(" '"))


def _regroup(parser: argparse.ArgumentParser, groups: Mapping[str, Sequence[str]]) -> None:
    """Puts flags under titles; argparse itself only knows the group that a flag was made in."""
    by_flag = {flag: action for action in parser._actions for flag in action.option_strings}
    for title, flags in groups.items():
        found = [by_flag[flag] for flag in flags if flag in by_flag]
        if found:
            group = parser.add_argument_group(title)
            for action in found:
                for other in parser._action_groups:
                    if action in other._group_actions:
                        other._group_actions.remove(action)
                group._group_actions.append(action)


def _said(field: FieldInfo, key: str) -> str | None:
    extra = field.json_schema_extra
    found = extra.get(key) if isinstance(extra, dict) else None
    return None if found is None else str(found)
