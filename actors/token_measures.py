"""What is known of each scored position of two models."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class TokenMeasures:
    """What is known of each scored position; tensors `[positions]`.

    Attributes:
        reference_negative_log_likelihood: float32, of the true token, natural logarithm.
        candidate_negative_log_likelihood: the same of the candidate.
        kl: float32, KL(reference ‖ candidate) in nats.
        reverse_kl: float32, KL(candidate ‖ reference) in nats.
        reference_top_token, candidate_top_token: int32, the most probable token of each; of equal
            ones the first.
        reference_top_probability, candidate_top_probability: float32, how sure each is of it.
    """

    reference_negative_log_likelihood: torch.Tensor
    candidate_negative_log_likelihood: torch.Tensor
    kl: torch.Tensor
    reverse_kl: torch.Tensor
    reference_top_token: torch.Tensor
    candidate_top_token: torch.Tensor
    reference_top_probability: torch.Tensor
    candidate_top_probability: torch.Tensor

    @property
    def same_top_token(self) -> torch.Tensor:
        """bool, whether both put the same token first."""
        return self.reference_top_token == self.candidate_top_token

    @property
    def probability_change(self) -> torch.Tensor:
        """float32, the candidate's probability of the true token less the reference's."""
        return torch.exp(-self.candidate_negative_log_likelihood) - torch.exp(
            -self.reference_negative_log_likelihood
        )
