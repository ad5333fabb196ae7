"""Whether two models mean the same by a token's id: without that, their divergence says nothing."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.contract.exchange import Reference
from orchestrator.contract.variant_errors import IncomparableError


def tokens_by_id(tokenizer: Any) -> NDArray[Any]:
    """A tokenizer's tokens, the added ones included, by id: uint8, a JSON list, "" for none."""
    ids: dict[str, int] = tokenizer.get_vocab()
    tokens = [""] * (max(ids.values(), default=-1) + 1)
    for token, number in ids.items():
        tokens[number] = token
    return np.frombuffer(json.dumps(tokens).encode(), dtype=np.uint8)


def check_vocabulary(
    variant: str, reference: Reference, vocabulary: int, tokens: NDArray[Any]
) -> None:
    """Refuses to hold a candidate against a reference of other tokens.

    Ids that are no token of the reference's are in no window: what a candidate calls them is its
    own matter, and whether it has logits of them. GGUF files give each row of a padded embedding a
    name.

    Args:
        variant: the candidate's name.
        vocabulary: how many tokens the candidate's logits are over.
        tokens: the candidate's, as `tokens_by_id` gives them.

    Raises:
        IncomparableError: an id has another token, or no logit; says which.
    """
    problem = None
    if not np.array_equal(reference.tokens, tokens):
        problem = _difference(reference, tokens)
    if problem is None and vocabulary < reference.vocabulary:
        beyond = _tokens(reference.tokens)[vocabulary : reference.vocabulary]
        named = [vocabulary + number for number, token in enumerate(beyond) if token]
        if named:
            problem = f"it has logits of {vocabulary} tokens, not of token {named[0]}"
    if problem is None:
        return
    raise IncomparableError(
        f"variant {variant} cannot be held against the reference: {problem}; "
        "compare models that share a tokenizer"
    )


def _tokens(kept: NDArray[Any]) -> list[str]:
    found: list[str] = json.loads(kept.tobytes())
    return found


def _difference(reference: Reference, candidate: NDArray[Any]) -> str | None:
    one, other = _tokens(reference.tokens), _tokens(candidate)
    # Beyond its logits a tokenizer may name what the model does not know.
    one = one[: reference.vocabulary]
    other += [""] * (len(one) - len(other))
    differing = [number for number, token in enumerate(one) if token and token != other[number]]
    if not differing:
        return None
    first = differing[0]
    return (
        f"its tokenizer differs from the reference's in {len(differing)} of {len(one)} tokens: "
        f"{first} is {_shown(other[first])}, to the reference {_shown(one[first])}"
    )


def _shown(token: str) -> str:
    return repr(token) if token else "no token"
