"""Whether what was loaded is the checkpoint's model, and one that predicts the next token."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from actors.weights import parts_of
from orchestrator.contract.variant_errors import CannotLoadError

# Tokens to try a model on, the second half of which is exchanged.
_PROBE_TOKENS = 16
# Of a position's largest logit, for most positions. What is masked counts as nothing, but kernels
# that group tokens may round others with them, and a router's choice may hang on that.
_CAUSAL_TOLERANCE = 0.05
_NAMED = 3
# What attention once put in the place of masked scores, saved with the weights of that time.
_OLD_MASK = ".attn.masked_bias"


def check_weights(origin: str, loading: Mapping[str, Any]) -> None:
    """Refuses a model whose tensors are not all those of its files, and all of them.

    transformers fills what is missing with random numbers and goes on.

    Args:
        origin: what was loaded, for the message.
        loading: the loading information of transformers' `from_pretrained`.

    Raises:
        CannotLoadError: tensors are missing, left over or of another shape; names some.
    """
    mismatched = [entry[0] for entry in loading["mismatched_keys"]]
    problems = [
        f"{len(names)} tensors {what} ({some(names)})"
        for what, names in (
            ("are missing from its files", loading["missing_keys"]),
            ("have another shape than its config.json says", mismatched),
            (
                "have no place in the model that its config.json describes",
                [name for name in loading["unexpected_keys"] if not name.endswith(_OLD_MASK)],
            ),
        )
        if names
    ]
    if problems:
        raise CannotLoadError(
            f"{origin} is not whole: {', '.join(problems)}; fetch it again, or mend its config.json"
        )


def check_finite(origin: str, model: Any, remedy: str) -> None:
    """Refuses a model with infinite weights: a value beyond float16's range becomes one.

    Args:
        origin: what was loaded, for the message.
        remedy: what to do about it.

    Raises:
        CannotLoadError: names some of the tensors.
    """
    names = [
        name
        for name, parameter in model.named_parameters()
        if any(map(_holds_infinity, parts_of(parameter)))
    ]
    if names:
        raise CannotLoadError(
            f"{origin}: {len(names)} tensors have values beyond the range of float16 "
            f"({some(names)}); {remedy}"
        )


def _holds_infinity(tensor: torch.Tensor) -> bool:
    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32) or not tensor.numel():
        return False
    # Its extremes, without a copy: that would count as the model's own memory.
    return any(bool(extreme.isinf()) for extreme in torch.aminmax(tensor))


def some(names: Sequence[str]) -> str:
    """A few of many names, for a message."""
    chosen = sorted(names)
    return ", ".join(chosen[:_NAMED]) + (", …" if len(chosen) > _NAMED else "")


@torch.inference_mode()
def check_causal(origin: str, model: Any, device: torch.device) -> None:
    """Refuses a model that sees the tokens it is to predict.

    Args:
        origin: what was loaded, for the message.

    Raises:
        CannotLoadError: its logits change with later tokens.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(_PROBE_TOKENS, device=device) * (rows - 1) // _PROBE_TOKENS
    half = _PROBE_TOKENS // 2
    # Each token of the second half is another, by half of the vocabulary.
    other = torch.cat([ids[:half], (ids[half:] + rows // 2) % rows])
    with _each_token_by_itself(model):
        first, second = (
            model(input_ids=row.unsqueeze(0), use_cache=False).logits[0, :half].float()
            for row in (ids, other)
        )
    change = (first - second).abs().amax(dim=1) / first.abs().amax(dim=1)
    # Logits that are not numbers pass: they are told of where they are used.
    if change.median() > _CAUSAL_TOLERANCE:
        raise CannotLoadError(
            f"{origin} is no causal language model: its predictions depend on later tokens; "
            "name one that predicts the next token"
        )


@contextmanager
def _each_token_by_itself(model: Any) -> Iterator[None]:
    """Has LLM.int8 keep no column in half precision: it chooses them over the whole input, so that
    a later token moves the rounding of earlier ones.
    """
    states = [module.state for module in model.modules() if hasattr(module, "state")]
    thresholds = [(state, state.threshold) for state in states if hasattr(state, "threshold")]
    try:
        for state, _ in thresholds:
            state.threshold = 0.0
        yield
    finally:
        for state, threshold in thresholds:
            state.threshold = threshold
