"""Settings + inputs + devices → variants, their shards and fingerprints, and capacity. Pure."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from orchestrator.candidates import Candidate, known_candidates
from orchestrator.checkpoints import Checkpoint
from orchestrator.contract.manifest import (
    Manifest,
    PromptRecord,
    RunIdentity,
    VariantIdentity,
    VariantRecord,
)
from orchestrator.contract.shards import (
    Assignment,
    ComparedPayload,
    DecodingName,
    ModelLocation,
    Shard,
    ShardRecord,
    TeacherForcedPayload,
)
from orchestrator.contract.tables import SCHEMA_VERSION
from orchestrator.contract.variants import DtypeName, Variant
from orchestrator.devices import Capacity, Devices, divide
from orchestrator.errors import BadInputError
from orchestrator.inputs import Inputs
from orchestrator.pieces import Piece, make_pieces
from orchestrator.settings import Settings
from orchestrator.sizes import activation_bytes, expected_weights_bytes, resident_bytes
from orchestrator.units import binary_size

# Raised when the way a number is computed changes, so that no older shard is taken for a new one.
SCORING_VERSION = 5

# What a process on a GPU takes before any weight: the CUDA context and the libraries' workspaces.
_DEVICE_OVERHEAD_BYTES = 768 * 2**20


@dataclass(frozen=True)
class PlannedVariant:
    """A variant with what the plan decided and foresees of it.

    Attributes:
        identity: the variant, its checkpoint's hash and its arithmetic: what changes its numbers.
        checkpoint: what its weights are made of.
        gpus: how many an actor of it takes; 0 on a CPU.
        expected_weights_bytes: by arithmetic; None where it cannot be foreseen.
        needed_bytes: of a device, the arithmetic's room included; None likewise.
        shards: in the order of the tables.
    """

    identity: VariantIdentity
    checkpoint: Checkpoint
    gpus: int
    expected_weights_bytes: int | None
    needed_bytes: int | None
    shards: tuple[Shard, ...]

    @property
    def variant(self) -> Variant:
        """How its weights are held."""
        return self.identity.variant

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.variant.name

    @property
    def compute_dtype(self) -> DtypeName:
        """The dtype of its arithmetic."""
        return self.identity.compute_dtype

    def assignment(self, device: str, threads: int) -> Assignment:
        """What an actor of it is told.

        Args:
            device: `cuda` or `cpu`.
            threads: processor threads of the actor.
        """
        return Assignment(
            location=self.checkpoint.location,
            variant=self.variant,
            compute_dtype=self.compute_dtype,
            device=device,
            threads=threads,
        )


@dataclass(frozen=True)
class Plan:
    """Everything a sweep will do."""

    run_id: str
    identity: RunIdentity
    settings: Settings
    inputs: Inputs
    variants: tuple[PlannedVariant, ...]
    devices: Devices
    capacity: Capacity

    @property
    def shards(self) -> tuple[Shard, ...]:
        """All shards, variant by variant."""
        return tuple(shard for planned in self.variants for shard in planned.shards)


def make_plan(settings: Settings, inputs: Inputs, devices: Devices) -> Plan:
    """Decides what runs, in which pieces and where.

    Raises:
        BadInputError: a variant that does not fit the devices, or no device at all.
    """
    if devices.count < 1:
        raise BadInputError(
            "--device", "no usable CUDA device was found; check the driver, or use --device cpu"
        )
    planned = {
        candidate.name: _plan_variant(candidate, settings, inputs, devices)
        for candidate in inputs.candidates
    }
    reference = planned[inputs.reference].identity
    decodings = decodings_of(settings, devices.kind)
    pieces = make_pieces(inputs, settings, decodings)
    if len(planned) == 1:
        # The reference scores its own answers for the others alone.
        pieces = [piece for piece in pieces if piece.stage != "teacher_forced"]
    variants = tuple(
        replace(each, shards=_shards(each.identity, pieces, reference)) for each in planned.values()
    )
    _check_fit(variants, settings, inputs, devices)
    identity = _identity(settings, inputs, variants, decodings)
    return Plan(
        run_id=settings.run_id or _default_run_id(settings, identity),
        identity=identity,
        settings=settings,
        inputs=inputs,
        variants=variants,
        devices=devices,
        capacity=_capacity(variants, settings, devices),
    )


def manifest_of(plan: Plan) -> Manifest:
    """The manifest of a plan, started now."""
    inputs = plan.inputs
    return Manifest(
        schema_version=SCHEMA_VERSION,
        run_id=plan.run_id,
        reference=inputs.reference,
        started=datetime.now(UTC),
        identity=plan.identity,
        settings=plan.settings.model_dump(mode="json"),
        model_id=inputs.model.id,
        model_revision=inputs.model.checkpoint.location.revision,
        dataset_name=inputs.dataset.name,
        documents=inputs.dataset.documents,
        tokens=inputs.corpus.tokens,
        words=inputs.corpus.words,
        bytes=inputs.corpus.bytes,
        notes=inputs.notes,
        variants=tuple(
            VariantRecord(
                variant=planned.name,
                kind=planned.variant.kind,
                options=json.dumps(
                    planned.variant.model_dump(exclude={"name", "kind", "weights_dtype"}),
                    sort_keys=True,
                ),
                weights_dtype=planned.variant.weights_dtype,
                compute_dtype=planned.compute_dtype,
                expected_weights_bytes=planned.expected_weights_bytes,
                checkpoint=_checkpoint_name(planned.checkpoint.location, inputs),
                disk_bytes=planned.checkpoint.disk_bytes,
            )
            for planned in plan.variants
        ),
        prompts=tuple(
            PromptRecord(prompt_id=prompt.id, category=prompt.category, text=prompt.text)
            for prompt in inputs.suite.prompts[: len(inputs.prompts)]
        ),
        shards=tuple(shard.record for shard in plan.shards),
    )


def _checkpoint_name(location: ModelLocation, inputs: Inputs) -> str:
    """What a report calls a checkpoint."""
    if location == inputs.model.checkpoint.location:
        return inputs.model.id
    file = "" if location.gguf_file is None else f"/{location.gguf_file}"
    revision = "" if location.revision is None else f" @ {location.revision}"
    return f"{location.id_or_path}{file}{revision}"


def _plan_variant(
    candidate: Candidate, settings: Settings, inputs: Inputs, devices: Devices
) -> PlannedVariant:
    """A variant without its shards."""
    variant, checkpoint = candidate.variant, candidate.checkpoint
    dtype = compute_dtype_of(variant, settings, devices.kind)
    resident = resident_bytes(checkpoint.tensors, variant, dtype)
    at_once = inputs.windows_at_once if variant.tokens_are_independent else 1
    working = activation_bytes(checkpoint.tensors, at_once * inputs.window_length, dtype)
    on_gpu = devices.kind == "cuda"
    overhead = _DEVICE_OVERHEAD_BYTES if on_gpu else 0
    identity = VariantIdentity(
        variant=variant,
        checkpoint_content_hash=checkpoint.content_hash,
        compute_dtype=dtype,
    )
    return PlannedVariant(
        identity=identity,
        checkpoint=checkpoint,
        gpus=1 if on_gpu else 0,
        expected_weights_bytes=expected_weights_bytes(checkpoint.tensors, variant),
        needed_bytes=None if resident is None else resident + working + overhead,
        shards=(),
    )


def compute_dtype_of(variant: Variant, settings: Settings, device_kind: str) -> DtypeName:
    """The dtype of a variant's arithmetic.

    A CPU computes in float32, where half precision is about six times slower; a GPU in the
    variant's own dtype, which is float16 for all but `fp32` and `bf16`.
    """
    if settings.compute_dtype is not None:
        return settings.compute_dtype
    return "float32" if device_kind == "cpu" else variant.weights_dtype


def decodings_of(settings: Settings, device_kind: str) -> tuple[DecodingName, ...]:
    """The ways in which prompts are answered: on a GPU both, unless settings say otherwise.

    Raises:
        BadInputError: a CUDA graph on a CPU.
    """
    if settings.decoding is None:
        return ("eager", "graph") if device_kind == "cuda" else ("eager",)
    if "graph" in settings.decoding and device_kind != "cuda":
        raise BadInputError("--decoding", "graph needs a CUDA device; take eager on a CPU")
    return settings.decoding


def _check_fit(
    variants: Sequence[PlannedVariant], settings: Settings, inputs: Inputs, devices: Devices
) -> None:
    """Refuses a variant that needs more than a device has, as far as that can be foreseen."""
    available = devices.memory_bytes
    if available is None:
        return
    needed, name = max((planned.needed_bytes or 0, planned.name) for planned in variants)
    if needed <= available:
        return
    everything = [
        _plan_variant(candidate, settings, inputs, devices)
        for candidate in known_candidates(inputs.model)
    ]
    fitting = [p.name for p in everything if p.needed_bytes and p.needed_bytes <= available]
    remedy = f"these fit: {', '.join(fitting)}" if fitting else "no variant fits"
    if inputs.windows_at_once > 1:
        remedy += "; fewer windows at once (--batch-tokens) take less"
    raise BadInputError(
        "--variants",
        f"{name} needs {binary_size(needed)} on a device with {binary_size(available)} free, "
        f"{binary_size(needed - available)} too much; {remedy}",
    )


def _capacity(variants: Sequence[PlannedVariant], settings: Settings, devices: Devices) -> Capacity:
    """How many actors may run at once.

    On a CPU more actors mean fewer threads each, not more work done; and all share its memory.
    """
    on_gpu = devices.kind == "cuda"
    most = settings.replicas or (max(len(v.shards) for v in variants) if on_gpu else 1)
    capacity = divide(devices, actors=len(variants) * most)
    largest = max(planned.needed_bytes or 0 for planned in variants)
    if on_gpu or devices.memory_bytes is None or not largest:
        return capacity
    return divide(devices, actors=min(capacity.actors, devices.memory_bytes // largest))


def _identity(
    settings: Settings,
    inputs: Inputs,
    variants: Sequence[PlannedVariant],
    decodings: tuple[DecodingName, ...],
) -> RunIdentity:
    return RunIdentity(
        scoring_version=SCORING_VERSION,
        schema_version=SCHEMA_VERSION,
        model_content_hash=inputs.model.checkpoint.content_hash,
        dataset_content_hash=inputs.dataset.content_hash,
        protocol=settings.protocol,
        window_length=inputs.window_length,
        stride=inputs.stride if settings.protocol == "strided" else None,
        max_windows=settings.max_windows,
        windows_at_once=inputs.windows_at_once,
        prompts_content_hash=inputs.suite.content_hash,
        max_prompts=settings.max_prompts,
        max_new_tokens=settings.max_new_tokens,
        decodings=decodings,
        repeats=settings.repeats,
        batch_sizes=settings.batch_sizes,
        reference=inputs.reference,
        variants=tuple(planned.identity for planned in variants),
    )


def _default_run_id(settings: Settings, identity: RunIdentity) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "-", settings.model.rstrip("/").rsplit("/", 1)[-1]).strip("-")
    return f"{name or 'run'}-{_digest(identity.model_dump())[:10]}"


def _shards(
    identity: VariantIdentity, pieces: Sequence[Piece], reference: VariantIdentity
) -> tuple[Shard, ...]:
    """A variant's shards; the noise floor is the reference's alone."""
    answering = {piece.index: piece for piece in pieces if piece.stage == "generations"}

    def shard_of(piece: Piece) -> Shard:
        reads = None
        if isinstance(piece.payload, TeacherForcedPayload):
            reads = _fingerprint(reference, answering[piece.index])
        compares = isinstance(piece.payload, ComparedPayload) and identity != reference
        needs = _fingerprint(reference, piece, reads=reads) if compares else None
        record = ShardRecord(
            variant=identity.variant.name,
            stage=piece.stage,
            index=piece.index,
            items=piece.payload.items,
            fingerprint=_fingerprint(identity, piece, needs=needs, reads=reads),
            needs=needs,
            reads=reads,
        )
        return Shard(record, piece.payload)

    return tuple(
        shard_of(piece) for piece in pieces if piece.stage != "noise" or identity == reference
    )


def _fingerprint(
    identity: VariantIdentity, piece: Piece, needs: str | None = None, reads: str | None = None
) -> str:
    """The hash of all that changes a shard's table: its recipe."""
    return _digest(
        {
            "scoring_version": SCORING_VERSION,
            "schema_version": SCHEMA_VERSION,
            "variant": identity.model_dump(),
            "payload": piece.digest,
            "needs": needs,
            "reads": reads,
        }
    )


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
