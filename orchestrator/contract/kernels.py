"""Whether a device multiplies a variant's weights as they are kept: plans ask it, and actors."""

from orchestrator.contract.formats import FORMATS
from orchestrator.contract.variants import DtypeName, FormatVariant, TileInt4Variant, Variant

# Compute capability, as CUDA has it.
Capability = tuple[int, int]


def is_emulated(variant: Variant, dtype: DtypeName, capability: Capability | None) -> bool:
    """Whether what a variant quantizes is rounded alike instead, and held as plain numbers.

    Args:
        dtype: of the arithmetic.
        capability: of the GPU; None on a processor.
    """
    match variant:
        case TileInt4Variant():
            return capability is None or capability < variant.capability
        case FormatVariant():
            form = FORMATS[variant.format]
            if not form.by_torchao or form.capability is None:
                return not form.by_torchao
            # Kernels of GPUs take the dtype that they were written for.
            return capability is None or capability < form.capability or dtype != form.weights_dtype
    return False
