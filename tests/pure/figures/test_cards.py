"""What fits into a card, by arithmetic."""

import pytest

from orchestrator.comparison_schema import CARD_RESERVED_BYTES
from orchestrator.figures.cards import fits_of

GIB = 2**30
# Of Mistral 7B's shape: 32 layers, 8 heads of 128 for keys and as many for values, 2 bytes each.
CACHE_BYTES = 32 * 2 * 8 * 128 * 2


def test_weights_cache_and_what_is_kept_fill_a_card_and_no_more() -> None:
    size = 4 * GIB
    for card in fits_of(size, CACHE_BYTES, None):
        assert card.fits and card.context_tokens is not None and not card.is_whole
        used = size + CARD_RESERVED_BYTES + card.context_tokens * CACHE_BYTES
        assert used <= card.card_gib * GIB < used + CACHE_BYTES
    assert fits_of(size, CACHE_BYTES, None)[0].context_tokens == 22528


def test_no_more_tokens_than_the_model_takes() -> None:
    cards = {card.card_gib: card for card in fits_of(13 * GIB, CACHE_BYTES, 32_768)}
    assert not cards[8].fits and cards[8].context_tokens is None
    assert (cards[16].context_tokens, cards[16].is_whole) == (14_336, False)
    assert (cards[24].context_tokens, cards[24].is_whole) == (32_768, True)


@pytest.mark.parametrize("cache_bytes", [None, 0])
def test_without_a_cache_by_token_it_is_the_weights_that_fit_or_do_not(
    cache_bytes: int | None,
) -> None:
    cards = fits_of(13 * GIB, cache_bytes, 4096)
    assert [card.fits for card in cards] == [False, False, True, True, True, True, True]
    assert all(card.context_tokens is None and not card.is_whole for card in cards)


def test_of_a_model_that_is_not_loaded_nothing_is_known() -> None:
    assert fits_of(None, CACHE_BYTES, 4096) == []
