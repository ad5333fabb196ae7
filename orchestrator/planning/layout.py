"""Sources and devices → what each variant takes of them, and how many models run at once. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from orchestrator.contract.kernels import is_emulated
from orchestrator.contract.shards import Assignment, DeviceKind, Placement
from orchestrator.contract.variants import DtypeName, Variant
from orchestrator.errors import BadInputError
from orchestrator.inputs.checkpoints import Checkpoint
from orchestrator.inputs.sourced_variants import SourcedVariant, known_variants
from orchestrator.inputs.sources import Sources
from orchestrator.inputs.tensor_roles import is_linear
from orchestrator.planning.devices import Capacity, Devices, divide
from orchestrator.planning.placements import MOST_GPUS, choices_of
from orchestrator.planning.sizes import (
    activation_bytes,
    expected_weights_bytes,
    head_bytes,
    largest_layer_bytes,
    resident_bytes,
    streamed_bytes,
)
from orchestrator.settings import Settings
from orchestrator.units import binary_size

# What a process on a GPU takes before any weight: the CUDA context and the libraries' workspaces.
_DEVICE_OVERHEAD_BYTES = 768 * 2**20
# What `--batch-tokens auto` tries. Fewer save little beside a window of the usual length.
_BATCH_TOKENS = (8192, 4096, 2048)


@dataclass(frozen=True)
class SizedVariant:
    """A variant with what it takes.

    Attributes:
        compute_dtype: of its arithmetic.
        placement: where an actor holds it.
        expected_weights_bytes: by arithmetic; None where it cannot be foreseen.
        needed_bytes: of its devices, the arithmetic's room included; None likewise.
        device_bytes: of one of them, at most; None likewise.
        host_bytes: of the host's memory beside that, for what is streamed from it.
    """

    sourced: SourcedVariant
    compute_dtype: DtypeName
    placement: Placement
    expected_weights_bytes: int | None
    needed_bytes: int | None
    device_bytes: int | None
    host_bytes: int

    @property
    def name(self) -> str:
        """What the user calls the variant."""
        return self.sourced.name

    @property
    def variant(self) -> Variant:
        """How the variant's weights are held."""
        return self.sourced.variant

    @property
    def checkpoint(self) -> Checkpoint:
        """What the variant's weights are made of."""
        return self.sourced.checkpoint

    def assignment(self, threads: int) -> Assignment:
        """What an actor of it is told.

        Args:
            threads: processor threads of the actor.
        """
        return Assignment(
            location=self.checkpoint.location,
            variant=self.variant,
            compute_dtype=self.compute_dtype,
            placement=self.placement,
            threads=threads,
            noisy=tuple(
                tensor.name
                for tensor in self.checkpoint.tensors
                if self.variant.noise is not None and is_linear(tensor)
            ),
        )


@dataclass(frozen=True)
class Layout:
    """How variants are laid out on devices.

    Attributes:
        reference: the name of the variant that the others are held against.
        windows_at_once: how many may be in a batch.
    """

    variants: tuple[SizedVariant, ...]
    reference: str
    devices: Devices
    capacity: Capacity
    windows_at_once: int


def lay_out(
    settings: Settings, sources: Sources, devices: Devices, windows_at_once: int | None = None
) -> Layout:
    """Decides what runs where; neither tokens nor hashes are needed for that.

    Args:
        windows_at_once: how many may be in a batch, whatever the settings say.

    Raises:
        BadInputError: a variant that does not fit the devices, or no device at all.
    """
    if devices.count < 1:
        raise BadInputError(
            "--device", "no usable CUDA device was found; check the driver, or use --device cpu"
        )
    choices = _choices(settings, sources, windows_at_once)
    sizing = _Sizing(settings, sources, devices)
    places = [sizing.placed(one, choices[-1]).placement for one in sources.variants]
    for at_once in choices:
        variants = [
            sizing.sized(*pair, at_once) for pair in zip(sources.variants, places, strict=True)
        ]
        if all(map(sizing.fits, variants)):
            break
    else:
        raise _refusal(variants, sizing, at_once)
    capacity = _capacity(variants, settings, devices)
    return Layout(tuple(variants), sources.reference, devices, capacity, at_once)


def least_gpu_bytes(settings: Settings, sources: Sources) -> int:
    """What each variant needs of a GPU at the least, as far as that can be foreseen."""
    least = _choices(settings, sources, None)[-1]
    # Of however many GPUs: how many there are is not known yet.
    sizing = _Sizing(settings, sources, Devices("cuda", 1, None, 1, node_gpus=(MOST_GPUS,)))
    return max(sizing.placed(one, least).device_bytes or 0 for one in sources.variants)


