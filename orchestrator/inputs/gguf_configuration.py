"""What a GGUF file says of its model → a configuration of transformers; nothing is left unread.

transformers' own reader takes some of a file's keys and drops the rest, and a model that is made
without them is another one. Here each key of the architecture is read, or known not to change a
number, or the file is refused by the key's name. What they mean: llama.cpp's
`convert_hf_to_gguf.py` writes them and its `llama-model.cpp` reads them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.contract.gguf_content import FACTOR_TENSORS, FREQUENCY_FACTORS, GgufContent
from orchestrator.inputs.gguf_architectures import (
    ARCHITECTURES,
    READ_BY_TRANSFORMERS,
    GgufArchitecture,
)
from orchestrator.inputs.gguf_rope import RopeError, read_rope


class UnreadError(ValueError):
    """A file says what is not read here, or too little: which."""


@dataclass(frozen=True)
class GgufConfiguration:
    """A configuration for the model of a GGUF file.

    Attributes:
        values: what transformers' `AutoConfig.for_model` takes, `model_type` among it; None where
            transformers' own reading of the file is taken.
        contradictions: where the file says other than the model that it is held against, one text
            each; `values` have what the file says.
    """

    values: dict[str, Any] | None
    contradictions: tuple[str, ...] = ()


# What changes no number, and why.
_HARMLESS: dict[str, str] = {
    "vocab_size": "the embedding's rows are counted",
    "rope.scaling.finetuned": "says how it was trained",
    "tensor_data_layout": "says which converter wrote it",
}
# By what values converters say that there is no such thing.
_NOTHING: dict[str, Any] = {
    "attention.causal": True,
    "attention.clamp_kqv": 0.0,
    "attention.head_count": 0,
    "attention.max_alibi_bias": 0.0,
    "embedding_scale": 1.0,
    "expert_count": 0,
    "expert_used_count": 0,
    "feed_forward_length": 0,
    "leading_dense_block_count": 0,
    "logit_scale": 1.0,
    "nextn_predict_layers": 0,
    "residual_scale": 1.0,
}
# What a configuration says of how weights were kept, and of what the file's tensors decide.
_NOT_TAKEN = frozenset(
    {
        "architectures",
        "auto_map",
        "dtype",
        "partial_rotary_factor",
        "rope_local_base_freq",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "torch_dtype",
        "transformers_version",
    }
)
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
# Layers of the Gemmas that scale attention by the width of the model, the others by their heads'.
_WIDE_GEMMAS = {"gemma2": 46, "gemma3": 62}
_TOLERANCE = 1e-6  # files keep numbers in float32


def read_configuration(content: GgufContent, model: Mapping[str, Any] | None) -> GgufConfiguration:
    """The configuration that a file describes.

    Args:
        model: the configuration of the model that the file is held against, which fills what the
            file does not say; None where the file stands alone.

    Raises:
        UnreadError: the file says what is not read here, or too little.
    """
    name = content.architecture
    if name in READ_BY_TRANSFORMERS:
        return _read_by_transformers(content)
    architecture = ARCHITECTURES[name]
    types = (architecture.model_type, *architecture.model_types)
    if model is not None and model.get("model_type") not in types:
        model = None
    return _Reading(content, architecture, model).configuration()


class _Reading:
    """A file, while it is read: each key that is taken is crossed out."""

    def __init__(
        self, content: GgufContent, architecture: GgufArchitecture, model: Mapping[str, Any] | None
    ) -> None:
        self._content = content
        self._architecture = architecture
        self._model = model
        # With what transformers takes as given; of no model, where the file stands alone.
        self._usual = {} if model is None else _with_defaults(model)
        self._left = _own_values(content)
        self._said: dict[str, Any] = {}
        # Whether actors will divide the frequencies by a tensor of the file's.
        self._is_divided = False

    def configuration(self) -> GgufConfiguration:
        """All that the file says, each key taken once."""
        self._read_keys()
        self._read_window_pattern()
        self._read_tensors()
        self._read_rope()
        _check_read(self._content.architecture, self._left)
        if self._model is None:
            self._complete()
        differing = [name for name in self._said if self._contradicts(name)]
        contradictions = [*map(self._contradiction, differing)]
        if self._model is not None and self._is_divided:
            contradictions.append(FREQUENCY_FACTORS)
        window = self._usual.get("sliding_window")
        if window is not None and self._usual["model_type"] != self._architecture.model_type:
            # Mistral's, of which llama.cpp's Llama knows nothing.
            contradictions.append(f"no sliding_window, not {window}")
        self._say_tokens()
        kept = {k: v for k, v in (self._model or {}).items() if k not in _NOT_TAKEN}
        if "num_hidden_layers" in differing:
            kept.pop("layer_types", None)
        values = {**kept, **self._said, "model_type": self._architecture.model_type}
        return GgufConfiguration(values, tuple(contradictions))

    def _read_keys(self) -> None:
        must = self._architecture.keys
        for key, attribute in {**must, **self._architecture.optional_keys}.items():
            if key in self._left:
                self._say(attribute, _of_all_layers(key, self._left.pop(key)))
            elif key in must and self._model is None:
                raise UnreadError(f"no {self._content.architecture}.{key}")
        # A window of nothing is none.
        if self._said.get("sliding_window") == 0:
            self._said["sliding_window"] = None

    def _read_window_pattern(self) -> None:
        """Which layers see a window alone: one flag each, or every layer but each n-th."""
        pattern = self._left.pop("attention.sliding_window_pattern", None)
        if pattern is None:
            return
        if isinstance(pattern, int):
            layers = range(1, int(self._value("num_hidden_layers")) + 1)
            pattern = [bool(layer % pattern) for layer in layers]
        names = ["sliding_attention" if windowed else "full_attention" for windowed in pattern]
        self._say("layer_types", names)

    def _read_tensors(self) -> None:
        tensors = self._content.tensors
        embedding = tensors.get("token_embd.weight")
        self._said["vocab_size"] = embedding.shape[0] if embedding else 0
        self._said["tie_word_embeddings"] = "output.weight" not in tensors
        for attribute, tensor in self._architecture.flags.items():
            self._say(attribute, tensor in tensors)

    def _read_rope(self) -> None:
        kind = self._architecture.rope
        head = self._head_size()
        if self._left.pop("attention.value_length", head) != head:
            raise UnreadError(f"{self._content.architecture}.attention.value_length")
        # Where the head's size is no attribute, it is what the model's width makes.
        if self._left.get("attention.key_length") == head:
            del self._left["attention.key_length"]
        if kind == "none":
            return
        try:
            rope = read_rope(lambda key: self._left.pop(key, None), self._content.factors)
        except RopeError as error:
            raise UnreadError(str(error)) from None
        if kind != "partial" and rope.dimensions not in (None, head):
            raise UnreadError(f"{self._content.architecture}.rope.dimension_count")
        if kind == "by-layer" and rope.factors is not None:
            raise UnreadError(FREQUENCY_FACTORS)
        if kind != "by-layer" and rope.local_base is not None:
            raise UnreadError(f"{self._content.architecture}.rope.freq_base_swa")
        usual = self._usual.get("rope_parameters")
        own = rope.parameters(kind, head, usual)
        self._said["rope_parameters"] = own
        self._is_divided = rope.factors is not None and own.get("rope_type") == "default"
        if rope.original_length is not None and self._architecture.model_type == "phi3":
            self._say("original_max_position_embeddings", rope.original_length)

    def _complete(self) -> None:
        """What llama.cpp takes as given, where transformers would take another model's."""
        said, name = self._said, self._content.architecture
        sizes = {**self._architecture.optional_keys, **self._architecture.keys}.values()
        if "num_key_value_heads" in sizes:
            said.setdefault("num_key_value_heads", said["num_attention_heads"])
        if "head_dim" in sizes:
            said.setdefault("head_dim", self._head_size())
        if name in _WIDE_GEMMAS:
            wide = said["num_hidden_layers"] == _WIDE_GEMMAS[name]
            width = said["hidden_size"] // said["num_attention_heads"]
            said["query_pre_attn_scalar"] = width if wide else self._head_size()
        for attribute, value in self._architecture.alone.items():
            said.setdefault(attribute, value)

    def _say_tokens(self) -> None:
        """The tokens that end an answer: the file's beside the model's own."""
        ids = (self._content.values.get(f"tokenizer.ggml.{name}") for name in _ENDS)
        own = self._usual.get("eos_token_id")
        ends = {*(own if isinstance(own, list) else [own]), *ids} - {None}
        self._said["eos_token_id"] = sorted(ends) or None
        if self._model is None:
            self._said["bos_token_id"] = self._content.values.get("tokenizer.ggml.bos_token_id")
            self._said["pad_token_id"] = None

    def _head_size(self) -> int:
        known = self._said.get("head_dim") or self._usual.get("head_dim")
        if known:
            return int(known)
        width, heads = (
            self._value("hidden_size", "n_embd"),
            self._value("num_attention_heads", "n_head"),
        )
        return int(width) // int(heads or 1)

    def _value(self, *names: str) -> Any:
        found = (each.get(name) for name in names for each in (self._said, self._usual))
        return next((value for value in found if value is not None), None)

    def _say(self, attribute: str, value: Any) -> None:
        """Takes a value, or the model's own where they are the same but for rounding."""
        usual = self._usual.get(attribute)
        self._said[attribute] = usual if _same(value, usual) else value

    def _contradicts(self, attribute: str) -> bool:
        if attribute not in self._usual or attribute in ("vocab_size", "tie_word_embeddings"):
            return False
        return not _same(self._said[attribute], self._usual[attribute])

    def _contradiction(self, attribute: str) -> str:
        said, usual = self._said[attribute], self._usual[attribute]
        if isinstance(said, dict):
            parts = [key for key in {**said, **usual} if not _same(said.get(key), usual.get(key))]
            return f"{attribute} ({', '.join(parts)})"
        return attribute if isinstance(said, list) else f"{attribute} {said}, not {usual}"


