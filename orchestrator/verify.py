"""The command `verify`: some of a run's shards, computed again on this machine. Writes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
from pydantic import ValidationError
from rich.table import Table

from orchestrator.console import messages_console, plain_text, results_console, say
from orchestrator.contract.environment import environment_of
from orchestrator.contract.manifest import Manifest
from orchestrator.contract.shards import ShardRecord
from orchestrator.contract.stages import SCORING_VERSION, STREAMED
from orchestrator.errors import BadInputError, ExitStatus, SweepFailedError
from orchestrator.planning.plan import Plan, make_plan
from orchestrator.preparing import cut_windows, find_model, with_device
from orchestrator.report.tables.formats import ABSENT, significant
from orchestrator.running.dispatch import Dispatcher
from orchestrator.running.in_process import InProcessCluster
from orchestrator.running.jobs import Outcome
from orchestrator.running.log import Log
from orchestrator.running.progress import Progress
from orchestrator.running.stop import StopRequest
from orchestrator.runs.verified import Difference, difference_of, sample_of
from orchestrator.settings import Settings
from orchestrator.settings_layers import settings_error
from orchestrator.storage.reduce import check_versions
from orchestrator.storage.run_folder import RunFolder

# In nats: more than two orders of the same sums differ by, less than any figure shows.
_TOLERANCE = 1e-4
# Of an environment: the versions of what may compute other numbers.
_COMPUTES = ("torch_version", "transformers_version", "bitsandbytes_version")


def verify_run(
    folder: RunFolder, *, sample: int, seed: int, tolerance: float | None, here: Mapping[str, Any]
) -> int:
    """Computes finished shards of windows and answers again, and holds them against the run's.

    Args:
        sample: how many.
        seed: draws them.
        tolerance: the largest difference that passes, in nats; without one, what was computed on
            another kind of device, or in another dtype, is refused.
        here: the settings that say where the run's inputs are on this machine, and its device, if
            not where the run says.

    Returns:
        FAILED where something differs by more, or could not be computed.

    Raises:
        BadInputError: there is nothing to compute again, the run's inputs are not here, or it was
            computed otherwise than it would be here.
        SweepFailedError: a file of the sample is damaged.
    """
    manifest = folder.read_manifest()
    _check_versions(folder, manifest)
    done = folder.finished(manifest)
    finished = [record for record in manifest.shards if record.fingerprint in done]
    drawn = sample_of(finished, sample, seed)
    if not drawn:
        raise BadInputError("RUN", f"{folder} has no finished shard of windows or answers")
    run = _Run(folder, manifest, {_place(record): record for record in finished}, tolerance)
    # Read before anything is computed: a damaged file ends it at once.
    first = {_place(record): run.table(record) for record in drawn}
    settings = _settings_of(manifest, here)
    # Nobody keeps its events: it only tells what goes on.
    log = Log(lambda _: None, tell=partial(say, messages_console()))
    sources = find_model(settings, log)
    settings = with_device(settings, sources, messages_console())
    cluster = InProcessCluster()
    with cluster.connected(settings) as devices:
        inputs = cut_windows(settings, sources, log)
        with log.phase("hashing and planning"):
            plan = make_plan(settings, inputs, devices, manifest.identity.windows_at_once)
        run = replace(run, cut_otherwise=_cut_otherwise(manifest, plan))
        run.check_inputs(plan)
        run.check_arithmetic(plan, list(first.values()))
        again = _Again(run, first)
        outcome = again.compute(plan, cluster, log)
    if outcome.stopped:
        say(messages_console(), "stopped early")
        return ExitStatus.STOPPED_EARLY
    return _tell(again, outcome, _TOLERANCE if tolerance is None else tolerance)


# A shard by what two plans of the same inputs have in common: variant, stage and number.
_Place = tuple[str, str, int]


def _place(record: ShardRecord) -> _Place:
    return record.variant, record.stage, record.index


def _cut_otherwise(manifest: Manifest, plan: Plan) -> frozenset[str]:
    """The variants of which one of two plans has answers of several prompts to a shard."""
    then = {one.variant: one.placement == STREAMED for one in manifest.variants}
    now = {name: place == STREAMED for name, place in plan.places.items()}
    return frozenset(name for name in then if then[name] != now.get(name, False))


@dataclass(frozen=True)
class _Run:
    """What was computed once.

    Attributes:
        finished: its shards.
        cut_otherwise: variants that answer other prompts together here than they did.
    """

    folder: RunFolder
    manifest: Manifest
    finished: Mapping[_Place, ShardRecord]
    tolerance: float | None
    cut_otherwise: frozenset[str] = frozenset()

    def table(self, record: ShardRecord) -> pa.Table:
        """What the run has of a shard, be it of its own plan or of today's; of answers that are cut
        otherwise today, all that it has.
        """
        if record.stage == "generations" and record.variant in self.cut_otherwise:
            all_of_it = [
                each
                for each in self.manifest.shards
                if (each.variant, each.stage) == (record.variant, record.stage)
            ]
            return pa.concat_tables(map(self._table, all_of_it))
        return self._table(record)

    def _table(self, record: ShardRecord) -> pa.Table:
        own = self.finished.get(_place(record))
        if own is None:
            raise SweepFailedError(f"{record.name} needs what is not finished; resume the run")
        if not self.folder.has_shard(own):
            raise SweepFailedError(
                f"{own.name}: its file is damaged; the command that started the run computes it "
                "again"
            )
        return self.folder.read_shard(own)

    def check_inputs(self, plan: Plan) -> None:
        """Refuses other inputs than the run's."""
        differing = {*self.manifest.identity.differing(plan.identity)} - {"variants", "decodings"}
        theirs = {
            one.variant: one.checkpoint_content_hash for one in self.manifest.identity.variants
        }
        ours = {one.variant: one.checkpoint_content_hash for one in plan.identity.variants}
        if theirs != ours:
            differing.add("variants")
        if differing:
            raise BadInputError(
                "RUN",
                f"what is here is not what the run was of ({', '.join(sorted(differing))}); say by "
                "--model, --dataset, --prompts and --variants where that is",
            )

    def check_arithmetic(self, plan: Plan, tables: Sequence[pa.Table]) -> None:
        """Refuses to compute otherwise than the run, unless a tolerance allows for it."""
        if self.tolerance is not None:
            return
        ran = {one.variant.name: one.compute_dtype for one in self.manifest.identity.variants}
        for planned in plan.variants:
            if planned.compute_dtype != ran[planned.name]:
                raise _otherwise(
                    f"{planned.name} was computed in {ran[planned.name]}, and would be in "
                    f"{planned.compute_dtype} here"
                )
        for table in tables:
            if _is_of_gpu(table) != (plan.devices.kind == "cuda"):
                device = environment_of(table.schema).device
                raise _otherwise(
                    f"it was computed on {device}, and would be on {plan.devices.kind} here"
                )

    def check_device(self, first: pa.Table, again: pa.Table) -> None:
        """Refuses another GPU than the run's, unless a tolerance allows for it."""
        devices = [environment_of(table.schema).device for table in (first, again)]
        if self.tolerance is None and _is_of_gpu(first) and devices[0] != devices[1]:
            raise _otherwise("it was computed on {}, and is on {} here".format(*devices))


