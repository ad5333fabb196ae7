"""Actors that are asked for before it is known what they will do."""

import time
from dataclasses import dataclass

from orchestrator.contract.exchange import Loaded
from orchestrator.planning.layout import Layout
from orchestrator.running.policy import room_for
from orchestrator.running.pool import Actor, Call, Pool


@dataclass(frozen=True)
class Prepared:
    """An actor that was asked for beforehand.

    Attributes:
        asked: when, in seconds since the epoch.
        variant: the one that it is to load; None where it just imports what any needs.
        loading: the call to load it.
    """

    actor: Actor
    gpus: int
    asked: float
    variant: str | None = None
    loading: Call[Loaded | None] | None = None


def prepare(pool: Pool, layout: Layout, *, loads: bool, now: float | None = None) -> list[Prepared]:
    """Starts as many actors as there may be; importing and loading take them a while.

    Args:
        loads: whether all variants are to be run as far as one knows. Then the first actors load
            one each, the reference first, which feeds the others.
        now: the time, if not that of the machine.
    """
    variants = sorted(layout.variants, key=lambda sized: sized.name != layout.reference)
    describe = len(variants) > 1
    free_gpus, prepared = layout.capacity.gpus, []
    room_to_stream = layout.capacity.streaming or layout.capacity.actors
    for number in range(layout.capacity.actors):
        sized = variants[number] if loads and number < len(variants) else None
        gpus = (
            min(each.placement.gpus for each in variants) if sized is None else sized.placement.gpus
        )
        if room_for(gpus, layout.devices.node_gpus) > free_gpus:
            break
        free_gpus -= gpus
        room_to_stream -= sized is not None and sized.placement.kind == "stream"
        if room_to_stream < 0:
            break
        actor, asked = pool.start(gpus), time.time() if now is None else now
        if sized is None:
            # What goes wrong is told when a model is loaded.
            actor.prepare(variants[0].placement)
            prepared.append(Prepared(actor, gpus, asked))
            continue
        assignment = sized.assignment(layout.capacity.threads)
        described = describe and sized.name == layout.reference
        loading = actor.load(assignment, described)
        prepared.append(Prepared(actor, gpus, asked, sized.name, loading))
    return prepared