def _choices(settings: Settings, sources: Sources, windows_at_once: int | None) -> list[int]:
    """How many windows may be in a batch: the numbers to try, the largest first."""
    if windows_at_once is not None:
        return [windows_at_once]
    if settings.batch_tokens == "auto":
        return _numbers_of_windows(sources)
    return [max(1, settings.batch_tokens // sources.window_length)]


def _numbers_of_windows(sources: Sources) -> list[int]:
    """How many windows come to at most each of the numbers of tokens that are tried."""
    numbers = (max(1, tokens // sources.window_length) for tokens in _BATCH_TOKENS)
    return list(dict.fromkeys(numbers))


def compute_dtype_of(variant: Variant, settings: Settings, device_kind: DeviceKind) -> DtypeName:
    """The dtype of a variant's arithmetic.

    A CPU computes in float32, where half precision is about six times slower; a GPU in the
    variant's own dtype, which is float16 for all but `fp32` and `bf16`.
    """
    if settings.compute_dtype is not None:
        return settings.compute_dtype
    return "float32" if device_kind == "cpu" else variant.weights_dtype


@dataclass(frozen=True)
class _Sizing:
    """What variants take of some devices, by place."""

    settings: Settings
    sources: Sources
    devices: Devices

    def placed(self, sourced: SourcedVariant, at_once: int) -> SizedVariant:
        """A variant in the first of its places that holds it; in the first where none does."""
        places = choices_of(sourced.variant, self.settings, self.devices)
        first = self.sized(sourced, next(places), at_once)
        others = (self.sized(sourced, place, at_once) for place in places)
        return next(filter(self.fits, chain([first], others)), first)

    def fits(self, sized: SizedVariant) -> bool:
        """Whether there is what a variant needs, as far as that can be foreseen."""
        there = (self.devices.memory_bytes, self.devices.host_bytes)
        needed = (sized.device_bytes or 0, sized.host_bytes)
        return all(has is None or need <= has for has, need in zip(there, needed, strict=True))

    def sized(self, sourced: SourcedVariant, placement: Placement, at_once: int) -> SizedVariant:
        """A variant in a place.

        Args:
            at_once: how many windows may be in a batch.
        """
        variant, tensors = sourced.variant, sourced.checkpoint.tensors
        dtype = compute_dtype_of(variant, self.settings, self.devices.kind)
        tokens = self.sources.window_length * (at_once if variant.tokens_are_independent else 1)
        working = activation_bytes(tensors, tokens, dtype, variant) + self._other_head(sourced)
        whole = self.sources.model.checkpoint.tensors
        emulated = is_emulated(variant, dtype, self.devices.best_case)
        held, host = resident_bytes(tensors, variant, dtype, emulated, whole), 0
        if placement.kind == "stream":
            held, host = streamed_bytes(tensors, dtype)
        beside = working + (_DEVICE_OVERHEAD_BYTES if self.devices.kind == "cuda" else 0)
        several = max(1, placement.gpus)
        # A layer is not cut: a device may have one more than its share.
        uneven = largest_layer_bytes(tensors, held or 0) if several > 1 else 0
        return SizedVariant(
            sourced=sourced,
            compute_dtype=dtype,
            placement=placement,
            expected_weights_bytes=expected_weights_bytes(tensors, variant),
            needed_bytes=None if held is None else held + several * beside,
            device_bytes=None if held is None else held // several + uneven + beside,
            host_bytes=host,
        )

    def _other_head(self, sourced: SourcedVariant) -> int:
        """What the reference's output head takes beside a variant whose own is not the same."""
        reference = next(
            each for each in self.sources.variants if each.name == self.sources.reference
        )
        dtype, own = (
            compute_dtype_of(each.variant, self.settings, self.devices.kind)
            for each in (reference, sourced)
        )
        if dtype == own and reference.checkpoint is sourced.checkpoint:
            return 0
        return head_bytes(reference.checkpoint.tensors, dtype)


def _refusal(variants: Sequence[SizedVariant], sizing: _Sizing, at_once: int) -> BadInputError:
    """What a user is told of a variant that needs more than there is, and what would fit."""
    sources, devices = sizing.sources, sizing.devices
    available = devices.memory_bytes or 0
    needed, name = max((sized.device_bytes or 0, sized.name) for sized in variants)
    if needed <= available or devices.memory_bytes is None:
        return _host_refusal(variants, devices)
    everything = [sizing.placed(sourced, at_once) for sourced in known_variants(sources.model)]
    fitting = [one.name for one in everything if one.device_bytes and sizing.fits(one)]
    remedy = f"these fit: {', '.join(fitting)}" if fitting else "no variant fits"
    fewer = (number for number in _numbers_of_windows(sources) if number < at_once)
    for number in fewer:
        if all(sizing.fits(sizing.placed(one, number)) for one in sources.variants):
            remedy += f"; all fit with --batch-tokens {number * sources.window_length}"
            break
    return BadInputError(
        "--variants",
        f"{name} needs {binary_size(needed)} on a device with {binary_size(available)} free, "
        f"{binary_size(needed - available)} too much; {remedy}",
    )


def _host_refusal(variants: Sequence[SizedVariant], devices: Devices) -> BadInputError:
    needed, name = max((sized.host_bytes, sized.name) for sized in variants)
    return BadInputError(
        "--placement",
        f"{name} is streamed from the host's memory, of which it needs {binary_size(needed)}, and "
        f"{binary_size(devices.host_bytes or 0)} are free; end what else uses it, or leave "
        f"{name} out",
    )


def _capacity(variants: Sequence[SizedVariant], settings: Settings, devices: Devices) -> Capacity:
    """How many actors may run at once.

    On a CPU more actors mean fewer threads each, not more work done; and all share its memory.
    """
    on_gpu = devices.kind == "cuda"
    # A GPU for which there is no work is left alone.
    most = devices.count if on_gpu else len(variants)
    if settings.replicas is not None:
        most = len(variants) * settings.replicas
    most = min(most, devices.most_actors or most)
    capacity = divide(devices, actors=most)
    largest = max((sized.needed_bytes or 0) + sized.host_bytes for sized in variants)
    if not on_gpu and devices.memory_bytes is not None and largest:
        within = max(1, devices.memory_bytes // largest)
        capacity = divide(devices, actors=min(capacity.actors, within))
    on_host = max(sized.host_bytes for sized in variants)
    if not on_host or devices.host_bytes is None:
        return capacity
    # Several may come to one machine.
    return replace(capacity, streaming=max(1, devices.host_bytes // on_host))
