"""What a sweep, its plan and its verification do alike before anything runs."""

from contextlib import suppress
from dataclasses import replace

from rich.console import Console

from orchestrator.background import Background
from orchestrator.console import say
from orchestrator.errors import BadInputError
from orchestrator.inputs.sources import Inputs, Sources, cut_inputs, find_sources
from orchestrator.planning.devices import Devices, device_for, local_devices
from orchestrator.planning.layout import least_gpu_bytes
from orchestrator.planning.plan import Plan, make_plan
from orchestrator.running.log import Log
from orchestrator.running.nodes import Needs, files_in_folders
from orchestrator.settings import Settings
from orchestrator.storage.results_folder import ResultsFolder


def find_model(settings: Settings, log: Log) -> Sources:
    """As `find_sources`, told of."""
    with log.phase(f"finding the model {settings.model}"):
        return find_sources(settings)


def check_gates(settings: Settings, sources: Sources) -> None:
    """Refuses gates of what a sweep does not have; raises BadInputError."""
    names = [choice.name for choice in settings.choices]
    asked = sources.suite.prompts[: settings.max_prompts]
    settings.check(names, sources.reference, (prompt.category for prompt in asked))


def with_device(settings: Settings, sources: Sources, console: Console) -> Settings:
    """The settings, with the CPU for a model too small for a GPU, unless they say otherwise."""
    if "graph" in (settings.decoding or ()) or settings.wait_for_gpus is not None:
        return settings
    elements = sum(tensor.elements for tensor in sources.model.checkpoint.tensors)
    chosen = device_for(settings.device, elements)
    if chosen != settings.device and local_devices(settings.device).kind == "cuda":
        say(
            console,
            f"{sources.model.id} has {elements / 1e6:.1f} million parameters, for which the CPU is "
            "faster than a GPU that waits for its launches; --device cuda takes the GPU",
        )
    return settings.model_copy(update={"device": chosen})


def needs_of(settings: Settings, sources: Sources) -> Needs:
    """What a node of a cluster must have to be of use for all variants."""
    # Where models run on processors, no GPU is too small.
    gpu_bytes = 0 if settings.device == "cpu" else least_gpu_bytes(settings, sources)
    return Needs(files_in_folders(sources.checkpoints), gpu_bytes)


def cut_windows(
    settings: Settings, sources: Sources, log: Log, ahead: Background[None] | None = None
) -> Inputs:
    """As `cut_inputs`, told of.

    Args:
        ahead: imports what it needs.
    """
    with log.phase(f"cutting {settings.dataset} into windows"):
        if ahead is not None:
            # What goes wrong there goes wrong again where it can be told.
            ahead.wait()
        return cut_inputs(settings, sources)


def plan_of(settings: Settings, inputs: Inputs, devices: Devices, results: ResultsFolder) -> Plan:
    """As `make_plan`; a run that was begun goes on with as many windows at once, and where its
    variants were, as long as they fit there.

    Raises:
        BadInputError: also where so many windows do not fit any more.
    """
    plan = make_plan(settings, inputs, devices)
    folder = results.run(plan.run_id)
    if not folder.exists():
        return plan
    begun = folder.read_manifest()
    at_once = begun.identity.windows_at_once if settings.batch_tokens == "auto" else None
    is_same = at_once in (None, plan.identity.windows_at_once)
    places = {record.variant: record.placement for record in begun.variants}
    if settings.placement == "auto" and not (is_same and places == plan.places):
        as_begun = settings.model_copy(update={"placement": places})
        with suppress(BadInputError):
            return replace(make_plan(as_begun, inputs, devices, at_once), settings=settings)
    return plan if is_same else make_plan(settings, inputs, devices, at_once)
