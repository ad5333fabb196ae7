"""Engines of tiny models."""

from pathlib import Path

from actors.engine import Engine
from orchestrator.contract.shards import ModelLocation
from tests.pipeline import assignment
from tests.tiny_models import make_tiny_model


def engine_of(folder: Path, variant: str = "fp16") -> Engine:
    """A variant of a tiny model, made in a folder, computing in float32 on the CPU."""
    return Engine(assignment(ModelLocation(id_or_path=str(make_tiny_model(folder))), variant))
