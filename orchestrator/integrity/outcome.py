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


class Requantized(Frozen):
    """A tensor that differs from the original's: by which way to quantize it was made of it.

    Attributes:
        way: None where none that is known here comes nearer than the original itself.
        cast_before, cast_after: dtypes that its weights went through beside their own.
        weights: that were compared.
        changed_weights: those of them that differ from the original's.
        equal_weights: those that the way gives to the last digit.
        relative_error: of what the way gives from the suspect, ‖made - suspect‖ / ‖original‖.
        relative_change: of the suspect from the original, likewise.
    """

    name: str
    way: str | None
    cast_before: str | None
    cast_after: str | None
    weights: int
    changed_weights: int
    equal_weights: int
    relative_error: float | None
    relative_change: float

    @property
    def is_exact(self) -> bool:
        """Whether every weight compared is what the way gives."""
        return self.equal_weights == self.weights

    def __str__(self) -> str:
        """In words, after the tensor's name."""
        change = f"relative change {self.relative_change:.2g}"
        if not self.changed_weights:
            return f"beyond the {self.weights} weights compared; --all compares them all"
        if self.way is None:
            changed = f"{self.changed_weights} of {self.weights} weights"
            return f"{changed}, {change}, by no quantization known here"
        casts = [
            f"{words} {dtype}"
            for words, dtype in (("cast to", self.cast_before), ("expanded to", self.cast_after))
            if dtype is not None
        ]
        way = ", ".join([self.way, *casts])
        if self.is_exact:
            return f"the reference's, quantized as {way}: all {self.weights} weights compared"
        others = self.weights - self.equal_weights
        return (
            f"nearest the reference's, quantized as {way}: {others} of {self.weights} weights are "
            f"others, relative error {self.relative_error:.2g} ({change})"
        )


class HeldAgainst(Frozen):
    """What a model was compared with, by hash.

    Attributes:
        name: of the manifest's file, or the reference.
        signature: of the manifest; null where no key was named.
        equal_tensors: how many are the same to the last bit.
        requantized: of tensors that differ from a reference's, how they were made of it.
        untried: modules that are not installed, and whose ways to quantize were not tried.
    """

    kind: Literal["manifest", "reference"]
    name: str
    signature: Literal["valid", "not of this key"] | None
    equal_tensors: int
    differences: tuple[Difference, ...]
    requantized: tuple[Requantized, ...] = ()
    untried: tuple[str, ...] = ()

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
