"""A quantized checkpoint → how its files say that it was quantized, and where they contradict."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.calibration.outcome import Recipe
from orchestrator.errors import BadInputError
from orchestrator.inputs.checkpoints import locate, read_config
from orchestrator.inputs.weight_files import read_weights
from orchestrator.json_files import read_json
from orchestrator.text_files import SETTINGS_BYTES, parse_yaml, read_text

_SETTING = "--checkpoint"
# Where quantizers write down how they did it, beside the configuration.
_FILES = ("quantize_config.json", "quant_config.json", "quantization_config.json")
_RECIPES = ("recipe.yaml", "recipe.yml")
# What a setting is called, by whoever wrote it.
_NAMES = {
    "bits": ("bits", "w_bit", "num_bits"),
    "group size": ("group_size", "q_group_size"),
    "act-order": ("desc_act", "actorder"),
    "damping": ("damp_percent", "dampening_frac"),
    "symmetric": ("sym", "symmetric"),
    "method": ("quant_method", "checkpoint_format", "format"),
    "data set": ("dataset", "calib_data", "calibration_dataset"),
    "rows": ("nsamples", "n_samples", "num_calibration_samples"),
}
# Two files may say a method in words of their own.
_COMPARED = ("bits", "group size", "act-order", "damping", "symmetric")
_BITS_OF_INT32 = 32


def read_recipe(name: str) -> Recipe:
    """What a checkpoint's files say of how it was quantized.

    Raises:
        BadInputError: there is no such checkpoint, or nothing says how.
    """
    folder, _ = locate(name, None, _SETTING)
    values = dict(_values(name, folder))
    if not any(values.values()):
        raise BadInputError(_SETTING, f"{name} says nowhere how it was quantized")
    contradictions = [*_contradictions(values), *_packed_otherwise(name, folder, values)]
    return Recipe(checkpoint=name, values=values, contradictions=tuple(contradictions))


def _values(name: str, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    declared = read_config(name, folder, _SETTING).get("quantization_config")
    if isinstance(declared, dict):
        yield "config.json", _known(declared)
    for file in (*_FILES, *_RECIPES):
        path = folder / file
        if not path.is_file():
            continue
        try:
            content: Any = (
                parse_yaml(read_text(path, SETTINGS_BYTES)) if file in _RECIPES else read_json(path)
            )
        except (OSError, ValueError) as error:
            raise BadInputError(_SETTING, f"{path} cannot be read ({error}); mend it") from None
        yield file, _known(content)


def _known(content: Any) -> dict[str, str]:
    """The settings that are known, wherever in a file they stand."""
    found: dict[str, str] = {}
    for name, value in _leaves(content):
        for setting, names in _NAMES.items():
            if name in names and setting not in found and value is not None:
                found[setting] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def _leaves(content: Any) -> Iterator[tuple[str, Any]]:
    """Names with their values, the outermost first."""
    parts = [content]
    while parts:
        part = parts.pop(0)
        if isinstance(part, Mapping):
            for name, value in part.items():
                if isinstance(value, Mapping | list):
                    parts.append(value)
                else:
                    yield str(name), value
        elif isinstance(part, list):
            parts.extend(part)


def _contradictions(values: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for setting in _COMPARED:
        said = {file: found[setting] for file, found in values.items() if setting in found}
        if len(set(said.values())) > 1:
            each = ", ".join(f"{value} in {file}" for file, value in said.items())
            yield f"its files contradict each other: {setting} is {each}"


def _packed_otherwise(
    name: str, folder: Path, values: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """Whether weights are packed in other groups than is declared, by how many scales they have."""
    declared = values.get("config.json", {})
    if not declared.get("group size", "").isdigit() or not declared.get("bits", "").isdigit():
        return
    group, per_word = int(declared["group size"]), _BITS_OF_INT32 // int(declared["bits"])
    shapes = {tensor.name: tensor.shape for tensor in read_weights(name, folder, _SETTING)}
    for packed, shape in shapes.items():
        scales = shapes.get(packed.removesuffix("qweight") + "scales")
        if not packed.endswith(".qweight") or scales is None or not scales[0]:
            continue
        # GPTQ packs the inputs of a layer, AWQ its outputs.
        inputs = shape[0] if shape[1] != scales[1] else shape[0] * per_word
        if inputs // scales[0] != group:
            yield (
                f"its configuration declares groups of {group}, and {packed} has scales for groups "
                f"of {inputs // scales[0]}"
            )
            return
