"""A GGUF file → a model, with all that is in the file."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GgufConfig
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
)
from transformers.utils.hub import cached_file

from actors.checks import some
from orchestrator.contract.gguf_content import (
    FACTOR_TENSORS,
    FREQUENCY_FACTORS,
    GgufContent,
    read_content,
)
from orchestrator.contract.gguf_tokenizer import KEY, MODELS, build_tokenizer
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variant_errors import CannotLoadError


def gguf_options(location: ModelLocation) -> dict[str, Any]:
    """What `from_pretrained` is told of a GGUF file."""
    options: dict[str, Any] = {
        "gguf_file": location.gguf_file,
        "quantization_config": GgufConfig(dequantize=True),
    }
    if location.configuration is not None:
        options["config"] = AutoConfig.for_model(**json.loads(location.configuration))
    return options


def finish_gguf(origin: str, model: Any, location: ModelLocation) -> None:
    """Takes in what transformers leaves of a file.

    Args:
        origin: what was loaded, for messages.

    Raises:
        CannotLoadError: a tensor that nothing has read; names some.
    """
    content = _content(location)
    processor: Any = TENSOR_PROCESSORS.get(content.architecture, TensorProcessor)
    read = {*get_gguf_hf_weights_map(model, processor(vars(model.config))), *FACTOR_TENSORS}
    if content.architecture == "gpt2":
        read.add("output.weight")  # its processor takes it by name
    # Experts of a layer are one tensor here, whose name has no ending.
    unread = [n for n in content.tensors if not {n, n.removesuffix(".weight")} & read]
    if unread:
        raise CannotLoadError(
            f"{origin}: {len(unread)} tensors of its GGUF file have no place in the model "
            f"({some(unread)}); without them another model would be measured; "
            "name the folder that the file was made of"
        )
    if FREQUENCY_FACTORS in content.factors:
        _divide_frequencies(model, torch.from_numpy(content.factors[FREQUENCY_FACTORS]))


def gguf_tokenizer(location: ModelLocation) -> Any | None:
    """The tokenizer of a GGUF file; None of another place, or where transformers must build it."""
    if location.gguf_file is None:
        return None
    values = _content(location).values
    return build_tokenizer(values) if values.get(f"{KEY}model") in MODELS else None


def _content(location: ModelLocation) -> GgufContent:
    name = str(location.gguf_file)
    path = cached_file(location.id_or_path, name, revision=location.revision)
    return read_content(Path(str(path)))


def _divide_frequencies(model: Any, factors: torch.Tensor) -> None:
    """Divides rotary frequencies, where the configuration does not scale them already."""
    if model.config.rope_parameters["rope_type"] != "default":
        return
    for module in model.modules():
        for name in ("inv_freq", "original_inv_freq"):
            frequencies = getattr(module, name, None)
            if isinstance(frequencies, torch.Tensor):
                frequencies.div_(factors.to(frequencies.device))
