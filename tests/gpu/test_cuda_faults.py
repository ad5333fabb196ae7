"""A device without memory left, files that change, on a real GPU; skipped where there is none."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from actors.actor import ModelActor
from actors.transformers_engine import TransformersEngine
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.stages import WindowsPayload
from orchestrator.contract.variant_errors import FilesChangedError, NoMemoryError
from orchestrator.inputs.checkpoints import locate
from tests.models.actors.test_model_files import overwrite, replace
from tests.pipeline import assignment, make_test_plan, write_inputs
from tests.tiny_models import make_tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def all_that_is_left() -> Iterator[torch.Tensor]:
    """Tensors that take what the process may still have of the device, in ever smaller pieces."""
    size = 2**22
    while size >= 2**9:
        try:
            yield torch.empty(size, dtype=torch.uint8, device="cuda")
        except torch.cuda.OutOfMemoryError:
            size //= 2


def test_a_device_without_memory_is_told_apart_and_may_do_it_another_time(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    plan = make_test_plan(
        model=str(model),
        variants=("fp16",),
        window_length=64,
        batch_tokens=1,
        max_windows=4,
        max_prompts=0,
        results=tmp_path,
        **write_inputs(tmp_path, ["the river rises in the northern hills . " * 40]),
    )
    shard = next(s for s in plan.variants[0].shards if s.record.stage == "windows")
    assert isinstance(shard.payload, WindowsPayload)
    told = assignment(ModelLocation(id_or_path=str(model)), "fp16", device="cuda")
    engine = TransformersEngine(told)
    before = engine.evaluate(shard.payload)
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    held = torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction((held + 1024) / total)
    try:
        filler = list(all_that_is_left())
        with pytest.raises(NoMemoryError, match="Lower --batch-tokens"):
            engine.evaluate(shard.payload)
        del filler
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    after = engine.evaluate(shard.payload)
    kept = [name for name in before.column_names if "seconds" not in name and "bytes" not in name]
    assert after.select(kept).equals(before.select(kept))


def test_a_model_on_the_device_minds_no_file_that_takes_its_place(tmp_path: Path) -> None:
    folder, location = locate(str(make_tiny_model(tmp_path / "model")), None, "--model")
    location = location.model_copy(update={"files": ("config.json", "model.safetensors")})
    actor = ModelActor()
    told = assignment(location, "fp16", device="cuda")
    loaded = actor.load(told, describe=True)
    assert loaded is not None
    assert len(loaded.files) == 2
    replace(folder / "model.safetensors")
    again = actor.load(told, describe=False)
    assert again is not None
    assert again.files != loaded.files
    overwrite(folder / "model.safetensors")
    assert actor._files is not None
    with pytest.raises(FilesChangedError):
        actor._files.check_in_place()
