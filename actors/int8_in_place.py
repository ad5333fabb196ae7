"""LLM.int8 made where the weights lie, without transformers' way to the host and back.

transformers takes each weight from the device that it was just read to back to the host, since
bitsandbytes' `Int8Params` quantizes only what comes from there. The same kernel on the same numbers
gives the same codes and scales; without the way it takes a sixth of the time on a GPU.
"""

from typing import Any

import torch
from bitsandbytes import functional
from bitsandbytes.nn import Int8Params
from transformers import BitsAndBytesConfig
from transformers.core_model_loading import ConversionOps
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.quantizer_bnb_8bit import Bnb8BitHfQuantizer
from transformers.quantizers.quantizers_utils import get_module_from_name

_METHOD = "bitsandbytes_8bit_in_place"


@register_quantization_config(_METHOD)
class InPlaceInt8Config(BitsAndBytesConfig):
    """Has transformers make LLM.int8 of plain weights, by the quantizer below."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "load_in_8bit": True})  # type: ignore[no-untyped-call]
        # By this name transformers finds the quantizer below.
        self.quant_method = _METHOD  # type: ignore[assignment]


@register_quantizer(_METHOD)
class InPlaceInt8Quantizer(Bnb8BitHfQuantizer):
    """transformers' own, but for how a weight is quantized."""

    def get_quantize_ops(self) -> ConversionOps:
        """What is done to each weight that is read."""
        return QuantizeInPlace()


class QuantizeInPlace(ConversionOps):
    """A linear layer's weight as bitsandbytes holds it: codes, and a scale for each row."""

    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],
        target_patterns: list[str],
        **given: Any,
    ) -> dict[str, list[torch.Tensor]]:
        """Quantizes on the device of the weight.

        Args:
            input_dict: by its name in the model, a weight or a list of one: `[rows, columns]`, or
                transposed for a layer that holds it so (GPT-2's).
            given: the `model` that they are for, among what other operations need.
        """
        model = given["model"]
        quantized: dict[str, list[torch.Tensor]] = {}
        for name, value in input_dict.items():
            weight = value[0] if isinstance(value, list) else value
            module, _name = get_module_from_name(model, name)
            if issubclass(module.source_cls, Conv1D):
                weight = weight.T
            codes, scales, _outliers = functional.int8_vectorwise_quant(
                weight.contiguous().to(torch.float16)
            )
            options = {**model.get_parameter_or_buffer(name).__dict__, "CB": codes, "SCB": scales}
            quantized[name] = [Int8Params(codes, requires_grad=False, **options)]
        return quantized
