"""The tokenizer that a GGUF file describes.

transformers builds one too, but never reads how text is split before it is merged
(`tokenizer.ggml.pre`), nor whether a text begins with a token of its own, and takes the first
token of Llama's for its last.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY = "tokenizer.ggml."
_CONTROL, _USER_DEFINED = 3, 4  # of llama.cpp's types of tokens
_SPACE = "▁"

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Split:
    """How text is split before bytes are merged.

    Attributes:
        pattern: of what stays together; None for that of GPT-2.
        digits: whether each stands alone, whatever the pattern says.
        composed: whether text is normalized to composed characters (NFC) first.
        whole: whether a piece that is a token is not merged but taken.
        bos: whether a text begins with a token of its own, where the file does not say.
    """

    pattern: str | None = None
    digits: bool = False
    composed: bool = False
    whole: bool = False
    bos: bool = False


_GPT2 = Split()
_EACH_DIGIT = Split(digits=True)
_LLAMA3 = Split(_WORDS + r"\p{N}{1,3}" + _REST, whole=True, bos=True)
# By `tokenizer.ggml.pre`, as the tokenizers of the models that it names split.
SPLITS: dict[str, Split] = {
    "default": _GPT2,
    "gpt-2": _GPT2,
    "mpt": _GPT2,
    "olmo": _GPT2,
    "phi-2": _GPT2,
    "refact": _EACH_DIGIT,
    "smollm": _EACH_DIGIT,
    "starcoder": _EACH_DIGIT,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "qwen2": Split(_WORDS + r"\p{N}" + _REST, composed=True),
    "tekken": Split(_TEKKEN, whole=True, bos=True),
}


def build_tokenizer(values: Mapping[str, Any]) -> Any:
    """The tokenizer of a file's metadata, whose model is one of `MODELS`.

    Where the way that it splits is not one of `SPLITS`, it can turn tokens into text alone.

    Returns:
        A `PreTrainedTokenizerFast`, its chat template included.
    """
    from transformers import PreTrainedTokenizerFast

    own = {key.removeprefix(KEY): value for key, value in values.items()}
    tokenizer = MODELS[own["model"]](own)
    _add_tokens(tokenizer, own)
    split = (
        SPLITS.get(own.get("pre", "default"), _GPT2) if own["model"] == "gpt2" else Split(bos=True)
    )
    ends = {
        "bos": _token(own, "bos") if own.get("add_bos_token", split.bos) else None,
        "eos": _token(own, "eos") if own.get("add_eos_token", False) else None,
    }
    _set_ends(tokenizer, **ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_token(own, "bos"),
        eos_token=_token(own, "eos"),
        unk_token=_token(own, "unknown"),
        pad_token=_token(own, "padding"),
        chat_template=own.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
    )


def _of_bytes(own: Mapping[str, Any]) -> Any:
    """Merges of bytes (GPT-2 and what came of it)."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    split = SPLITS.get(own.get("pre", "default"), _GPT2)
    merges = [tuple(merge.split(" ")) for merge in own["merges"]]
    tokenizer = Tokenizer(models.BPE(_numbers(own), merges, ignore_merges=split.whole))
    steps: list[Any] = []
    if split.digits:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    if split.pattern is not None:
        steps.append(pre_tokenizers.Split(Regex(split.pattern), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split.pattern is None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    if split.composed:
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def _of_pieces(own: Mapping[str, Any]) -> Any:
    """SentencePiece's merges: of two pieces that are neighbours, what has the best score."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    numbers = _numbers(own)
    scores = dict(zip(own["tokens"], own["scores"], strict=True))
    merges = [
        (-scores[token], numbers[token[:at]], numbers[token[at:]], token[:at], token[at:])
        for token in numbers
        for at in range(1, len(token))
        if token[:at] in numbers and token[at:] in numbers
    ]
    unknown = _token(own, "unknown")
    tokenizer = Tokenizer(
        models.BPE(
            numbers,
            [(left, right) for *_, left, right in sorted(merges)],
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefixed = own.get("add_space_prefix", True)
    prefix = [normalizers.Prepend(_SPACE)] if prefixed else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", _SPACE)])
    strip = [decoders.Strip(" ", left=1)] if prefixed else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return tokenizer


MODELS = {"gpt2": _of_bytes, "llama": _of_pieces}


def _numbers(own: Mapping[str, Any]) -> dict[str, int]:
    return {token: number for number, token in enumerate(own["tokens"])}


def _token(own: Mapping[str, Any], name: str) -> str | None:
    number = own.get(f"{name}_token_id")
    return None if number is None else str(own["tokens"][number])


def _add_tokens(tokenizer: Any, own: Mapping[str, Any]) -> None:
    """Has tokens that are no text of their own be found whole."""
    from tokenizers import AddedToken

    types = own.get("token_type", [])
    for token, kind in zip(own["tokens"], types, strict=False):
        if kind in (_CONTROL, _USER_DEFINED):
            added = AddedToken(token, normalized=False, special=kind == _CONTROL)
            (tokenizer.add_special_tokens if kind == _CONTROL else tokenizer.add_tokens)([added])


def _set_ends(tokenizer: Any, bos: str | None, eos: str | None) -> None:
    """Has a text begin and end with tokens of its own."""
    from tokenizers.processors import TemplateProcessing

    if bos is None and eos is None:
        return
    before, after = ([] if token is None else [token] for token in (bos, eos))
    tokenizer.post_processor = TemplateProcessing(
        single=[*before, "$A", *after],
        pair=[*before, "$A", *after, *before, "$B", *after],
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (*before, *after)],
    )
