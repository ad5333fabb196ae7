"""Engines of tiny models."""

from pathlib import Path

from actors.transformers_engine import TransformersEngine
from orchestrator.contract.shards import ModelLocation
from tests.pipeline import assignment
from tests.tiny_models import make_tiny_model


def engine_of(folder: Path, variant: str = "fp16") -> TransformersEngine:
    """A variant of a tiny model, made in a folder, computing in float32 on the CPU."""
    return TransformersEngine(
        assignment(ModelLocation(id_or_path=str(make_tiny_model(folder))), variant)
    )
