"""A model's layers over several GPUs of a machine, by accelerate."""

from typing import Any

import torch

from orchestrator.contract.variant_errors import CannotLoadError


def where_to(device: torch.device, devices: int) -> dict[str, Any]:
    """What `from_pretrained` is told of the devices that it loads to.

    Args:
        devices: how many of them.
    """
    if devices == 1:
        return {"device_map": {"": device.type if device.index is None else device.index}}
    return {"device_map": "balanced", "max_memory": _free_bytes(devices)}


def spread(model: Any, device: torch.device, devices: int) -> Any:
    """Moves a model that is on the host to the devices that it is to be on."""
    if devices == 1:
        return model.to(device)
    from accelerate import dispatch_model, infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    whole = list(model._no_split_modules or ())
    memory = get_balanced_memory(
        model, max_memory=_free_bytes(devices), no_split_module_classes=whole
    )
    places = infer_auto_device_map(model, max_memory=memory, no_split_module_classes=whole)
    model.hf_device_map = places
    return model if _others(places) else dispatch_model(model, device_map=places)


def check_devices(origin: str, model: Any) -> None:
    """Refuses a model of which a part is on no GPU, though the rest is.

    Args:
        origin: what was loaded, for the message.

    Raises:
        CannotLoadError: says how many parts are elsewhere.
    """
    places: dict[str, Any] = getattr(model, "hf_device_map", {})
    if len(set(places.values())) > 1 and (others := _others(places)):
        raise CannotLoadError(
            f"{origin} does not fit its GPUs: {len(others)} parts of it ({others[0]}, …) are on "
            "none; give it more, or --placement stream"
        )


def is_spread(model: Any) -> bool:
    """Whether a model's layers are on more than one device."""
    return len(set(getattr(model, "hf_device_map", {}).values())) > 1


def _others(places: dict[str, Any]) -> list[str]:
    return [name for name, place in places.items() if place in ("cpu", "disk")]


def _free_bytes(devices: int) -> dict[int, int]:
    """By device: without one, accelerate would take the host's memory as well."""
    return {number: torch.cuda.mem_get_info(number)[0] for number in range(devices)}
