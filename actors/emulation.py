"""Formats that no kernel multiplies: weights and inputs rounded alike, and multiplied by torch."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from actors import tile_int4
from actors.rounding import rounded
from orchestrator.contract.formats import FORMATS, Rounding
from orchestrator.contract.variants import FormatVariant, TileInt4Variant, Variant

# Rows are output channels; the same, rounded.
_Rows = Callable[[torch.Tensor], torch.Tensor]


def emulate(model: Any, variant: Variant) -> None:
    """Rounds a loaded model's linear layers, the head apart, and has their inputs rounded.

    What is not of whole blocks is left as it is.
    """
    make, of_inputs = _ways_of(variant)
    for layer in _layers(model, variant.block or 1):
        _round_weights(layer, make)
        if of_inputs is not None:
            layer.register_forward_pre_hook(partial(_round_inputs, rounding=of_inputs))


def _ways_of(variant: Variant) -> tuple[_Rows, Rounding | None]:
    """How a variant's weights are rounded, and its inputs, if they are."""
    if isinstance(variant, TileInt4Variant):
        return partial(tile_int4.rounded, group_size=variant.group_size), None
    assert isinstance(variant, FormatVariant)
    form = FORMATS[variant.format]
    return partial(rounded, rounding=form.weights), form.activations


def _layers(model: Any, block: int) -> Iterator[Any]:
    head = model.get_output_embeddings()
    for module in model.modules():
        is_linear = type(module) in (torch.nn.Linear, Conv1D) and module is not head
        if is_linear and _rows_of(module).shape[1] % block == 0:
            yield module


def _rows_of(layer: Any) -> torch.Tensor:
    """A layer's weights `[out, in]`; GPT-2's have the other order."""
    weights: torch.Tensor = layer.weight.data
    return weights.T if isinstance(layer, Conv1D) else weights


def _round_weights(layer: Any, make: _Rows) -> None:
    found = make(_rows_of(layer)).to(layer.weight.dtype)
    layer.weight.data = found.T.contiguous() if isinstance(layer, Conv1D) else found


def _round_inputs(_: Any, inputs: tuple[Any, ...], rounding: Rounding) -> tuple[Any, ...]:
    return rounded(inputs[0], rounding), *inputs[1:]
