"""An adapter and the model that it is of → one model."""

from typing import Any

from actors.checks import some
from orchestrator.contract.shards import AdapterLocation
from orchestrator.contract.variant_errors import CannotLoadError, loading_problem

_NAME = "default"


def merge_adapter(origin: str, model: Any, adapter: AdapterLocation) -> Any:
    """Merges an adapter into a model's weights, through peft.

    Args:
        origin: what was loaded, for messages.
        model: in float32, on the CPU.

    Returns:
        A `PreTrainedModel` without the adapter's layers.

    Raises:
        CannotLoadError: it cannot be read or merged, or its tensors are not all those that it
            describes: peft leaves out what has no place.
    """
    from peft import PeftConfig, PeftModelForCausalLM

    try:
        config = PeftConfig.from_pretrained(adapter.id_or_path, revision=adapter.revision)
        wrapped: Any = PeftModelForCausalLM(model, config, adapter_name=_NAME)
        loaded = wrapped.load_adapter(
            adapter.id_or_path, _NAME, revision=adapter.revision, torch_device="cpu"
        )
        astray = [*loaded.missing_keys, *loaded.unexpected_keys]
        if not astray:
            return wrapped.merge_and_unload(safe_merge=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise CannotLoadError(
            f"{origin}: its adapter cannot be merged ({loading_problem(error)}); merge it yourself "
            "(merge_and_unload) and name the folder of the whole"
        ) from error
    raise CannotLoadError(
        f"{origin} is not whole: {len(astray)} tensors of its adapter are missing or have no place "
        f"in the model ({some(astray)}); fetch it again, or name its own model"
    )
