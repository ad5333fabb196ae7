"""A run's settings → the command that measures the same again."""

import json
import shlex
from typing import Any

from orchestrator.gates.chosen import GateSettings
from orchestrator.help import flag_name
from orchestrator.settings import INPUT_SETTINGS, Settings

# What changes no figure of a run.
_NEVER_MEASURED = frozenset(
    {
        *("cluster", "wait_for_gpus", "replicas", "shard_timeout"),
        *("results", "run_id", "tracker", "log_format", "verbose"),
        *("require_integrity", "uses"),
    }
)
_NOT_MEASURED = _NEVER_MEASURED | GateSettings.model_fields.keys()


def command_of(settings: dict[str, Any]) -> str:
    """The command of some settings, less where results go and what must hold of them.

    Args:
        settings: as a manifest has them: JSON values by field name.
    """
    # Gates measure nothing, unless they end it.
    left_out = _NEVER_MEASURED if settings.get("until_decided") else _NOT_MEASURED
    words = ["python", "-m", "orchestrator", "run"]
    for name, field in Settings.model_fields.items():
        value = settings.get(name)
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        if name in left_out or value is None or value == default:
            continue
        if name == "gate":
            words += [word for gate in value for word in (flag_name(name), gate)]
        elif value is True:
            words.append(flag_name(name))
        else:
            words += [flag_name(name), _said(value)]
    if not INPUT_SETTINGS & {word[2:] for word in words}:
        # Else it were the embedded sweep.
        words += ["--model", str(settings["model"])]
    return shlex.join(words)


def _said(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, dict):
        return json.dumps(value)
    return _joined(value) if isinstance(value, list) else str(value)


def _joined(values: list[Any]) -> str:
    """A list as the command line takes it: in double quotes what has a comma."""
    words = (str(value) for value in values)
    return ",".join(f'"{word}"' if "," in word else word for word in words)
