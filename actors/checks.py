"""Whether what was loaded is the checkpoint's model, and one that predicts the next token."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from orchestrator.contract.errors import CannotLoadError

# Tokens to try a model on, the second half of which is exchanged.
_PROBE_TOKENS = 16
# Of the largest logit: what is masked counts as nothing at all. LLM.int8 alone chooses the columns
# that it keeps in half precision over the whole input, which moves its rounding.
_CAUSAL_TOLERANCE = 1e-3
_CAUSAL_TOLERANCE_INT8 = 0.05
_NAMED = 3


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
        f"{len(names)} tensors {what} ({_some(names)})"
        for what, names in (
            ("are missing from its files", loading["missing_keys"]),
            ("have another shape than its config.json says", mismatched),
            (
                "have no place in the model that its config.json describes",
                loading["unexpected_keys"],
            ),
        )
        if names
    ]
    if problems:
        raise CannotLoadError(
            f"{origin} is not whole: {', '.join(problems)}; fetch it again, or mend its config.json"
        )


def _some(names: Sequence[str]) -> str:
    chosen = sorted(names)
    return ", ".join(chosen[:_NAMED]) + (", …" if len(chosen) > _NAMED else "")


@torch.inference_mode()
def check_causal(origin: str, model: Any, device: torch.device, *, int8: bool) -> None:
    """Refuses a model that sees the tokens it is to predict.

    Args:
        origin: what was loaded, for the message.
        int8: whether it is held as LLM.int8.

    Raises:
        CannotLoadError: its logits change with later tokens.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(_PROBE_TOKENS, device=device) * (rows - 1) // _PROBE_TOKENS
    half = _PROBE_TOKENS // 2
    # Each token of the second half is another, by half of the vocabulary.
    other = torch.cat([ids[:half], (ids[half:] + rows // 2) % rows])
    first, second = (
        model(input_ids=row.unsqueeze(0), use_cache=False).logits[0, :half].float()
        for row in (ids, other)
    )
    # Written so that logits that are not numbers pass: those are told of where they are used.
    tolerance = _CAUSAL_TOLERANCE_INT8 if int8 else _CAUSAL_TOLERANCE
    if (first - second).abs().max() > tolerance * first.abs().max():
        raise CannotLoadError(
            f"{origin} is no causal language model: its predictions depend on later tokens; "
            "name one that predicts the next token"
        )
