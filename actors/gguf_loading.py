"""A GGUF file → a model, with all that is in the file."""

import json
from typing import Any

import torch
from transformers import AutoConfig, GgufConfig
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
)
from transformers.utils.hub import cached_file

from orchestrator.contract.gguf_tokenizer import KEY, MODELS, build_tokenizer
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variant_errors import CannotLoadError

_NAMED = 3
# By which rotary frequencies are divided: of Llama 3.1 and later.
_FREQUENCY_FACTORS = "rope_freqs.weight"
# What the configuration has taken in already: factors of frequencies for long and short inputs.
_IN_CONFIGURATION = frozenset({"rope_factors_long.weight", "rope_factors_short.weight"})


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
    reader = _reader(location)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    architecture = reader.fields["general.architecture"].contents()
    processor: Any = TENSOR_PROCESSORS.get(architecture, TensorProcessor)
    read = {
        *get_gguf_hf_weights_map(model, processor(vars(model.config))),
        *_IN_CONFIGURATION,
        _FREQUENCY_FACTORS,
    }
    if architecture == "gpt2":
        read.add("output.weight")  # its processor takes it by name
    # Experts of a layer are one tensor here, whose name has no ending.
    unread = sorted(n for n in tensors if not {n, n.removesuffix(".weight")} & read)
    if unread:
        more = ", …" if len(unread) > _NAMED else ""
        raise CannotLoadError(
            f"{origin}: {len(unread)} tensors of its GGUF file have no place in the model "
            f"({', '.join(unread[:_NAMED])}{more}); without them another model would be measured; "
            "name the folder that the file was made of"
        )
    if _FREQUENCY_FACTORS in tensors:
        _divide_frequencies(model, torch.from_numpy(tensors[_FREQUENCY_FACTORS].data.copy()))


def gguf_tokenizer(location: ModelLocation) -> Any | None:
    """The tokenizer of a GGUF file; None of another place, or where transformers must build it."""
    if location.gguf_file is None:
        return None
    fields = _reader(location).fields
    model = fields.get(f"{KEY}model")
    if model is None or model.contents() not in MODELS:
        return None
    return build_tokenizer({name: field.contents() for name, field in fields.items()})


def _reader(location: ModelLocation) -> Any:
    import gguf

    name = str(location.gguf_file)
    path = cached_file(location.id_or_path, name, revision=location.revision)
    return gguf.GGUFReader(str(path))


def _divide_frequencies(model: Any, factors: torch.Tensor) -> None:
    """Divides rotary frequencies, where the configuration does not scale them already."""
    if model.config.rope_parameters["rope_type"] != "default":
        return
    for module in model.modules():
        for name in ("inv_freq", "original_inv_freq"):
            frequencies = getattr(module, name, None)
            if isinstance(frequencies, torch.Tensor):
                frequencies.div_(factors.to(frequencies.device))
