"""Which packages a variant needs beside transformers, and what pip calls them."""

import importlib.util
from collections.abc import Iterator

from orchestrator.contract.formats import FORMATS
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variants import CheckpointVariant, FormatVariant, Variant

_BITSANDBYTES = ("bitsandbytes",)
# By kind of variant, or the method of a checkpoint: modules.
_MODULES: dict[str, tuple[str, ...]] = {
    "llm-int8": _BITSANDBYTES,
    "4-bit": _BITSANDBYTES,
    "bitsandbytes": _BITSANDBYTES,
    "torchao": ("torchao",),
    "torchao-tile": ("torchao",),
    "adapter": ("peft",),
    "gguf": ("gguf",),
    "awq": ("gptqmodel",),
    "gptq": ("gptqmodel", "optimum"),
    "compressed-tensors": ("compressed_tensors",),
    "aqlm": ("aqlm",),
    "eetq": ("kernels",),
    "fbgemm_fp8": ("fbgemm_gpu",),
    "hqq": ("hqq",),
    "quanto": ("optimum.quanto",),
    "quark": ("quark",),
    "vptq": ("vptq",),
    "spqr": ("spqr_quant",),
    "auto-round": ("auto_round",),
}
# Ways in which a checkpoint may be quantized that a user has heard of.
_MADE_HERE = frozenset({"llm-int8", "4-bit", "torchao-tile", "adapter"})
METHODS = tuple(name for name in _MODULES if name not in _MADE_HERE)
_PIP_NAMES = {
    "compressed_tensors": "compressed-tensors",
    "fbgemm_gpu": "fbgemm-gpu",
    "optimum.quanto": "optimum-quanto",
    "quark": "amd-quark",
    "spqr_quant": "spqr_quant[gpu]",
    "auto_round": "auto-round",
}


def needed_modules(variant: Variant, location: ModelLocation) -> tuple[str, ...]:
    """The modules that loading a variant imports."""
    if location.gguf_file is not None:
        return _MODULES["gguf"]
    if isinstance(variant, FormatVariant):
        return _MODULES["torchao"] if FORMATS[variant.format].by_torchao else ()
    way = variant.method if isinstance(variant, CheckpointVariant) else variant.kind
    return _MODULES.get(way or "", ())


def missing_modules(variant: Variant, location: ModelLocation) -> Iterator[str]:
    """The modules that loading a variant needs and this machine lacks; none is imported."""
    for module in needed_modules(variant, location):
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:  # the package that it would be a part of
            found = None
        if found is None:
            yield module


def package_of(module: str) -> str:
    """What pip installs a module by."""
    return _PIP_NAMES.get(module, module)


def package_problem(variant: Variant, module: str, reason: str) -> str:
    """What a user is told of a module that cannot be imported."""
    name = package_of(module)
    return (
        f"variant {variant.name} needs {name}, which is missing or broken ({reason}); "
        f"pip install {name}, or leave the variant out"
    )
