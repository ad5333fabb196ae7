"""`compare_logits` of `token_divergence` as one kernel, for CUDA; imports triton: import it late.

Plain operations read and write each logit about a dozen times. This one reads both models' logits
twice, in their own dtype, and writes eight numbers a position: first the maxima and the sums of
exponentials (online, as in Milakov and Gimelshein 2018), then the divergence itself, so that the
difference of log-probabilities is taken before it is summed and small ones keep their digits.
"""

import torch
import triton
import triton.language as tl

from actors.token_measures import TokenMeasures

# Logits of one position that are worked on at once; wide rows keep their warps busy.
_BLOCK = 4096
_WARPS = 8


def compare_logits_fused(
    reference: torch.Tensor, candidate: torch.Tensor, targets: torch.Tensor
) -> TokenMeasures:
    """The measures of some positions; arguments and result as of `compare_logits`, on CUDA."""
    positions, vocabulary = reference.shape
    reference, candidate = reference.contiguous(), candidate.contiguous()
    measures = torch.empty((6, positions), dtype=torch.float32, device=reference.device)
    tops = torch.empty((2, positions), dtype=torch.int32, device=reference.device)
    with torch.cuda.device(reference.device):
        _compare_position[(positions,)](
            reference,
            candidate,
            targets,
            measures,
            tops,
            positions,
            vocabulary,
            BLOCK=_BLOCK,
            num_warps=_WARPS,
        )
    reference_nll, candidate_nll, kl, reverse_kl, reference_top, candidate_top = measures.unbind()
    return TokenMeasures(
        reference_negative_log_likelihood=reference_nll,
        candidate_negative_log_likelihood=candidate_nll,
        kl=kl,
        reverse_kl=reverse_kl,
        reference_top_token=tops[0],
        candidate_top_token=tops[1],
        reference_top_probability=reference_top,
        candidate_top_probability=candidate_top,
    )


@triton.jit
def _softmax_step(logits, inside, start, maximum, total, top):
    """Takes a block of a row into its running maximum, sum of exponentials and top token."""
    block_maximum, block_top = tl.max(
        logits, axis=0, return_indices=True, return_indices_tie_break_left=True
    )
    larger = tl.maximum(maximum, block_maximum)
    # Of tokens that are all ruled out so far nothing is summed.
    shift = tl.where(larger == -float("inf"), 0.0, larger)
    total = total * tl.exp(maximum - shift) + tl.sum(tl.where(inside, tl.exp(logits - shift), 0))
    # Of equal logits the first is the top one, for both models alike.
    top = tl.where(block_maximum > maximum, start + block_top, top)
    return larger, total, top


@triton.jit
def _compare_position(
    reference,
    candidate,
    targets,
    measures,
    tops,
    positions,
    vocabulary,
    BLOCK: tl.constexpr,  # noqa: N803 - the way Triton's users write what is fixed at compile time
):
    """One position: `[vocabulary]` logits of both models → a column of `measures` and of `tops`."""
    position = tl.program_id(0).to(tl.int64)
    reference += position * vocabulary
    candidate += position * vocabulary
    p_maximum, p_total, p_top = -float("inf"), 0.0, 0
    q_maximum, q_total, q_top = -float("inf"), 0.0, 0
    for start in range(0, vocabulary, BLOCK):
        offsets = start + tl.arange(0, BLOCK)
        inside = offsets < vocabulary
        p = tl.load(reference + offsets, mask=inside, other=-float("inf")).to(tl.float32)
        q = tl.load(candidate + offsets, mask=inside, other=-float("inf")).to(tl.float32)
        p_maximum, p_total, p_top = _softmax_step(p, inside, start, p_maximum, p_total, p_top)
        q_maximum, q_total, q_top = _softmax_step(q, inside, start, q_maximum, q_total, q_top)
    p_normalizer = p_maximum + tl.log(p_total)
    q_normalizer = q_maximum + tl.log(q_total)

    kl, reverse_kl = 0.0, 0.0
    for start in range(0, vocabulary, BLOCK):
        offsets = start + tl.arange(0, BLOCK)
        inside = offsets < vocabulary
        log_p = tl.load(reference + offsets, mask=inside, other=0).to(tl.float32) - p_normalizer
        log_q = tl.load(candidate + offsets, mask=inside, other=0).to(tl.float32) - q_normalizer
        p, q, difference = tl.exp(log_p), tl.exp(log_q), log_q - log_p
        # The form whose terms are not negative, and 0 · ln 0: see `actors.token_divergence`.
        lost, won = tl.where(p == 0, 0.0, p * difference), tl.where(q == 0, 0.0, q * difference)
        kl += tl.sum(tl.where(inside, q - p - lost, 0))
        reverse_kl += tl.sum(tl.where(inside, p - q + won, 0))

    target = tl.load(targets + position)
    column = measures + position
    tl.store(column, p_normalizer - tl.load(reference + target).to(tl.float32))
    tl.store(column + positions, q_normalizer - tl.load(candidate + target).to(tl.float32))
    tl.store(column + 2 * positions, kl)
    tl.store(column + 3 * positions, reverse_kl)
    tl.store(column + 4 * positions, tl.exp(p_maximum - p_normalizer))
    tl.store(column + 5 * positions, tl.exp(q_maximum - q_normalizer))
    tl.store(tops + position, p_top)
    tl.store(tops + positions + position, q_top)
