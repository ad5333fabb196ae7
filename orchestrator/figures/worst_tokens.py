"""A variant's tokens and their texts → those that differ most from the reference. Pure."""

import numpy as np
import pyarrow as pa

from orchestrator.comparison_schema import WorstToken
from orchestrator.contract.tables import WORST_TOKENS
from orchestrator.storage.tokens import TokenTable


def worst_tokens_of(tokens: TokenTable, texts: pa.Table) -> list[WorstToken]:
    """The tokens with the largest KL, in order; of equal ones the first.

    Args:
        tokens: a variant's, of which `texts` has at least as many of each shard.
        texts: the variant's rows of the table `worst_tokens`.
    """
    kl = tokens.column("kl")
    places = np.argsort(-kl, kind="stable")[:WORST_TOKENS]
    numbers = {
        "kl": kl[places],
        "reference_probability": np.exp(
            -tokens.column("reference_negative_log_likelihood")[places]
        ),
        "probability": np.exp(-tokens.column("negative_log_likelihood")[places]),
        "reference_top_probability": tokens.column("reference_top_probability")[places],
        "top_probability": tokens.column("top_probability")[places],
    }
    windows = tokens.windows[np.searchsorted(np.cumsum(tokens.counts), places, side="right")]
    text_of = {(row["window"], row["position"]): row for row in texts.to_pylist()}
    found = []
    keys = zip(windows.tolist(), tokens.positions[places].tolist(), strict=True)
    for rank, key in enumerate(keys):
        text = text_of[key]
        found.append(
            WorstToken(
                window=text["window"],
                position=text["position"],
                context=text["context"],
                token=text["token_text"],
                reference_top_token=text["reference_top_token_text"],
                top_token=text["top_token_text"],
                **{name: float(values[rank]) for name, values in numbers.items()},
            )
        )
    return found
