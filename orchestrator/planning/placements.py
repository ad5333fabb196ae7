"""Where a variant may be held, the first choice first: as said, or whatever there is. Pure."""

from collections.abc import Iterator
from itertools import chain

from orchestrator.contract.shards import OneDevice, Placement, SeveralDevices, Streamed
from orchestrator.contract.variants import Variant
from orchestrator.errors import BadInputError
from orchestrator.planning.devices import Devices
from orchestrator.settings import Settings

_SETTING = "--placement"
# More than any machine has.
MOST_GPUS = 9999


def choices_of(variant: Variant, settings: Settings, devices: Devices) -> Iterator[Placement]:
    """The places that a variant may have, of which the first that holds it is taken.

    Whoever says `stream` for all means those that can be: quantized weights are not, since what
    their kernels keep beside them stays where it was made.

    Raises:
        BadInputError: a place that there is not, or that the variant cannot have.
    """
    here, streamed = OneDevice(device=devices.kind), Streamed(device=devices.kind)
    said = settings.placement
    choice = said.get(variant.name, "auto") if isinstance(said, dict) else said
    if choice.startswith("devices"):
        return _several(variant.name, choice, devices)
    if choice == "stream" and variant.is_held_plain:
        return iter([streamed])
    if choice == "stream" and isinstance(said, dict):
        raise BadInputError(
            _SETTING,
            f"{variant.name} is quantized, and plain weights alone are streamed; say device for "
            "it, or auto",
        )
    # What the host computes on it has in its memory already.
    if choice == "device" or devices.kind == "cpu":
        return iter([here])
    several = (SeveralDevices(gpus=count) for count in range(2, devices.most_gpus + 1))
    return chain([here], several, [streamed] if variant.is_held_plain else [])


def _several(name: str, choice: str, devices: Devices) -> Iterator[Placement]:
    """The numbers of GPUs that a choice leaves open, the fewest first."""
    most = devices.most_gpus if devices.kind == "cuda" else 0
    count = int(choice.partition(":")[2] or 0)
    if count == 1:
        raise BadInputError(_SETTING, f"{name} on one device is said by device alone, not {choice}")
    if most < max(2, count):
        has = f"a machine has {most} here" if most else "there is none here"
        wanted = f"{count} GPUs" if count else "several GPUs"
        raise BadInputError(
            _SETTING, f"{name} is to be on {wanted} of a machine, and {has}; take fewer, or auto"
        )
    counts = [count] if count else range(2, most + 1)
    return (SeveralDevices(gpus=each) for each in counts)
