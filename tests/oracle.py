"""An independent oracle for the perplexity protocols: a plain loop, one window at a time.

Written from the definitions of the protocols alone. It imports nothing of the packages under test.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bitsandbytes.functional import dequantize_4bit
from scipy.special import log_softmax
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from tests.sample_rows import sample_pages

PROTOCOLS = ("concat", "strided", "llamacpp", "pages", "rows")
VARIANTS = ("fp32", "fp16", "bf16", "int8", "nf4", "nf4-dq", "fp4")

_NAMED_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_BITSANDBYTES_PARAMETERS = ("Params4bit", "Int8Params")


@dataclass(frozen=True)
class OraclePerplexity:
    """What a protocol gives; negative_log_likelihood is the sum over scored tokens, in nats."""

    perplexity: float
    word_perplexity: float
    bits_per_byte: float
    scored_tokens: int
    windows: int
    negative_log_likelihood: float


@dataclass(frozen=True)
class Window:
    """Ids for the model; the output at `first_output` predicts targets[0], the next targets[1]."""

    inputs: list[int]
    first_output: int
    targets: list[int]


@dataclass(frozen=True)
class Plan:
    """The windows of a protocol on a text, and the text's size."""

    windows: list[Window]
    text_tokens: int
    words: int
    bytes: int


def raw_text(rows: list[str]) -> str:
    """The original file: the rows one after another, a blank row standing for " \\n"."""
    return "".join(" \n" if row.strip() == "" else row for row in rows)


def plan(
    tokenizer: Any, rows: list[str], protocol: str, *, length: int, stride: int | None = None
) -> Plan:
    """Everything of a protocol but the model; `pages` knows the sample rows alone."""
    if length < 2:
        raise ValueError("length must be at least 2")
    if protocol == "rows":
        return _rows_plan(tokenizer, rows, length)
    if protocol == "pages":
        return _pages_plan(tokenizer, sample_pages(), length)
    if protocol == "llamacpp":
        text = raw_text(rows).removesuffix("\n")
        windows = list(_llamacpp_windows(_ids(tokenizer, text), length, _added_bos(tokenizer)))
    elif protocol == "concat":
        text = "\n\n".join(rows)
        windows = list(_concat_windows(_ids(tokenizer, text), length))
    elif protocol == "strided":
        if stride is None or stride < 1:
            raise ValueError("strided needs a stride of at least 1")
        text = "\n\n".join(rows)
        windows = list(_strided_windows(_ids(tokenizer, text), length, stride))
    else:
        raise ValueError(f"no such protocol: {protocol}")
    return Plan(windows, len(_bare_ids(tokenizer, text)), len(text.split()), len(text.encode()))


def load_model(
    model_folder: Path, variant: str = "fp16", compute_dtype: torch.dtype = torch.float32
) -> Any:
    """The model of a variant on the CPU, its computations in compute_dtype."""
    if variant in _NAMED_DTYPES:
        model: Any = AutoModelForCausalLM.from_pretrained(
            model_folder,
            dtype=_NAMED_DTYPES[variant],
            device_map={"": "cpu"},
            **_attention(model_folder),
        )
        return model.to(compute_dtype).eval()
    if variant == "int8":
        quantization: Any = BitsAndBytesConfig(load_in_8bit=True)
    elif variant in VARIANTS:
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=variant.removesuffix("-dq"),
            bnb_4bit_use_double_quant=variant.endswith("-dq"),
            bnb_4bit_compute_dtype=compute_dtype,
        )
    else:
        raise ValueError(f"no such variant: {variant}")
    model = AutoModelForCausalLM.from_pretrained(
        model_folder,
        dtype=torch.float16,
        device_map={"": "cpu"},
        quantization_config=quantization,
        **_attention(model_folder),
    )
    if variant != "int8":
        _expand(model)
    for parameter in model.parameters():
        quantized = type(parameter).__name__ in _BITSANDBYTES_PARAMETERS
        if parameter.is_floating_point() and not quantized:
            parameter.data = parameter.data.to(compute_dtype)
    return model.eval()


def _attention(model_folder: Path) -> dict[str, str]:
    """Fused attention leaves out the soft cap that Gemma 2's has."""
    capped = getattr(AutoConfig.from_pretrained(model_folder), "attn_logit_softcapping", None)
    return {} if capped is None else {"attn_implementation": "eager"}


def _expand(model: Any) -> None:
    """Puts plain layers in the place of 4-bit ones, with the weights that they stand for.

    bitsandbytes' own multiplication depends on the processor.
    """
    for name, module in list(model.named_modules()):
        if not hasattr(getattr(module, "weight", None), "quant_state"):
            continue
        weight = expanded(module)
        plain = torch.nn.Linear(*reversed(weight.shape), bias=module.bias is not None)
        plain.weight.data = weight
        if module.bias is not None:
            plain.bias.data = module.bias.data
        model.set_submodule(name, plain)


def expanded(layer: Any) -> torch.Tensor:
    """The weights that a 4-bit layer stands for, `[out, in]` in float32."""
    state = copy(layer.weight.quant_state)
    state.dtype = torch.float32
    return dequantize_4bit(layer.weight.data, state)


def negative_log_likelihood(model: Any, window: Window) -> float:
    """The sum over a window's targets, in nats."""
    with torch.no_grad():
        logits = model(torch.tensor([window.inputs])).logits[0].double()
    log_probabilities = torch.log_softmax(logits, dim=-1)
    total = 0.0
    for offset, target in enumerate(window.targets):
        total -= float(log_probabilities[window.first_output + offset, target])
    return total


