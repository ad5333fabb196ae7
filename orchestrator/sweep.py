"""A sweep from end to end: inputs → plan → dispatch → store → reduce → report."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.background import Background
from orchestrator.console import messages_console, say, tell_as, tell_event
from orchestrator.errors import BadInputError, ExitStatus
from orchestrator.inputs.apart import APART
from orchestrator.inputs.tokenizer import import_tokenizers
from orchestrator.integrity.remembered import Audits
from orchestrator.integrity.verdicts import require_integrity
from orchestrator.locations import is_url
from orchestrator.planning.layout import lay_out
from orchestrator.planning.plan import Plan, manifest_of
from orchestrator.preparing import (
    check_gates,
    cut_windows,
    find_model,
    needs_of,
    plan_of,
    with_device,
)
from orchestrator.process import command_line, program
from orchestrator.report.tables.formats import level, short_name
from orchestrator.running.ahead import Prepared, prepare
from orchestrator.running.clusters import Cluster, cluster_of
from orchestrator.running.dispatch import Dispatcher
from orchestrator.running.gauges import Gauges
from orchestrator.running.jobs import Outcome
from orchestrator.running.log import Log
from orchestrator.running.pool import Pool
from orchestrator.running.progress import Progress
from orchestrator.running.stop import StopRequest
from orchestrator.settings import Settings
from orchestrator.storage.events import Event
from orchestrator.storage.results_folder import ResultsFolder
from orchestrator.storage.run_folder import RunFolder
from orchestrator.storage.store import RunStore, earlier_runs
from orchestrator.tracking import check_tracker, track

if TYPE_CHECKING:
    from orchestrator.publish import Published

# What a kind of cluster takes time for.
_STARTING = {"local": "starting Ray", "none": "counting devices"}


@dataclass(frozen=True)
class Swept:
    """What became of a sweep.

    Attributes:
        abandoned: how many shards were given up.
        stopped: whether a signal ended it early; it can be resumed.
        published: what was made of its shards; None where it was stopped, or none is finished.
    """

    folder: RunFolder
    abandoned: int
    stopped: bool
    published: "Published | None"


def run_sweep(
    settings: Settings, cluster: Cluster | None = None, began: datetime | None = None
) -> int:
    """As `sweep`, and prints how it ended, with the comparison as far as there is one.

    Returns:
        DONE, FAILED where shards were given up, STOPPED_EARLY after a signal, GATE_FAILED.
    """
    swept, console = sweep(settings, cluster, began), messages_console()
    if swept.stopped:
        say(console, f"stopped early; finished shards are kept. To resume: {command_line()}")
        return ExitStatus.STOPPED_EARLY
    status = ExitStatus.FAILED
    if swept.published is not None:
        # Imported here: statistics and pictures take a second, which no model must wait for.
        from orchestrator.publish import show

        status = show(swept.published)
    if swept.abandoned:
        say(
            console,
            f"incomplete: {swept.abandoned} shards were given up; "
            "run the same command again to retry them",
        )
        return ExitStatus.FAILED
    if swept.published is not None and settings.tracker is not None:
        track(settings.tracker, swept.published)
    if settings.model == "demo":
        say(console, f"For a real model: {program()} --sweep qwen-0.5b --cluster local")
    return status


def sweep(
    settings: Settings, cluster: Cluster | None = None, began: datetime | None = None
) -> Swept:
    """Runs what is not yet finished, then writes the comparison.

    What takes long goes on beside the rest: the weights are hashed while Ray starts, and actors
    import what they need and load models while the inputs are read and cut. Only the report waits
    for what the weights show of quantization before it, and who requires their integrity.

    Args:
        cluster: where actors run, if not where the settings say.
        began: when the command did, whose process may have imported for a while; now if None.
    """
    tell_as(settings.log_format, **({} if settings.run_id is None else {"run": settings.run_id}))
    if settings.tracker is not None:
        check_tracker(settings.tracker)
    early: list[Event] = []
    log = Log(_told(early.append), tell=partial(say, messages_console()))
    log(Event(event="run_started", began=began or datetime.now(UTC)))
    results = _results(settings)
    results.check_writable()
    sources = find_model(settings, log)
    check_gates(settings, sources)
    settings = with_device(settings, sources, messages_console())
    cluster = cluster or cluster_of(settings)
    known = cluster.known_devices(settings)
    if known is not None:
        # What does not fit is refused before anything starts.
        lay_out(settings, sources, known)
    audits = Audits(sources.checkpoints)
    if settings.require_integrity:
        with log.phase("auditing the reference's weights"):
            require_integrity(audits.first)
    inputs = None
    earlier = earlier_runs(results, settings)
    if known is not None and any(earlier):
        # Most likely nothing is left to do, for which no cluster is needed.
        inputs = cut_windows(settings, sources, log)
        plan = plan_of(settings, inputs, known, results)
        if (finished := _finished_already(results, plan, audits)) is not None:
            return finished
    # Without a GPU, Ray's start needs the cores; in this process, actors import the same.
    waits = settings.cluster == "local" and known is not None and known.kind == "cuda"
    ahead = Background(import_tokenizers) if waits and inputs is None else None
    if ahead is not None and settings.max_prompts != 0:
        APART.start("render_prompt")
    with ExitStack() as stack:
        with log.phase(_STARTING.get(settings.cluster, f"joining {settings.cluster}")):
            devices = stack.enter_context(cluster.connected(settings, needs_of(settings, sources)))
        layout = lay_out(settings, sources, devices)
        # An id that is made of the plan is not known yet.
        name = settings.run_id or short_name(settings.model)
        pool = cluster.pool(layout.capacity.threads, name)
        # Of a run that was begun, some variants may be finished.
        prepared = prepare(pool, layout, loads=not earlier)
        if inputs is None:
            inputs = cut_windows(settings, sources, log, ahead)
        with log.phase("hashing and planning"):
            plan = plan_of(settings, inputs, devices, results)
        tell_as(settings.log_format, run=plan.run_id)
        with RunStore(results, manifest_of(plan)) as store:
            for event in early:
                store.log(event)
            outcome = _dispatch_whole(plan, store, pool, prepared)
            _told(store.log)(Event(event="run_ended"))
            return _ended(outcome, store, audits)


def _finished_already(results: ResultsFolder, plan: Plan, audits: Audits) -> Swept | None:
    """A run that lacks nothing; None where there is none."""
    with RunStore(results, manifest_of(plan)) as store:
        if len(store.finished()) < len(store.manifest.shards) or store.set_aside_damaged():
            return None
        return _ended(Outcome(), store, audits)


def _dispatch_whole(
    plan: Plan, store: RunStore, pool: Pool, prepared: Sequence[Prepared]
) -> Outcome:
    """Dispatches what is not finished; what is found damaged among the rest afterwards, too."""
    read = {source for shard in plan.shards for source in shard.record.reads}
    # What the tables of others are made of; the rest is seen to at the end.
    damaged = store.set_aside_damaged(read)
    while True:
        outcome = _dispatch(plan, store, pool, prepared, len(damaged))
        if outcome.stopped or outcome.abandoned or not (damaged := store.set_aside_damaged()):
            return outcome
        prepared = ()


def _dispatch(
    plan: Plan, store: RunStore, pool: Pool, prepared: Sequence[Prepared], damaged: int
) -> Outcome:
    console = messages_console()
    plan = plan.up_to(store.manifest.decided)
    done = store.finished()
    if damaged:
        say(console, f"{damaged} files of shards are damaged: set aside, and computed again")
    say(
        console,
        f"{store.folder}: {len(done)} shards done, {len(plan.shards) - len(done)} to do on "
        f"{plan.capacity.actors} {plan.devices.kind} "
        f"{'actor' if plan.capacity.actors == 1 else 'actors'}",
    )
    records = [shard.record for shard in plan.shards]
    again = {record.needs for record in records if record.fingerprint not in done} & done
    if again:
        say(
            console,
            f"{plan.inputs.reference}: {len(again)} finished shards run again, since the "
            "other variants need its hidden states, which are not stored",
        )
    with StopRequest() as stop, Progress(store.manifest.shards, done, console) as progress:
        dispatcher = Dispatcher(
            plan,
            pool,
            store.commit,
            store.read,
            Log(_told(store.log)),
            progress,
            prepared,
            decides=partial(_decides, plan, store, progress),
            observe=Gauges(pool.show, store.manifest.run_id).update,
        )
        return dispatcher.run(done, stop)


def _told(keep: Callable[[Event], None]) -> Callable[[Event], None]:
    """Keeps events, and tells them where messages are in JSON."""

    def keep_and_tell(event: Event) -> None:
        keep(event)
        tell_event(event.model_dump(mode="json", exclude_none=True))

    return keep_and_tell


def _decides(plan: Plan, store: RunStore, progress: Progress, look: int) -> bool:
    """Whether a look decides every gate over windows; the run is then what was seen so far."""
    # Imported here: statistics take a second, which no model must wait for.
    from orchestrator.runs.looks import verdicts_at

    gates = plan.settings.gates_over_windows()
    results = verdicts_at(store.folder, store.manifest, look, gates)
    counts, looks = Counter(result.verdict for result in results), store.manifest.looks
    progress.note(
        f"look {look + 1} of {len(looks)}, {looks[look].windows} windows: gates at "
        f"{level(store.manifest.confidence)}: "
        f"{', '.join(f'{count} {verdict}' for verdict, count in counts.items())}"
    )
    if any(result.verdict == "undecided" for result in results):
        return False
    store.decide(look)
    progress.plan(store.manifest.shards)
    return True


def _ended(outcome: Outcome, store: RunStore, audits: Audits) -> Swept:
    """What is made of the shards that there are once a dispatch has ended."""
    # Imported here: statistics and pictures take a second, which no model must wait for.
    from orchestrator.publish import publish

    abandoned = len(outcome.abandoned)
    if not outcome.stopped and not abandoned:
        store.finish()
    published = None
    if not outcome.stopped and (not abandoned or store.finished()):
        if not audits.are_done:
            say(messages_console(), "auditing the weights…")
        store.keep_audits(audits.by_content)
        published = publish(store.folder)
    return Swept(store.folder, abandoned, outcome.stopped, published)


def _results(settings: Settings) -> ResultsFolder:
    """Where the runs are.

    Raises:
        BadInputError: nothing would be left of them.
    """
    # Ray deletes a job's working folder when the job ends.
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and not _lasts(settings.results):
        raise BadInputError(
            "--results",
            "under `ray job submit` it must be absolute, on storage that lasts, or a URL",
        )
    return ResultsFolder.at(settings.results)


def _lasts(location: str) -> bool:
    return is_url(location) or Path(location).is_absolute()
