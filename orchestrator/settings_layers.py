"""The sources of settings, one over the other, and what is wrong with them in one line."""

import csv
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import BadInputError
from orchestrator.help import flag_name
from orchestrator.settings import INPUT_SETTINGS, Settings
from orchestrator.suggestions import did_you_mean
from orchestrator.text_files import SETTINGS_BYTES, parse_yaml, read_text


def sweep_names() -> list[str]:
    """The names of the sweeps that the package carries."""
    folder = resources.files("orchestrator") / "data" / "sweeps"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir())


def resolve_settings(
    given: dict[str, Any],
    sweep: str | None = None,
    config: Path | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Settings:
    """Layers the sources of settings: defaults, then a named sweep, a YAML file, the flags.

    Args:
        defaults: those that are not the fields' own.
        given: the settings that were said on the command line, by field name.
        sweep: the name of an embedded sweep.
        config: a YAML file of settings.

    Raises:
        BadInputError: an unknown key or sweep, an unreadable file, a value out of its range.
    """
    if sweep is None and config is None and not INPUT_SETTINGS & given.keys():
        sweep = "demo"
    layers = {**(defaults or {}), **_sweep_layer(sweep), **_file_layer(config), **given}
    try:
        settings = Settings.model_validate(layers)
    except ValidationError as error:
        raise settings_error(error) from None
    names = [choice.name for choice in settings.choices]
    if settings.reference_variant not in (*names, "auto"):
        raise BadInputError(
            "--reference", f"'{settings.reference}' is not one of --variants; add it there"
        )
    _check_places(settings, names)
    settings = settings.self_contained()
    settings.check(names, settings.reference_variant, None)
    return settings


def _check_places(settings: Settings, names: Sequence[str]) -> None:
    """Refuses a place for a variant that is not there; raises BadInputError."""
    if isinstance(settings.placement, dict):
        for name in settings.placement:
            if name not in names:
                raise BadInputError(
                    "--placement", f"'{name}' is not one of --variants{did_you_mean(name, names)}"
                )


def settings_error(error: ValidationError) -> BadInputError:
    """The first problem of a pydantic error, as one line that names the flag."""
    first = error.errors()[0]
    # A command's name and a list's index are not part of what the user typed.
    names = [
        part for part in first["loc"] if isinstance(part, str) and part in Settings.model_fields
    ]
    key = names[0] if names else str(first["loc"][-1] if first["loc"] else "settings")
    if first["type"] == "extra_forbidden":
        meant = did_you_mean(key, Settings.model_fields)
        known = "" if meant else f"; known are {', '.join(sorted(Settings.model_fields))}"
        return BadInputError(key, f"unknown setting{meant}{known}")
    problem = first["msg"].removeprefix("Value error, ")
    shown = "" if first["type"] == "value_error" else f" (got {first['input']!r})"
    return BadInputError(flag_name(key), f"{problem}{shown}")


def _sweep_layer(sweep: str | None) -> dict[str, Any]:
    if sweep is None:
        return {}
    if sweep not in sweep_names():
        raise BadInputError(
            "--sweep", f"unknown sweep '{sweep}'; known are {', '.join(sweep_names())}"
        )
    text = (resources.files("orchestrator") / "data" / "sweeps" / f"{sweep}.yaml").read_text()
    return _mapping(text, f"sweep {sweep}")


def _file_layer(config: Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    try:
        text = read_text(config.expanduser(), SETTINGS_BYTES)
    except (OSError, ValueError) as error:
        raise BadInputError(
            "--config", f"cannot read {config}: {error}; name a YAML file"
        ) from None
    return _mapping(text, str(config))


def _mapping(text: str, origin: str) -> dict[str, Any]:
    try:
        values = parse_yaml(text) or {}
    except ValueError as error:
        raise BadInputError("--config", f"{origin} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise BadInputError("--config", f"{origin} must hold `setting: value` lines")
    return normalized(values)


def normalized(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as their fields are called and typed.

    Whoever writes YAML or Python takes either spelling of a name, a comma-separated list for a
    list, one gate for a list of gates, and variants with checkpoints for a mapping.
    """
    values = {str(key).replace("-", "_"): value for key, value in values.items()}
    for key in ("variants", "decoding", "batch_sizes"):
        if isinstance(values.get(key), str):
            (words,) = csv.reader([values[key]], skipinitialspace=True)
            values[key] = [word.strip() for word in words]
    if isinstance(values.get("gate"), str):
        values["gate"] = [values["gate"]]
    variants = values.get("variants")
    if isinstance(variants, dict):
        values["variants"] = [
            str(name) if source is None else f"{name}={source}" for name, source in variants.items()
        ]
    return values
