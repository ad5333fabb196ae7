"""What a GGUF file says of rotary positions → transformers' `rope_parameters`."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.contract.gguf_content import FREQUENCY_FACTORS, LONG_FACTORS, SHORT_FACTORS
from orchestrator.inputs.gguf_architectures import RopeKind

_USUAL_BASE = 10000.0  # llama.cpp's, where a file does not say
_FACTOR_TOLERANCE = 1e-4

Rope = dict[str, Any]


class RopeError(ValueError):
    """A scaling that is not known here: what says so."""


@dataclass(frozen=True)
class SaidRope:
    """What a file says of rotary positions; None where it says nothing.

    Attributes:
        base: of the frequencies.
        local_base: likewise, of layers with a sliding window.
        dimensions: of a head, that are turned.
        scaling: of the frequencies, as transformers has it.
        factors: by which the frequencies are divided.
        original_length: of inputs before the scaling, in tokens.
    """

    base: float | None
    local_base: float | None
    dimensions: int | None
    scaling: Rope | None
    factors: NDArray[Any] | None
    original_length: int | None

    def parameters(self, kind: RopeKind, head: int, usual: Rope | None) -> Rope:
        """The configuration's `rope_parameters`.

        Args:
            head: the size of a head.
            usual: the model's own, which fill what is not said; None where the file stands alone.
        """
        if kind != "by-layer":
            return self._of_layers(kind, head, usual)
        usual = usual or {}
        local = dict(usual.get("sliding_attention") or _plain(_USUAL_BASE))
        local["rope_theta"] = self.local_base or local["rope_theta"]
        whole = self._of_layers(kind, head, usual.get("full_attention"))
        return {"full_attention": whole, "sliding_attention": local}

    def _of_layers(self, kind: RopeKind, head: int, usual: Rope | None) -> Rope:
        own = dict(usual or _plain(_USUAL_BASE))
        if self.scaling is not None:
            own = {**self.scaling, "rope_theta": own["rope_theta"]}
        own["rope_theta"] = self.base or own["rope_theta"]
        if self.factors is not None and not _makes(own, head, self.factors):
            own = _plain(own["rope_theta"])
        if kind == "partial":
            part = (usual or {}).get("partial_rotary_factor", 1.0)
            own["partial_rotary_factor"] = self.dimensions / head if self.dimensions else part
        return own


def read_rope(take: Callable[[str], Any], tensors: Mapping[str, NDArray[Any]]) -> SaidRope:
    """Reads what a file says.

    Args:
        take: gives a value and marks it as read; None where there is none.
        tensors: of factors, those that the file has.

    Raises:
        RopeError: a scaling that is not known here.
    """
    original = take("rope.scaling.original_context_length")
    factors = tensors.get(FREQUENCY_FACTORS)
    scaling = _scaling(take, tensors, original)
    if factors is not None and scaling not in (None, _NO_SCALING):
        raise RopeError(f"{FREQUENCY_FACTORS} beside rope.scaling.type")
    return SaidRope(
        base=take("rope.freq_base"),
        local_base=take("rope.freq_base_swa"),
        dimensions=take("rope.dimension_count"),
        scaling=scaling,
        factors=factors,
        original_length=original,
    )


_NO_SCALING: Rope = {"rope_type": "default"}


def _plain(base: float) -> Rope:
    return {**_NO_SCALING, "rope_theta": base}


def _scaling(
    take: Callable[[str], Any],
    tensors: Mapping[str, NDArray[Any]],
    original: int | None,
) -> Rope | None:
    kind, factor = take("rope.scaling.type"), take("rope.scaling.factor")
    magnitude = take("rope.scaling.attn_factor")
    long, short = tensors.get(LONG_FACTORS), tensors.get(SHORT_FACTORS)
    found: Rope = {"rope_type": kind}
    if long is not None and short is not None:
        found = {"rope_type": "longrope", "long_factor": long.tolist()}
        found["short_factor"] = short.tolist()
        if magnitude is not None:
            found["attention_factor"], magnitude = magnitude, None
    elif kind == "yarn" and factor and original:
        found["factor"] = factor
        betas = {name: take(f"rope.scaling.yarn_{name}") for name in ("beta_fast", "beta_slow")}
        found |= {name: value for name, value in betas.items() if value is not None}
        if magnitude is not None:
            # llama.cpp's ggml_rope_yarn: on top of what the factor brings.
            found["attention_factor"] = magnitude * (0.1 * math.log(factor) + 1)
            magnitude = None
    elif kind in ("linear", None) and factor:
        found = {"rope_type": "linear", "factor": factor}
    elif kind == "none":
        found = _NO_SCALING
    elif kind is None:
        found = {}
    else:
        raise RopeError(f"rope.scaling.type '{kind}'")
    if magnitude not in (None, 1.0):
        raise RopeError("rope.scaling.attn_factor")
    if original is not None and found.get("rope_type") in ("longrope", "yarn"):
        found["original_max_position_embeddings"] = original
    return found or None


def _makes(rope: Rope, head: int, factors: NDArray[Any]) -> bool:
    """Whether a model's own scaling is by these factors; of kinds, Llama 3's is one.

    As transformers' `_compute_llama3_parameters` has it.
    """
    if rope.get("rope_type") != "llama3":
        return False
    waves = 2 * math.pi * rope["rope_theta"] ** (np.arange(0, head, 2) / head)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    share = (rope["original_max_position_embeddings"] / waves - low) / (high - low)
    share = np.clip(share, 0, 1)
    made = 1 / ((1 - share) / rope["factor"] + share)
    return made.shape == factors.shape and bool(np.allclose(made, factors, rtol=_FACTOR_TOLERANCE))