def perplexities(
    model_folder: Path,
    rows: list[str],
    protocol: str,
    *,
    variant: str = "fp16",
    length: int,
    stride: int | None = None,
    compute_dtype: torch.dtype = torch.float32,
) -> OraclePerplexity:
    """The perplexity of a model on rows of WikiText, by a protocol."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    planned = plan(tokenizer, rows, protocol, length=length, stride=stride)
    scored = sum(len(window.targets) for window in planned.windows)
    if scored == 0:
        raise ValueError("the text is too short: no token is scored")
    model = load_model(model_folder, variant, compute_dtype)
    total = sum(negative_log_likelihood(model, window) for window in planned.windows)
    text_total = total / scored * planned.text_tokens
    return OraclePerplexity(
        perplexity=math.exp(total / scored),
        word_perplexity=math.exp(text_total / planned.words),
        bits_per_byte=text_total / planned.bytes / math.log(2),
        scored_tokens=scored,
        windows=len(planned.windows),
        negative_log_likelihood=total,
    )


def _ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text with the special tokens that the tokenizer adds."""
    return list(tokenizer(text).input_ids)


def _bare_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text without special tokens."""
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def _added_bos(tokenizer: Any) -> int | None:
    """The bos id if the tokenizer puts it before each text."""
    bos: int | None = tokenizer.bos_token_id
    return bos if bos is not None and _ids(tokenizer, "x")[0] == bos else None


def _concat_windows(ids: list[int], length: int) -> Iterator[Window]:
    for begin in range(0, len(ids), length):
        window = ids[begin : begin + length]
        if len(window) >= 2:
            yield Window(window, 0, window[1:])


def _strided_windows(ids: list[int], length: int, stride: int) -> Iterator[Window]:
    begin = previous_end = 0
    while True:
        end = min(begin + length, len(ids))
        # The first id of a window has no context, so it is not scored even if it is new.
        first_scored = max(previous_end, begin + 1)
        if first_scored < end:
            yield Window(ids[begin:end], first_scored - 1 - begin, ids[first_scored:end])
        if end == len(ids):
            return
        begin, previous_end = begin + stride, end


def _llamacpp_windows(ids: list[int], length: int, bos: int | None) -> Iterator[Window]:
    for number in range(len(ids) // length):
        window = ids[number * length : (number + 1) * length]
        if bos is not None:
            window[0] = bos
        yield Window(window, length // 2, window[length // 2 + 1 :])


def _pages_plan(tokenizer: Any, pages: list[dict[str, str]], length: int) -> Plan:
    prefix: int = tokenizer.eos_token_id
    if tokenizer.bos_token_id is not None:
        prefix = tokenizer.bos_token_id
    windows: list[Window] = []
    text_tokens = words = size = 0
    for entry in pages:
        page = entry["page"]
        tokens = _bare_ids(tokenizer, entry["detokenized"])
        text_tokens += len(tokens)
        words += len(re.split(r"\s+", page))
        size += len(page.encode())
        if tokens:
            windows.append(
                Window([prefix, *tokens[: length - 1]][: len(tokens)], 0, tokens[:length])
            )
        begin = length
        while begin < len(tokens):
            end = min(begin + length, len(tokens))
            inputs = tokens[end - 1 - length : end - 1]
            windows.append(Window(inputs, length - (end - begin), tokens[begin:end]))
            begin = end
    return Plan(windows, text_tokens, words, size)


def _rows_plan(tokenizer: Any, rows: list[str], length: int) -> Plan:
    windows: list[Window] = []
    text_tokens = words = size = 0
    for row in rows:
        if row.strip() == "":
            continue
        ids = _ids(tokenizer, row)
        if len(ids) < 2:
            continue
        text_tokens += len(_bare_ids(tokenizer, row))
        words += len(row.split())
        size += len(row.encode())
        windows.append(Window(ids[:length], 0, ids[1:length]))
    return Plan(windows, text_tokens, words, size)


def scored_logits(model_folder: Path, variant: str, windows: Sequence[Any]) -> list[Any]:
    """A variant's whole logits of each window's scored positions: float64 arrays.

    Args:
        windows: with `input_ids`, `target_ids`, and the position `start` that predicts the first.
    """
    model = load_model(model_folder, variant)
    found = []
    for window in windows:
        with torch.no_grad():
            logits = model(torch.tensor([window.input_ids])).logits[0].double().numpy()
        found.append(logits[window.start : window.start + len(window.target_ids)])
    return found


def token_measures(p_logits: Any, q_logits: Any, targets: list[int]) -> dict[str, Any]:
    """What is measured of each scored token, by definition: scipy in float64."""
    p, q = (log_softmax(np.asarray(x, dtype=np.float64), axis=1) for x in (p_logits, q_logits))
    rows = np.arange(len(targets))
    return {
        "kl": (np.exp(p) * (p - q)).sum(1),
        "reverse_kl": (np.exp(q) * (q - p)).sum(1),
        "reference_negative_log_likelihood": -p[rows, targets],
        "candidate_negative_log_likelihood": -q[rows, targets],
        "probability_change": np.exp(q[rows, targets]) - np.exp(p[rows, targets]),
        "reference_top_token": p.argmax(1),
        "candidate_top_token": q.argmax(1),
        "reference_top_probability": np.exp(p.max(1)),
        "candidate_top_probability": np.exp(q.max(1)),
        "same_top_token": p.argmax(1) == q.argmax(1),
    }
