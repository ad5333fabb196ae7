"""Engines of tiny models."""

from pathlib import Path

from actors.transformers_engine import TransformersEngine
from orchestrator.contract.shards import ModelLocation, OneDevice, Placement
from orchestrator.contract.variants import DtypeName
from tests.pipeline import assignment
from tests.tiny_models import make_tiny_model


def engine_of(folder: Path, variant: str = "fp16") -> TransformersEngine:
    """A variant of a tiny model, made in a folder, computing in float32 on the CPU."""
    return engine_at(make_tiny_model(folder), OneDevice(device="cpu"), variant=variant)


def engine_at(
    folder: Path, placement: Placement, dtype: DtypeName = "float32", variant: str = "fp16"
) -> TransformersEngine:
    """A variant of the model of a folder, in a place, computing in a dtype."""
    there = assignment(ModelLocation(id_or_path=str(folder)), variant, dtype)
    return TransformersEngine(there.model_copy(update={"placement": placement}))