class _Again:
    """Computes the drawn shards again.

    Attributes:
        differences: of those that are done.
        versions: what computed otherwise than in the run, in words.
    """

    def __init__(self, run: _Run, first: Mapping[_Place, pa.Table]) -> None:
        self._run = run
        self._first = first
        self.differences: list[Difference] = []
        self.versions: set[str] = set()

    def compute(self, plan: Plan, cluster: InProcessCluster, log: Log) -> Outcome:
        """Dispatches them, and what they need of the reference, without a word to any file."""
        drawn = [shard.record for shard in plan.shards if _place(shard.record) in self._first]
        sources = {source for one in drawn for source in (one.needs, *one.reads)}
        names = {one.fingerprint for one in drawn}
        plan = plan.of(lambda record: record.fingerprint in names | sources)
        done = {shard.record.fingerprint for shard in plan.shards} - names
        console = messages_console()
        with StopRequest() as stop, Progress(drawn, set(), console) as progress:
            dispatcher = Dispatcher(
                plan,
                cluster.pool(plan.capacity.threads, plan.run_id),
                self._take_in,
                self._run.table,
                log,
                progress,
            )
            return dispatcher.run(done, stop)

    def _take_in(self, record: ShardRecord, again: pa.Table) -> None:
        first = self._first[_place(record)]
        self._run.check_device(first, again)
        then, now = (environment_of(table.schema).model_dump() for table in (first, again))
        self.versions |= {
            f"{name.removesuffix('_version')} {then[name]}, here {now[name]}"
            for name in then
            if name in _COMPUTES and then[name] != now[name]
        }
        self.differences.append(difference_of(record, first, again))


