"""The commands' work: inputs → plan → dispatch → store → reduce → report."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from orchestrator.comparison import compare
from orchestrator.corpus import load_dataset_rows, make_corpus
from orchestrator.devices import Devices, local_devices
from orchestrator.errors import BadInputError, ExitStatus
from orchestrator.interface import Comparison
from orchestrator.models import resolve_model
from orchestrator.plan import Inputs, Plan, check_prompts, make_plan, window_geometry
from orchestrator.prompts import load_prompts
from orchestrator.reduce import reduce_run
from orchestrator.report.formats import size
from orchestrator.report.terminal import print_comparison, result_console
from orchestrator.report.write import write_report
from orchestrator.settings import Settings
from orchestrator.shards import Prompt
from orchestrator.store import (
    RunStore,
    finished_fingerprints,
    manifest_of,
    read_manifest,
    remaining,
)
from orchestrator.telemetry import Progress, error_console
from orchestrator.tokens import ModelTokenizer


def read_inputs(settings: Settings) -> Inputs:
    """Reads and cuts everything that a sweep runs over.

    Raises:
        BadInputError: some of it cannot be used.
    """
    model = resolve_model(settings.model, settings.revision)
    length, stride = window_geometry(settings, model)
    dataset = load_dataset_rows(settings.dataset)
    suite = load_prompts(settings.prompts)
    tokenizer = ModelTokenizer(model)
    prompts = tuple(
        Prompt(
            id=prompt.id, category=prompt.category, input_ids=tokenizer.encode_prompt(prompt.text)
        )
        for prompt in suite.prompts[: settings.max_prompts]
    )
    check_prompts(prompts, settings, model)
    corpus = make_corpus(dataset, tokenizer, settings.protocol, length, stride)
    return Inputs(model=model, dataset=dataset, corpus=corpus, suite=suite, prompts=prompts)


def run_sweep(settings: Settings) -> int:
    """Runs what is not yet finished, then writes and prints the comparison.

    Returns:
        DONE, FAILED where shards were given up, STOPPED_EARLY after a signal.
    """
    _check_results_folder(settings)
    inputs = read_inputs(settings)
    console = error_console()
    if settings.cluster == "local":
        # Planned before Ray starts: bad input and a finished run answer at once.
        plan = make_plan(settings, inputs, local_devices(settings.device))
        with RunStore(settings.results, manifest_of(plan)) as store:
            if not remaining(plan.shards, store.finished(plan.shards)):
                return _conclude(store, console)
    with _devices(settings) as devices:
        plan = make_plan(settings, inputs, devices)
        with RunStore(settings.results, manifest_of(plan)) as store:
            return _dispatch(plan, store, console)


@contextmanager
def _devices(settings: Settings) -> Iterator[Devices]:
    # Imported here: Ray takes a second, and what needs none must not wait.
    from orchestrator.cluster import connected

    with connected(settings) as devices:
        yield devices


def _dispatch(plan: Plan, store: RunStore, console: Console) -> int:
    from orchestrator.dispatch import Dispatcher, StopRequest

    done = store.finished(plan.shards)
    todo = remaining(plan.shards, done)
    console.print(
        f"{store.folder}: {len(done)} shards done, {len(todo)} to do on "
        f"{plan.slots.count} {plan.devices.kind} actors",
        highlight=False,
        soft_wrap=True,
    )
    with StopRequest() as stop, Progress(plan.shards, done, console) as progress:
        outcome = Dispatcher(plan, store.commit, progress).run(todo, stop)
    if outcome.stopped:
        command = f"python -m orchestrator {shlex.join(sys.argv[1:])}"
        console.print(
            f"stopped early; finished shards are kept. To resume: {command}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return ExitStatus.STOPPED_EARLY
    if outcome.abandoned:
        if finished_fingerprints(store.folder, store.manifest):
            _show(store.folder)
        console.print(
            f"incomplete: {len(outcome.abandoned)} shards were given up; "
            "run the same command again to retry them",
            highlight=False,
            soft_wrap=True,
        )
        return ExitStatus.FAILED
    return _conclude(store, console)


def _conclude(store: RunStore, console: Console) -> int:
    store.finish()
    _show(store.folder)
    settings = store.manifest.settings
    if settings["model"] == "demo":
        console.print(
            "For a real model: python -m orchestrator --sweep qwen-0.5b --cluster local",
            highlight=False,
            soft_wrap=True,
        )
    return ExitStatus.DONE


def _show(folder: Path) -> Comparison:
    manifest = read_manifest(folder)
    comparison = compare(reduce_run(folder, manifest), manifest)
    report = write_report(folder, comparison)
    console = result_console()
    print_comparison(comparison, console)
    console.print(f"Report: {report}", markup=False, highlight=False, soft_wrap=True)
    return comparison


def show_plan(settings: Settings) -> int:
    """Prints what would run, where and how big; runs nothing."""
    inputs = read_inputs(settings)
    if settings.cluster == "local":
        plan = make_plan(settings, inputs, local_devices(settings.device))
    else:
        with _devices(settings) as devices:
            plan = make_plan(settings, inputs, devices)
    console = result_console()
    table = Table(title=f"{plan.run_id}")
    for column in ("variant", "weights", "on the device", "compute dtype", "shards"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for planned in plan.variants:
        name = planned.variant.name
        table.add_row(
            name,
            size(planned.expected_weights_bytes),
            size(planned.needed_bytes),
            planned.compute_dtype,
            str(sum(shard.variant == name for shard in plan.shards)),
        )
    console.print(table)
    windows = inputs.corpus.windows[: settings.max_windows]
    memory = plan.devices.memory_bytes
    lines = [
        f"model: {inputs.model.id} ({inputs.model.content_hash[:16]})",
        f"data set: {inputs.dataset.name}, {inputs.corpus.tokens} tokens",
        f"windows: {len(windows)} of at most {plan.window_length} tokens, "
        f"protocol {settings.protocol}, {sum(len(w.target_ids) for w in windows)} scored tokens",
        f"prompts: {len(inputs.prompts)}, at most {settings.max_new_tokens} new tokens each",
        f"actors: {plan.slots.count} at once on {plan.devices.count} {plan.devices.kind} devices"
        + (f", {size(memory)} free" if memory is not None else "")
        + (f", {plan.slots.threads} threads each" if plan.devices.kind == "cpu" else ""),
        f"results: {settings.results / plan.run_id}",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return ExitStatus.DONE


def show_report(folder: Path) -> int:
    """Reduces a run again and prints its comparison; FAILED where the run is partial."""
    comparison = _show_existing(folder)
    return ExitStatus.DONE if comparison.complete else ExitStatus.FAILED


def _show_existing(folder: Path) -> Comparison:
    manifest = read_manifest(folder)
    if not finished_fingerprints(folder, manifest):
        raise BadInputError("RUN", f"{folder} has no finished shard yet; run it first")
    return _show(folder)


def show_status(folder: Path) -> int:
    """Prints how many shards of each variant are finished."""
    manifest = read_manifest(folder)
    done = finished_fingerprints(folder, manifest)
    console = result_console()
    for record in manifest.variants:
        shards = [shard for shard in manifest.shards if shard.variant == record.variant]
        finished = sum(shard.fingerprint in done for shard in shards)
        console.print(f"{record.variant}: {finished}/{len(shards)} shards", highlight=False)
    return ExitStatus.DONE


def _check_results_folder(settings: Settings) -> None:
    # Ray deletes a job's working folder when the job ends.
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and not settings.results.is_absolute():
        raise BadInputError(
            "--results", "under `ray job submit` it must be absolute, on storage that lasts"
        )
