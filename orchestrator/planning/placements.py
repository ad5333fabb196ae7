"""Where a variant may be held, the first choice first: as said, or whatever there is. Pure."""

from collections.abc import Mapping

from orchestrator.contract.shards import DeviceKind, OneDevice, Placement, Streamed
from orchestrator.contract.variants import Variant
from orchestrator.errors import BadInputError
from orchestrator.settings import PlacementChoice, Settings

_SETTING = "--placement"


def choices_of(variant: Variant, settings: Settings, kind: DeviceKind) -> tuple[Placement, ...]:
    """The places that a variant may have, of which the first that holds it is taken.

    Whoever says one place for all means those that can have it: quantized weights are not streamed,
    since what their kernels keep beside them stays where it was made.

    Raises:
        BadInputError: a place of its own that the variant cannot have.
    """
    here, streamed = OneDevice(device=kind), Streamed(device=kind)
    said = settings.placement
    choice: PlacementChoice = said.get(variant.name, "auto") if isinstance(said, dict) else said
    if choice == "stream" and variant.is_held_plain:
        return (streamed,)
    if choice == "stream" and isinstance(said, Mapping):
        raise BadInputError(
            _SETTING,
            f"{variant.name} is quantized, and plain weights alone are streamed; say device for "
            "it, or auto",
        )
    # What the host computes on it has in its memory already.
    if choice == "device" or kind == "cpu" or not variant.is_held_plain:
        return (here,)
    return here, streamed