def _tell(again: _Again, outcome: Outcome, tolerance: float) -> int:
    """Prints how far each variant is from what the run has of it."""
    console = results_console()
    table = Table(title="computed again: largest differences, nats")
    for column in ("variant", "shards", "tokens", "likelihood", "KL", "largest in"):
        left = column in ("variant", "largest in")
        table.add_column(column, justify="left" if left else "right", overflow="fold")
    for variant in dict.fromkeys(one.record.variant for one in again.differences):
        found = [one for one in again.differences if one.record.variant == variant]
        kls = [one.kl for one in found if one.kl is not None]
        worst = max(found, key=lambda one: one.largest)
        table.add_row(
            plain_text(variant),
            str(len(found)),
            str(sum(one.tokens for one in found)),
            _nats(max(one.likelihood for one in found)),
            _nats(max(kls)) if kls else ABSENT,
            plain_text(worst.record.name if worst.largest else ABSENT),
        )
    console.print(table)
    for versions in sorted(again.versions):
        say(console, f"Note: the run has {versions}")
    for record, reason in outcome.abandoned:
        say(console, f"{record.name} could not be computed again: {reason}")
    beyond = [one for one in again.differences if one.largest > tolerance]
    for one in beyond:
        say(
            console,
            f"{one.record.name} differs by {_nats(one.largest)} nats, more than {tolerance:g}",
        )
    if beyond or outcome.abandoned:
        return ExitStatus.FAILED
    say(console, f"no difference is larger than {tolerance:g} nats")
    return ExitStatus.DONE


def _nats(value: float) -> str:
    return significant(value, 2) if value else "0"


def _check_versions(folder: RunFolder, manifest: Manifest) -> None:
    """Refuses what this program would compute to other numbers."""
    check_versions(folder, manifest)
    if manifest.versions.scoring != SCORING_VERSION:
        raise BadInputError(
            "RUN",
            f"{folder} was scored by version {manifest.versions.scoring}, and this program's is "
            f"{SCORING_VERSION}; the command that started the run measures it again",
        )


def _settings_of(manifest: Manifest, here: Mapping[str, Any]) -> Settings:
    """The settings that a run was begun with, its inputs where they are here.

    Models are wherever this machine holds them: no likelihood hangs on that.
    """
    known = {name: v for name, v in manifest.settings.items() if name in Settings.model_fields}
    try:
        return Settings.model_validate({**known, "cluster": "none", "placement": "auto", **here})
    except ValidationError as error:
        raise settings_error(error) from None


def _is_of_gpu(table: pa.Table) -> bool:
    return bool(table["device_allocated_bytes"].null_count == 0)


def _otherwise(how: str) -> BadInputError:
    return BadInputError(
        "--tolerance", f"{how}; name the largest difference, in nats, that passes, such as 0.1"
    )
