"""What a variant takes, by arithmetic → the memories of cards that it fits into. Pure."""

from orchestrator.comparison_schema import CARD_RESERVED_BYTES, CARDS_GIB, CardFit


def fits_of(
    size_bytes: int | None, cache_bytes_per_token: int | None, maximum_length: int | None
) -> list[CardFit]:
    """How long a text each card takes beside the weights, one at a time.

    Args:
        size_bytes: of the weights in their own format; without it nothing is known.
        cache_bytes_per_token: of keys and values, for each token before it; None where the cache
            does not grow so, or is not known.
        maximum_length: the most positions that the architecture takes, in tokens.
    """
    if size_bytes is None:
        return []
    return [_fit(card, size_bytes, cache_bytes_per_token, maximum_length) for card in CARDS_GIB]


def _fit(
    card: int, size_bytes: int, cache_bytes_per_token: int | None, maximum_length: int | None
) -> CardFit:
    free_bytes = card * 2**30 - CARD_RESERVED_BYTES - size_bytes
    if free_bytes < 0:
        return CardFit(card_gib=card, fits=False, context_tokens=None, is_whole=False)
    if not cache_bytes_per_token:
        return CardFit(card_gib=card, fits=True, context_tokens=None, is_whole=False)
    tokens = free_bytes // cache_bytes_per_token
    is_whole = maximum_length is not None and tokens >= maximum_length
    return CardFit(
        card_gib=card,
        fits=tokens > 0,
        context_tokens=maximum_length if is_whole else tokens,
        is_whole=is_whole,
    )
