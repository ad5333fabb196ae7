"""Logits of minus infinity, and the divergence of what they rule out by scipy's convention."""

import numpy as np
import torch
from scipy.special import rel_entr

from actors.token_measures import TokenMeasures


def ruled_out(vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two models' logits `[4, vocabulary]`: the tokens from the 601st on are always possible."""
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(4, vocabulary, generator=generator)
    q = p + 0.1 * torch.randn(4, vocabulary, generator=generator)
    never = -float("inf")
    # In the second position both rule out the same, whole blocks of a kernel among them.
    p[1, :600], q[1, :600] = never, never
    p[1, 701:-10], q[1, 701:-10] = never, never
    p[2, 5], q[3, 5] = never, never
    return p, q


def assert_as_by_scipy(found: TokenMeasures, p: torch.Tensor, q: torch.Tensor) -> None:
    one, other = (torch.softmax(x.double(), 1).numpy() for x in (p, q))
    expected = rel_entr(one, other).sum(1)
    backwards = rel_entr(other, one).sum(1)
    assert np.isinf(expected).tolist() == [False, False, False, True]
    assert np.isinf(backwards).tolist() == [False, False, True, False]
    np.testing.assert_allclose(found.kl.cpu().numpy(), expected, atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose(found.reverse_kl.cpu().numpy(), backwards, atol=1e-6, rtol=1e-5)
