"""Whether two models mean the same by a token's id: without that, their divergence says nothing."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.contract.errors import IncomparableError
from orchestrator.contract.exchange import Reference


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

    Args:
        variant: the candidate's name.
        vocabulary: how many tokens the candidate's logits are over.
        tokens: the candidate's, as `tokens_by_id` gives them.

    Raises:
        IncomparableError: an id has another token, or there are more logits; says which.
    """
    if not np.array_equal(reference.tokens, tokens):
        problem = _difference(reference.tokens, tokens)
    elif reference.vocabulary != vocabulary:
        problem = (
            f"its logits are over {vocabulary} tokens, the reference's over {reference.vocabulary}"
        )
    else:
        return
    raise IncomparableError(
        f"variant {variant} cannot be held against the reference: {problem}; "
        "compare models that share a tokenizer"
    )


def _difference(reference: NDArray[Any], candidate: NDArray[Any]) -> str:
    one, other = (json.loads(tokens.tobytes()) for tokens in (reference, candidate))
    longest = max(len(one), len(other))
    for tokens in (one, other):
        tokens += [""] * (longest - len(tokens))
    differing = [number for number in range(longest) if one[number] != other[number]]
    first = differing[0]
    return (
        f"its tokenizer differs from the reference's in {len(differing)} of {longest} tokens: "
        f"{first} is {_shown(other[first])}, to the reference {_shown(one[first])}"
    )


def _shown(token: str) -> str:
    return repr(token) if token else "no token"
