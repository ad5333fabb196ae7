"""Settings + inputs + devices → variants, shards, fingerprints and placement. Pure."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.corpus import Corpus, Dataset
from orchestrator.devices import Devices, Slots, allot
from orchestrator.errors import BadInputError
from orchestrator.models import Model, TensorShape
from orchestrator.prompts import PromptSuite
from orchestrator.report.formats import size
from orchestrator.settings import Settings
from orchestrator.shards import LoadShard, Prompt, PromptShard, ShardWork, Window, WindowShard
from orchestrator.sizes import expected_weights_bytes, resident_bytes
from orchestrator.tables import SCHEMA_VERSION
from orchestrator.variants import DTYPE_BYTES, VARIANTS, DtypeName, Variant

# Raised when the way a number is computed changes, so that no older shard is taken for a new one.
SCORING_VERSION = 1

_DEFAULT_LENGTH = 2048
_LLAMACPP_LENGTH = 512
# What a process on a GPU takes before any weight: the CUDA context and the libraries' workspaces.
_DEVICE_OVERHEAD_BYTES = 768 * 2**20


@dataclass(frozen=True)
class Inputs:
    """What a sweep runs over, read and cut."""

    model: Model
    dataset: Dataset
    corpus: Corpus
    suite: PromptSuite
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True)
class PlannedVariant:
    """A variant with what the plan decided and foresees of it."""

    variant: Variant
    compute_dtype: DtypeName
    expected_weights_bytes: int
    needed_bytes: int


@dataclass(frozen=True)
class Shard:
    """A unit of work for one variant, identified by the content behind it."""

    variant: str
    index: int
    work: ShardWork
    fingerprint: str

    @property
    def path(self) -> str:
        """Where its table goes, below the run's folder `shards`."""
        return f"{self.variant}/{self.work.stage}-{self.index:05d}-{self.fingerprint[:16]}.arrow"


@dataclass(frozen=True)
class Plan:
    """Everything a sweep will do.

    Attributes:
        identity: what changes a number; two runs with the same identity give the same tables.
        window_length, stride: in tokens, defaults resolved.
        shards: in the order of the tables, variant by variant.
    """

    run_id: str
    identity: dict[str, Any]
    settings: Settings
    inputs: Inputs
    window_length: int
    stride: int
    variants: tuple[PlannedVariant, ...]
    shards: tuple[Shard, ...]
    devices: Devices
    slots: Slots