def _read_by_transformers(content: GgufContent) -> GgufConfiguration:
    """Nothing, where transformers' reader knows each key of a file.

    Raises:
        UnreadError: a key that it drops.
    """
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    name = content.architecture
    known: dict[str, str | None] = GGUF_CONFIG_MAPPING[name.replace("-", "_")]  # type: ignore[assignment]
    read = {key for key, attribute in known.items() if attribute is not None}
    _check_read(name, {k: value for k, value in _own_values(content).items() if k not in read})
    if factors := FACTOR_TENSORS & content.tensors.keys():
        raise UnreadError(", ".join(sorted(factors)))
    return GgufConfiguration(None)


def _check_read(architecture: str, left: Mapping[str, Any]) -> None:
    """Refuses keys that nothing has read, unless they change no number.

    Args:
        left: less the architecture's name, with their values.

    Raises:
        UnreadError: names them.
    """
    unread = [
        f"{architecture}.{key}"
        for key, value in left.items()
        if key not in _HARMLESS and not (key in _NOTHING and value == _NOTHING[key])
    ]
    if unread:
        raise UnreadError(", ".join(sorted(unread)))


def _own_values(content: GgufContent) -> dict[str, Any]:
    """What is said under the architecture's name, less that name."""
    prefix = f"{content.architecture}."
    return {
        key.removeprefix(prefix): value
        for key, value in content.values.items()
        if key.startswith(prefix)
    }


def _with_defaults(model: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with what its class takes as given, in the newest spelling."""
    from transformers import AutoConfig

    return AutoConfig.for_model(**model).to_dict()


def _of_all_layers(key: str, value: Any) -> Any:
    """A value that may be said layer by layer.

    Raises:
        UnreadError: layers differ.
    """
    if not isinstance(value, list):
        return value
    if len(set(value)) != 1:
        raise UnreadError(f"{key}, which differs from layer to layer")
    return value[0]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_same(one.get(key), other.get(key)) for key in {**one, **other})
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=_TOLERANCE)
    return bool(one == other)
