"""Whether a GGUF file's tokenizer can be built as the file says, so that it may cut texts."""

from collections.abc import Mapping
from typing import Any

from orchestrator.contract.gguf_tokenizer import KEY, MODELS, SPLITS
from orchestrator.inputs.gguf_configuration import UnreadError

_READ = frozenset(
    {
        "add_bos_token",
        "add_eos_token",
        "add_space_prefix",
        "bos_token_id",
        "eos_token_id",
        "merges",
        "model",
        "padding_token_id",
        "pre",
        "scores",
        "token_type",
        "tokens",
        "unknown_token_id",
    }
)
# Tokens that end an answer (which the configuration takes), fill in the middle of code, or serve
# models that predict no next token.
_HARMLESS = frozenset(
    {
        "cls_token_id",
        "eom_token_id",
        "eot_token_id",
        "mask_token_id",
        "middle_token_id",
        "prefix_token_id",
        "seperator_token_id",
        "suffix_token_id",
        "token_type_count",
    }
)
# Harmless where they say no.
_NOT_DONE = frozenset({"add_sep_token", "precompiled_charsmap", "remove_extra_whitespaces"})


def check_tokenizer(values: Mapping[str, Any]) -> None:
    """Refuses a file whose tokenizer cannot be built as it says.

    Raises:
        UnreadError: names what is not read here.
    """
    kind = values.get(f"{KEY}model")
    if kind not in MODELS:
        raise UnreadError(f"{KEY}model '{kind}'")
    if kind == "gpt2" and values.get(f"{KEY}pre", "default") not in SPLITS:
        raise UnreadError(f"{KEY}pre '{values[f'{KEY}pre']}'")
    for key, value in values.items():
        name = key.removeprefix(KEY)
        if name == key or name in _READ | _HARMLESS or name.startswith("fim_"):
            continue
        if name in _NOT_DONE and not value:
            continue
        raise UnreadError(key)