def window_geometry(settings: Settings, model: Model) -> tuple[int, int]:
    """The window length and stride in tokens, defaults resolved.

    Raises:
        BadInputError: a window beyond the model's maximum, a stride beyond the window.
    """
    default = _LLAMACPP_LENGTH if settings.protocol == "llamacpp" else _DEFAULT_LENGTH
    length = settings.window_length or min(default, model.maximum_length)
    if length > model.maximum_length:
        raise BadInputError(
            "--window-length",
            f"{length} is more than the model's maximum of {model.maximum_length} tokens; lower it",
        )
    stride = settings.stride or max(1, length // 2)
    if stride > length:
        raise BadInputError(
            "--stride", f"{stride} is more than the window length {length}; lower it"
        )
    if settings.protocol == "llamacpp" and length < 4:
        raise BadInputError("--window-length", "llamacpp needs windows of 4 tokens or more")
    return length, stride


def check_prompts(prompts: Sequence[Prompt], settings: Settings, model: Model) -> None:
    """Refuses prompts that leave no room for their answers.

    Raises:
        BadInputError: a prompt and its answer exceed the model's maximum.
    """
    room = model.maximum_length - settings.max_new_tokens
    for prompt in prompts:
        if len(prompt.input_ids) > room:
            raise BadInputError(
                "--max-new-tokens",
                f"prompt '{prompt.id}' has {len(prompt.input_ids)} tokens; with "
                f"{settings.max_new_tokens} new ones it exceeds the model's maximum of "
                f"{model.maximum_length}; lower it or shorten the prompt",
            )


def make_plan(settings: Settings, inputs: Inputs, devices: Devices) -> Plan:
    """Decides what runs, in which pieces and where.

    Raises:
        BadInputError: a variant that does not fit the devices, or no device at all.
    """
    if devices.count < 1:
        raise BadInputError(
            "--device", "no usable CUDA device was found; check the driver, or use --device cpu"
        )
    length, stride = window_geometry(settings, inputs.model)
    windows = inputs.corpus.windows[: settings.max_windows]
    prompts = inputs.prompts[: settings.max_prompts]
    if not windows and not prompts:
        raise BadInputError("--max-windows", "no window and no prompt is left; raise a limit")
    variants = tuple(
        _plan_variant(VARIANTS[name], settings, inputs.model, length, devices)
        for name in settings.variants
    )
    slots = _fit(variants, settings, inputs.model, length, devices, len(windows) + len(prompts))
    works = _partition(windows, prompts, settings)
    digests = [hashlib.sha256(work.model_dump_json().encode()).hexdigest() for work in works]
    shards = tuple(
        Shard(
            variant=planned.variant.name,
            index=index,
            work=work,
            fingerprint=_shard_fingerprint(planned, inputs.model, digest),
        )
        for planned in variants
        for (index, work), digest in zip(works_indexed(works), digests, strict=True)
    )
    identity = _identity(settings, inputs, variants, length, stride)
    return Plan(
        run_id=settings.run_id or _default_run_id(settings, identity),
        identity=identity,
        settings=settings,
        inputs=inputs,
        window_length=length,
        stride=stride,
        variants=variants,
        shards=shards,
        devices=devices,
        slots=slots,
    )


def works_indexed(works: Sequence[ShardWork]) -> list[tuple[int, ShardWork]]:
    """Numbers the pieces of each stage from 0."""
    counts: dict[str, int] = {}
    numbered: list[tuple[int, ShardWork]] = []
    for work in works:
        index = counts.get(work.stage, 0)
        counts[work.stage] = index + 1
        numbered.append((index, work))
    return numbered


def _partition(
    windows: Sequence[Window], prompts: Sequence[Prompt], settings: Settings
) -> list[ShardWork]:
    count = settings.shard_size
    return [
        LoadShard(),
        *(
            WindowShard(first=first, windows=tuple(windows[first : first + count]))
            for first in range(0, len(windows), count)
        ),
        *(
            PromptShard(
                first=first,
                prompts=tuple(prompts[first : first + count]),
                max_new_tokens=settings.max_new_tokens,
            )
            for first in range(0, len(prompts), count)
        ),
    ]


def compute_dtype_of(variant: Variant, settings: Settings, device_kind: str) -> DtypeName:
    """The dtype of a variant's arithmetic.

    A CPU computes in float32, where half precision is about six times slower; a GPU in the
    variant's own dtype, which is float16 for all but `fp32` and `bf16`.
    """
    if settings.compute_dtype is not None:
        return settings.compute_dtype
    return "float32" if device_kind == "cpu" else variant.weights_dtype


def _plan_variant(
    variant: Variant, settings: Settings, model: Model, length: int, devices: Devices
) -> PlannedVariant:
    dtype = compute_dtype_of(variant, settings, devices.kind)
    resident = resident_bytes(model.tensors, variant, dtype)
    logits = length * _vocabulary(model.tensors) * DTYPE_BYTES[dtype]
    overhead = _DEVICE_OVERHEAD_BYTES if devices.kind == "cuda" else 0
    return PlannedVariant(
        variant=variant,
        compute_dtype=dtype,
        expected_weights_bytes=expected_weights_bytes(model.tensors, variant),
        needed_bytes=resident + logits + overhead,
    )


def _vocabulary(tensors: Sequence[TensorShape]) -> int:
    """The rows of the output head, or of the embedding that it shares."""
    names = ("lm_head", "embed_out", "embed_tokens", "wte", "word_embeddings", "embed_in")
    return max(
        (
            tensor.shape[0]
            for tensor in tensors
            if len(tensor.shape) == 2 and set(names).intersection(tensor.name.split("."))
        ),
        default=0,
    )


def _fit(
    variants: Sequence[PlannedVariant],
    settings: Settings,
    model: Model,
    length: int,
    devices: Devices,
    items: int,
) -> Slots:
    """Chooses how many actors run at once, none larger than its device.

    Raises:
        BadInputError: a variant needs more than a device has.
    """
    largest = max(variants, key=lambda planned: planned.needed_bytes)
    available = devices.memory_bytes
    if available is not None and largest.needed_bytes > available:
        everything = [
            _plan_variant(variant, settings, model, length, devices)
            for variant in VARIANTS.values()
        ]
        fitting = [p.variant.name for p in everything if p.needed_bytes <= available]
        remedy = f"these fit: {', '.join(fitting)}" if fitting else "no variant fits"
        raise BadInputError(
            "--variants",
            f"{largest.variant.name} needs {size(largest.needed_bytes)} on a device with "
            f"{size(available)} free, {size(largest.needed_bytes - available)} too much; {remedy}",
        )
    # On a CPU more actors mean fewer threads each, not more work done.
    replicas = settings.replicas or (max(1, items) if devices.kind == "cuda" else 1)
    slots = allot(devices, actors=len(variants) * replicas)
    if devices.kind == "cpu" and available is not None:
        slots = allot(devices, actors=min(slots.count, available // largest.needed_bytes))
    return slots


def _identity(
    settings: Settings,
    inputs: Inputs,
    variants: Sequence[PlannedVariant],
    length: int,
    stride: int,
) -> dict[str, Any]:
    return {
        "scoring_version": SCORING_VERSION,
        "schema_version": SCHEMA_VERSION,
        "model": inputs.model.content_hash,
        "dataset": inputs.dataset.content_hash,
        "protocol": settings.protocol,
        "window_length": length,
        "stride": stride if settings.protocol == "strided" else None,
        "max_windows": settings.max_windows,
        "prompts": inputs.suite.content_hash,
        "max_prompts": settings.max_prompts,
        "max_new_tokens": settings.max_new_tokens,
        "reference": settings.reference_variant,
        "variants": [planned.variant.model_dump() for planned in variants],
        "compute_dtypes": {planned.variant.name: planned.compute_dtype for planned in variants},
    }


def _default_run_id(settings: Settings, identity: dict[str, Any]) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "-", settings.model.rstrip("/").rsplit("/", 1)[-1]).strip("-")
    return f"{name or 'run'}-{_digest(identity)[:10]}"


def _shard_fingerprint(planned: PlannedVariant, model: Model, work_digest: str) -> str:
    return _digest(
        {
            "scoring_version": SCORING_VERSION,
            "schema_version": SCHEMA_VERSION,
            "model": model.content_hash,
            "variant": planned.variant.model_dump(),
            "compute_dtype": planned.compute_dtype,
            "work": work_digest,
        }
    )


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
