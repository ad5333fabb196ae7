"""Settings + inputs + devices → variants, their shards and fingerprints, and capacity. Pure."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from orchestrator.contract.manifest import (
    Look,
    Manifest,
    PromptRecord,
    RunIdentity,
    UntilDecided,
    VariantIdentity,
    VariantRecord,
    Versions,
)
from orchestrator.contract.names import LONGEST_NAME
from orchestrator.contract.sampling import UNTIL_DECIDED_CONFIDENCE, stretches_of
from orchestrator.contract.shards import DecodingName, DeviceKind, ModelLocation, Shard, ShardRecord
from orchestrator.contract.stages import SCORING_VERSION, STAGES
from orchestrator.contract.version import VERSION
from orchestrator.errors import BadInputError
from orchestrator.inputs.sources import Inputs
from orchestrator.planning.devices import Capacity, Devices
from orchestrator.planning.layout import Layout, SizedVariant, lay_out
from orchestrator.planning.pieces import Cut, Piece, make_pieces
from orchestrator.printable import masked
from orchestrator.settings import Settings


@dataclass(frozen=True)
class PlannedVariant(SizedVariant):
    """A variant with what the plan decided of it.

    Attributes:
        identity: the variant, its checkpoint's hash and its arithmetic: what changes its numbers.
        shards: in the order of the tables.
    """

    identity: VariantIdentity
    shards: tuple[Shard, ...]


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

    @property
    def places(self) -> dict[str, str]:
        """Where each variant is held, by its name."""
        return {planned.name: planned.placement.text for planned in self.variants}

    def up_to(self, look: int | None) -> "Plan":
        """The same without the windows of later looks; all of it where None decided."""
        return self if look is None else self.of(lambda record: not record.is_after(look))

    def of(self, keeps: Callable[[ShardRecord], bool]) -> "Plan":
        """The same with those shards alone that are kept, and the variants that have some."""
        variants = (
            replace(planned, shards=tuple(one for one in planned.shards if keeps(one.record)))
            for planned in self.variants
        )
        return replace(self, variants=tuple(planned for planned in variants if planned.shards))

    @property
    def stages(self) -> list[str]:
        """The stages that there are shards of, in order."""
        found = {shard.record.stage for shard in self.shards}
        return [stage for stage in STAGES if stage in found]


def make_plan(
    settings: Settings, inputs: Inputs, devices: Devices, windows_at_once: int | None = None
) -> Plan:
    """Decides what runs, in which pieces and where.

    Args:
        windows_at_once: how many may be in a batch, whatever the settings say.

    Raises:
        BadInputError: a variant that does not fit the devices, or no device at all.
    """
    layout = lay_out(settings, inputs, devices, windows_at_once)
    identities = {sized.name: _identity_of(sized) for sized in layout.variants}
    reference = identities[inputs.reference]
    decodings = decodings_of(settings, devices.kind)
    cut = Cut(inputs, settings, layout.windows_at_once, decodings)
    pieces = _pieces_of(layout, cut)
    of_reference = pieces[inputs.reference]
    variants = tuple(
        PlannedVariant(
            **vars(sized),
            identity=identities[sized.name],
            shards=_shards(identities[sized.name], pieces[sized.name], reference, of_reference),
        )
        for sized in layout.variants
    )
    identity = _identity(settings, inputs, variants, layout.windows_at_once, decodings)
    return Plan(
        run_id=settings.run_id or _default_run_id(settings, identity),
        identity=identity,
        settings=settings,
        inputs=inputs,
        variants=variants,
        devices=devices,
        capacity=layout.capacity,
    )


def _pieces_of(layout: Layout, cut: Cut) -> dict[str, list[Piece]]:
    """The pieces of each variant, by its name: those of one place are the same."""
    places = {sized.name: sized.placement.text for sized in layout.variants}
    pieces = {place: make_pieces(replace(cut, placement=place)) for place in set(places.values())}
    alone = len(places) == 1
    return {
        name: [one for one in pieces[place] if not (alone and STAGES[one.stage].for_candidates)]
        for name, place in places.items()
    }


def manifest_of(plan: Plan) -> Manifest:
    """The manifest of a plan, started now."""
    inputs = plan.inputs
    return Manifest(
        orchestrator_version=VERSION,
        versions=Versions(
            scoring=SCORING_VERSION,
            stages={stage: STAGES[stage].version for stage in plan.stages},
        ),
        run_id=plan.run_id,
        reference=inputs.reference,
        started=datetime.now(UTC),
        identity=plan.identity,
        settings=_without_secrets(plan.settings.model_dump(mode="json")),
        model_id=inputs.model.id,
        model_revision=inputs.model.checkpoint.location.revision,
        dataset_name=inputs.dataset.name,
        documents=inputs.dataset.documents,
        tokens=inputs.corpus.tokens,
        words=inputs.corpus.words,
        bytes=inputs.corpus.bytes,
        text_windows=len(inputs.corpus.windows),
        maximum_length=inputs.model.maximum_length,
        looks=looks_of(inputs),
        notes=tuple(map(str, inputs.notes)),
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
                foreseen_device_bytes=planned.needed_bytes,
                placement=planned.placement.text,
            )
            for planned in plan.variants
        ),
        prompts=tuple(
            PromptRecord(prompt_id=prompt.id, category=prompt.category, text=prompt.text)
            for prompt in inputs.suite.prompts[: len(inputs.prompts)]
        ),
        shards=tuple(shard.record for shard in plan.shards),
    )


def _without_secrets(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as a file may have them that others read."""
    return {name: masked(v) if isinstance(v, str) else v for name, v in settings.items()}


