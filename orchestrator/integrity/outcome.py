"""What an audit says: of each tensor, and of the model. As `--json` writes it."""

from typing import Literal

from orchestrator.contract.frozen import Frozen
from orchestrator.inputs.tensor_roles import Role
from orchestrator.integrity.inventory import Difference

# Raised where a field changes its meaning, or an audit could say something else.
AUDIT_VERSION = 2

TensorVerdict = Literal["plain", "on a grid", "unclear", "quantized", "not examined"]
Verdict = Literal[
    "no trace of quantization",
    "on a grid",
    "natively quantized",
    "mixed",
    "quantized as declared",
    "cannot tell",
]


class Evidence(Frozen):
    """Which grid, and how sure.

    Attributes:
        family: the grid; null where none was found.
        names: by what names it is known; several cannot be told apart by the weights.
        block: weights that share a scale: so many neighbours, "row", "column", "tensor", or a tile
            ("128x128"); null where it cannot be told.
        bits: of a weight.
        scales: how they are kept: "free" (in 16 bits or more), "superblock" (whole numbers times
            one scale of several blocks), "fp8", "power of two".
        groups_permuted: whether the weights that share a scale are no neighbours.
        p_value: a bound of the chance that weights in random order had so few distinct values in
            blocks of that size, corrected for all that was looked at; null where random order has
            as few (one grid over the whole tensor, scales that are powers of two).
        log10_p: its logarithm, for those too small to be written.
    """

    family: str | None = None
    names: tuple[str, ...] = ()
    block: int | str | None = None
    bits: int | None = None
    scales: str | None = None
    groups_permuted: bool = False
    p_value: float | None = None
    log10_p: float | None = None


class _Tensor(Frozen):
    name: str
    role: Role
    shape: tuple[int, ...]
    dtype: str
    holds: str | None = None
    verdict: TensorVerdict


class TensorOutcome(Evidence, _Tensor):
    """A tensor.

    Attributes:
        dtype: as the file calls it; holds: the coarsest dtype that has all of the weights read.
        verdict: "quantized": its file's dtype says so; "not examined": see `reason`.
        share: of the blocks read, those on the grid; where it is unclear, the most on any.
        distinct, expected: values in a block of that size, on average; in random order.
        reason: why it was not examined, or what else is to be known of it.
    """

    share: float | None = None
    distinct: float | None = None
    expected: float | None = None
    reason: str | None = None


class HeldAgainst(Frozen):
    """What a model was compared with, by hash.

    Attributes:
        name: of the manifest's file, or the reference.
        signature: of the manifest; null where no key was named.
        equal_tensors: how many are the same to the last bit.
    """

    kind: Literal["manifest", "reference"]
    name: str
    signature: Literal["valid", "not of this key"] | None
    equal_tensors: int
    differences: tuple[Difference, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing differs, and the signature is right where one was asked for."""
        return not self.differences and self.signature != "not of this key"


class _Model(Frozen):
    version: int = AUDIT_VERSION
    model: str
    declared: str | None
    is_complete: bool
    verdict: Verdict
    said: str
    linear_weights: int
    quantized_share: float | None


class Audit(Evidence, _Model):
    """A model; its evidence is that of the grid of most of its weights.

    Attributes:
        declared: by which method the configuration says that it is quantized.
        is_complete: whether every weight was read, and not a sample.
        said: the verdict in a sentence.
        linear_weights: how many tensors the verdict is of.
        quantized_share: those of them on a grid, or that their files say are quantized, as a share
            of 1; null where there are none.
        findings: what else is to be known of the weights, each in a line.
        code: what of the files would run as code where it is loaded, each in a line.
        held_against: a manifest or another model; null where none was named.
    """

    findings: tuple[str, ...]
    code: tuple[str, ...]
    held_against: HeldAgainst | None = None
    tensors: tuple[TensorOutcome, ...]
