"""Two models' logits → what differs, token by token. Pure torch.

KL(reference ‖ candidate) = Σ_v p(v) · (ln p(v) - ln q(v)) over the whole vocabulary, p the
reference's probabilities and q the candidate's, in float32. It is added up as
Σ_v q(v) - p(v) - p(v) · (ln q(v) - ln p(v)), which is the same since both sum to 1: no term is
negative but by its own rounding, and an error in either normalizer cancels to first order, where in
the plain form the rounding of the two shows as a KL of up to 1e-6 of either sign. What is left may
put a token a hair below 0 (-1.6e-8 was seen). KL(candidate ‖ reference) likewise.

A token that a model rules out, by a logit of minus infinity, has a probability of 0: 0 · ln 0 is 0,
and the divergence from one that does not rule it out is infinite.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields
from importlib.util import find_spec

import torch

from actors.token_measures import TokenMeasures

# The most memory that the logits of both models and what is made of them may take at once.
WORKSPACE_BYTES = 208 * 2**20
# Of one position and token, at most, in plain operations: both log-probabilities, their
# difference, and what is between them, in float32.
BYTES_PER_LOGIT = 5 * 4
# Larger than any difference of finite log-probabilities; nothing times it is nothing.
_NO_PROBABILITY = 1e30
# The logits in float32, and their exponentials.
_LIKELIHOOD_BYTES_PER_LOGIT = 2 * 4

Logits = Callable[[slice], torch.Tensor]


def chunks(positions: int, vocabulary: int, bytes_per_logit: int) -> Iterator[slice]:
    """Stretches of positions whose logits, with what is made of them, fit the workspace."""
    step = max(1, WORKSPACE_BYTES // max(1, bytes_per_logit * vocabulary))
    # Of no position there is one stretch, which is empty.
    for first in range(0, max(1, positions), step):
        yield slice(first, min(first + step, positions))


def compare_positions(
    reference: Logits,
    candidate: Logits,
    targets: torch.Tensor,
    vocabulary: int,
    logit_bytes: int,
) -> TokenMeasures:
    """Holds two models against each other, a chunk of positions at a time.

    Args:
        reference, candidate: positions → logits `[positions, vocabulary]`, any floating dtype.
        targets: int64 `[positions]`, the true tokens.
        vocabulary: how many tokens there are.
        logit_bytes: what making both models' logits takes, of one position and token.
    """
    compare, workspace = _kernel_for(targets.device)
    bytes_per_logit = logit_bytes + workspace
    parts = [
        compare(reference(chunk), candidate(chunk), targets[chunk])
        for chunk in chunks(len(targets), vocabulary, bytes_per_logit)
    ]
    names = [field.name for field in fields(TokenMeasures)]
    return TokenMeasures(
        **{name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    )


def negative_log_likelihoods(
    logits: Logits, targets: torch.Tensor, vocabulary: int, logit_bytes: int
) -> torch.Tensor:
    """Cross-entropy by position, natural logarithm, in float32 whatever the dtype of the logits.

    Args:
        logits: positions → logits `[positions, vocabulary]`, any floating dtype.
        targets: int64 `[positions]`, the true tokens.
        vocabulary: how many tokens there are.
        logit_bytes: what making the logits takes, of one position and token.

    Returns:
        float32 `[positions]`.
    """
    parts = [
        log_probabilities(logits(chunk)).gather(1, targets[chunk].unsqueeze(1)).squeeze(1)
        for chunk in chunks(len(targets), vocabulary, logit_bytes + _LIKELIHOOD_BYTES_PER_LOGIT)
    ]
    return -torch.cat(parts)


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Logits → float32 natural logarithms of probabilities, along the last dimension."""
    if logits.device.type == "cuda":
        return torch.log_softmax(logits, dim=-1, dtype=torch.float32)
    # On a CPU it adds up a row less exactly: over 151,936 tokens it was off by 2e-5, this by 1e-6.
    values = logits.float()
    return values - values.logsumexp(dim=-1, keepdim=True)


def _kernel_for(device: torch.device) -> tuple[Callable[..., TokenMeasures], int]:
    """The kernel, fused where Triton can compile for the device; what it takes of a logit."""
    if device.type != "cuda" or find_spec("triton") is None:
        return compare_logits, BYTES_PER_LOGIT
    from actors.fused_divergence import compare_logits_fused

    return compare_logits_fused, 0


def compare_logits(
    reference: torch.Tensor, candidate: torch.Tensor, targets: torch.Tensor
) -> TokenMeasures:
    """The measures of some positions, where the logits are, in plain operations.

    Args:
        reference, candidate: `[positions, vocabulary]`, any floating dtype.
        targets: int64 `[positions]`.
    """
    index = targets.unsqueeze(1)
    reference_top, candidate_top = reference.argmax(1).int(), candidate.argmax(1).int()
    log_p, log_q = log_probabilities(reference), log_probabilities(candidate)
    reference_nll = -log_p.gather(1, index).squeeze(1)
    candidate_nll = -log_q.gather(1, index).squeeze(1)
    reference_top_probability = log_p.amax(1).exp()
    candidate_top_probability = log_q.amax(1).exp()
    difference = log_q - log_p
    p, q = log_p.exp_(), log_q.exp_()
    difference.masked_fill_((p == 0) & (q == 0), 0)
    # In place, where it can be: a vocabulary is wide.
    kl = (q - p).addcmul_(p, difference.clamp(max=_NO_PROBABILITY), value=-1).sum(1)
    reverse_kl = (p - q).addcmul_(q, difference.clamp_(min=-_NO_PROBABILITY)).sum(1)
    return TokenMeasures(
        reference_negative_log_likelihood=reference_nll,
        candidate_negative_log_likelihood=candidate_nll,
        kl=kl,
        reverse_kl=reverse_kl,
        reference_top_token=reference_top,
        candidate_top_token=candidate_top,
        reference_top_probability=reference_top_probability,
        candidate_top_probability=candidate_top_probability,
    )
