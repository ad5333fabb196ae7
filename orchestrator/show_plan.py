"""The command `plan`: what a sweep would run, where and how big."""

from contextlib import nullcontext

from rich.table import Table

from orchestrator.console import messages_console, results_console, say
from orchestrator.errors import ExitStatus
from orchestrator.inputs.sources import read_inputs
from orchestrator.integrity.remembered import Audits, remembered_audit
from orchestrator.integrity.verdicts import require_integrity
from orchestrator.planning.plan import Plan, looks_of
from orchestrator.preparing import check_gates, needs_of, plan_of, with_device
from orchestrator.report.tables.formats import level, size
from orchestrator.running.clusters import cluster_of
from orchestrator.settings import Settings
from orchestrator.storage.results_folder import ResultsFolder


def show_plan(settings: Settings) -> int:
    """Prints what would run, where and how big; runs nothing."""
    inputs = read_inputs(settings)
    check_gates(settings, inputs)
    settings = with_device(settings, inputs, messages_console())
    if settings.require_integrity:
        require_integrity(Audits(inputs.checkpoints).first)
    cluster = cluster_of(settings)
    known = cluster.known_devices(settings)
    # What is not known is asked for.
    needs = needs_of(settings, inputs)
    with nullcontext(known) if known else cluster.connected(settings, needs) as devices:
        plan = plan_of(settings, inputs, devices, ResultsFolder.at(settings.results))
    console = results_console()
    table = Table(title=plan.run_id)
    for column in ("variant", "placement", "weights", "on the device", "compute dtype", "shards"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for planned in plan.variants:
        table.add_row(
            planned.name,
            planned.placement.text,
            size(planned.expected_weights_bytes),
            size(planned.needed_bytes),
            planned.compute_dtype,
            str(len(planned.shards)),
        )
    console.print(table)
    for line in _plan_lines(plan):
        say(console, line)
    return ExitStatus.DONE


def _plan_lines(plan: Plan) -> list[str]:
    settings, inputs, devices = plan.settings, plan.inputs, plan.devices
    windows = inputs.windows
    free = f", {size(devices.memory_bytes)} free" if devices.memory_bytes is not None else ""
    threads = f", {plan.capacity.threads} threads each" if devices.kind == "cpu" else ""
    return [
        f"model: {inputs.model.id} ({inputs.model.checkpoint.content_hash[:16]})",
        f"data set: {inputs.dataset.name}, {inputs.corpus.tokens} tokens",
        f"windows: {len(windows)} of the text's {len(inputs.corpus.windows)}, at most "
        f"{inputs.window_length} tokens each, "
        f"protocol {settings.protocol}, {sum(len(w.target_ids) for w in windows)} scored tokens",
        f"at once: {plan.identity.windows_at_once} windows of one length, "
        f"--batch-tokens {settings.batch_tokens}",
        *_look_lines(plan),
        f"prompts: {len(inputs.prompts)}, at most {settings.max_new_tokens} new tokens each",
        f"actors: {plan.capacity.actors} at once on {devices.count} {devices.kind} devices"
        f"{free}{threads}",
        _integrity_line(plan),
        f"results: {ResultsFolder.at(settings.results).run(plan.run_id)}",
    ]


def _integrity_line(plan: Plan) -> str:
    """What the reference's weights show of quantization before it, as far as that is known."""
    checkpoint, *_ = plan.inputs.checkpoints
    audit = remembered_audit(checkpoint)
    return "integrity: " + (
        "the run audits the weights beside the rest" if audit is None else audit.said
    )


def _look_lines(plan: Plan) -> list[str]:
    """Into how many units the windows are cut, and how often the text is looked at."""
    looks, until_decided = looks_of(plan.inputs), plan.identity.until_decided
    if until_decided is None:
        return [f"units of the intervals: {len(looks[-1].stretches)} stretches of the text"]
    windows = ", ".join(str(look.windows) for look in looks)
    return [
        f"looks: at {windows} windows, until these are decided at "
        f"{level(until_decided.confidence)}: {'; '.join(until_decided.gates)}"
    ]