def looks_of(inputs: Inputs) -> tuple[Look, ...]:
    """The looks at the text, each with the stretches of its windows."""
    tokens = inputs.corpus.windows.lengths
    seen = accumulate(inputs.looks, lambda before, added: (*before, *added))
    return tuple(
        Look(
            windows=len(numbers),
            stretches=stretches_of(sorted(numbers), tokens, inputs.corpus.articles),
        )
        for numbers in seen
    )


def _checkpoint_name(location: ModelLocation, inputs: Inputs) -> str:
    """What a report calls a checkpoint."""
    if location == inputs.model.checkpoint.location:
        return inputs.model.id
    if location.adapter is not None:
        return f"{inputs.model.id} with {location.adapter.name}"
    file = "" if location.gguf_file is None else f"/{location.gguf_file}"
    revision = "" if location.revision is None else f" @ {location.revision}"
    return f"{location.id_or_path}{file}{revision}"


def _identity_of(sized: SizedVariant) -> VariantIdentity:
    """What changes a variant's numbers."""
    return VariantIdentity(
        variant=sized.variant,
        checkpoint_content_hash=sized.checkpoint.content_hash,
        compute_dtype=sized.compute_dtype,
    )


def decodings_of(settings: Settings, device_kind: DeviceKind) -> tuple[DecodingName, ...]:
    """The ways in which prompts are answered: on a GPU both, unless settings say otherwise.

    Raises:
        BadInputError: a CUDA graph on a CPU.
    """
    if settings.decoding is None:
        return ("eager", "graph") if device_kind == "cuda" else ("eager",)
    if "graph" in settings.decoding and device_kind != "cuda":
        raise BadInputError("--decoding", "graph needs a CUDA device; take eager on a CPU")
    return settings.decoding


def _identity(
    settings: Settings,
    inputs: Inputs,
    variants: Sequence[PlannedVariant],
    windows_at_once: int,
    decodings: tuple[DecodingName, ...],
) -> RunIdentity:
    return RunIdentity(
        model_content_hash=inputs.model.checkpoint.content_hash,
        dataset_content_hash=inputs.dataset.content_hash,
        protocol=settings.protocol,
        window_length=inputs.window_length,
        stride=inputs.stride if settings.protocol == "strided" else None,
        max_windows=settings.max_windows,
        window_choice=None if settings.max_windows is None else settings.window_choice,
        until_decided=_until_decided(settings, inputs),
        windows_at_once=windows_at_once,
        prompts_content_hash=inputs.suite.content_hash,
        max_prompts=settings.max_prompts,
        max_new_tokens=settings.max_new_tokens,
        decodings=decodings,
        repeats=settings.repeats,
        batch_sizes=settings.batch_sizes,
        reference=inputs.reference,
        variants=tuple(planned.identity for planned in variants),
    )


def _until_decided(settings: Settings, inputs: Inputs) -> UntilDecided | None:
    if not settings.until_decided:
        return None
    return UntilDecided(
        gates=tuple(gate.text for gate in settings.gates_over_windows()),
        windows=tuple(accumulate(map(len, inputs.looks))),
        confidence=UNTIL_DECIDED_CONFIDENCE,
    )


def _default_run_id(settings: Settings, identity: RunIdentity) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "-", settings.model.rstrip("/").rsplit("/", 1)[-1]).strip("-")
    # As it was said: on another day, when less memory is free, the run is to be found again.
    at_once = "auto" if settings.batch_tokens == "auto" else identity.windows_at_once
    digest = _digest({**identity.model_dump(), "windows_at_once": at_once})[:10]
    return f"{name[: LONGEST_NAME - len(digest) - 1].strip('-') or 'run'}-{digest}"


def _shards(
    identity: VariantIdentity,
    pieces: Sequence[Piece],
    reference: VariantIdentity,
    of_reference: Sequence[Piece],
) -> tuple[Shard, ...]:
    """A variant's shards.

    Args:
        of_reference: the reference's pieces. Those that are compared are the variant's own.
    """
    having = {
        (piece.stage, number): piece
        for piece in of_reference
        for number in piece.payload.item_numbers
    }

    def reads_of(piece: Piece) -> tuple[str, ...]:
        """The reference's shards that have a piece's items in the stage that it reads."""
        stage = STAGES[piece.stage].reads
        if stage is None:
            return ()
        sources = (having[stage, number] for number in piece.payload.item_numbers)
        return tuple(dict.fromkeys(map(fingerprint_of_reference, sources)))

    def fingerprint_of_reference(piece: Piece) -> str:
        return _fingerprint(reference, piece, reads=reads_of(piece))

    def shard_of(piece: Piece) -> Shard:
        reads = reads_of(piece)
        compares = STAGES[piece.stage].is_compared and identity != reference
        needs = fingerprint_of_reference(piece) if compares else None
        record = ShardRecord(
            variant=identity.variant.name,
            stage=piece.stage,
            index=piece.index,
            items=piece.payload.items,
            fingerprint=_fingerprint(identity, piece, needs=needs, reads=reads),
            needs=needs,
            reads=reads,
            look=piece.look,
        )
        return Shard(record, piece.payload)

    return tuple(
        shard_of(piece)
        for piece in pieces
        if not STAGES[piece.stage].of_reference or identity == reference
    )


def _fingerprint(
    identity: VariantIdentity,
    piece: Piece,
    needs: str | None = None,
    reads: Sequence[str] = (),
) -> str:
    """The hash of all that changes a shard's table: its recipe."""
    return _digest(
        {
            "scoring_version": SCORING_VERSION,
            # As all stages had one version once.
            "schema_version": STAGES[piece.stage].version,
            "variant": identity.model_dump(),
            "payload": piece.digest,
            "needs": needs,
            "reads": reads or None,
        }
    )


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
