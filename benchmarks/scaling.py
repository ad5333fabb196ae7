"""How a sweep scales: the same plan on the first 1, 2, 4, ... GPUs of a machine, or simulated.

Measured: the product's own command, once for each number of GPUs, which alone are visible to it.

    python -m benchmarks.scaling --devices 1,2 -- --model MODEL --dataset wiki.test.raw

Simulated: the product's dispatcher on a clock of its own, with lengths measured on an H100 (see
`benchmarks/simulation.py`): the work of WikiText-2 and the suite, once, or for each eight GPUs.

    python -m benchmarks.scaling --simulated --devices 1,2,4,8,16,32,64 --failing 0.02

Prints, by number of GPUs: the wall time, the time to the first shard, how busy the devices were
once each held a model, and the efficiency: the time that one device was there for, once it held a
model, over that of all. Draws both over the number of GPUs, and a row of each device of the last
sweep over time.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table

from benchmarks.simulation import H100, SimulatedPool, plan_on, simulate, wikitext_inputs
from orchestrator.comparison_schema import Timeline
from orchestrator.figures.timeline import PHASES, Start, starts_of, timeline_of
from orchestrator.storage.events import Event
from orchestrator.storage.results_folder import run_at

_COLOURS = dict(
    zip(
        PHASES,
        ("#bbbbbb", "#e0a458", "#2f6690", "#81a4cd", "#9c528b", "#f2f2f2", "#c1121f"),
        strict=True,
    )
)


@dataclass(frozen=True)
class Swept:
    """A sweep on so many GPUs.

    Attributes:
        driver_milliseconds: the driver's own time a shard, where it was measured.
    """

    devices: int
    timeline: Timeline
    start: Start
    driver_milliseconds: float | None = None

    @property
    def device_seconds(self) -> float:
        """How long devices held models, all together."""
        return sum(device.work_seconds for device in self.timeline.devices)


def swept(devices: int, events: Sequence[Event], driver_milliseconds: float | None) -> Swept:
    """A sweep by its events.

    Raises:
        RuntimeError: it did not work on as many devices.
    """
    starts = starts_of(events)
    timeline = timeline_of(starts)
    if timeline is None or len(timeline.devices) != devices:
        raise RuntimeError(f"the sweep did not use {devices} devices")
    return Swept(devices, timeline, starts[0], driver_milliseconds)


def simulated(devices: int, *, grows: bool, failing: float) -> Swept:
    """A sweep of made-up GPUs."""
    plan = plan_on(devices, *wikitext_inputs(max(1, devices // 8) if grows else 1))
    found = simulate(plan, SimulatedPool(H100, failing, counts_driver=True))
    own = 1000 * found.driver_seconds / len(plan.shards)
    return swept(devices, found.events, own)


def measured(devices: int, flags: Sequence[str], results: Path) -> Swept:
    """A sweep of the product's on the first GPUs."""
    folder = results / f"on-{devices}"
    command = [sys.executable, "-m", "orchestrator", "run", *flags, "--results", str(folder)]
    visible = ",".join(map(str, range(devices)))
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    (run,) = folder.glob("*/events.jsonl")
    return swept(devices, run_at(run.parent).read_events(), None)


def table_of(sweeps: Sequence[Swept], title: str) -> Table:
    """What was found, a row a sweep."""
    table = Table(title=title)
    columns = ("GPUs", "wall s", "first shard s", "busy", "efficiency", "driver ms a shard")
    for column in columns:
        table.add_column(column, justify="right")
    for one in sweeps:
        own = one.driver_milliseconds
        table.add_row(
            str(one.devices),
            f"{one.timeline.seconds:.1f}",
            f"{one.timeline.seconds_to_first_shard:.1f}",
            f"{one.timeline.busy_share:.3f}",
            f"{efficiency(one, sweeps[0]):.3f}",
            "" if own is None else f"{own:.2f}",
        )
    return table


def efficiency(one: Swept, base: Swept) -> float:
    """The share of its devices' time that the work took on the devices of another sweep.

    Where the work grows with the devices, it is held against as much more.
    """
    work = [sum(stretch.seconds for stretch in each.start.work) for each in (one, base)]
    return base.device_seconds / one.device_seconds * work[0] / work[1]


def draw(sweeps: Sequence[Swept], title: str, path: Path) -> None:
    """Draws efficiency by GPUs, and the last sweep's devices over time."""
    figure = Figure(figsize=(9, 7), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(1, 1.6))
    counts = [one.devices for one in sweeps]
    upper.plot(counts, [one.timeline.busy_share for one in sweeps], "o-", label="busy")
    upper.plot(counts, [efficiency(one, sweeps[0]) for one in sweeps], "s--", label="efficiency")
    upper.set(xscale="log", xticks=counts, xticklabels=counts, xlabel="GPUs", ylim=(0, 1.05))
    upper.minorticks_off()
    upper.set_title(title)
    upper.legend(frameon=False, loc="lower left")
    last = sweeps[-1].start
    for phase, colour in _COLOURS.items():
        rows = [s for s in last.stretches if s.phase == phase and s.place is not None]
        lower.barh(
            [(s.place or 0) + 1 for s in rows],
            [s.seconds for s in rows],
            left=[s.began - last.began for s in rows],
            color=colour,
            height=0.8,
        )
    lower.set(xlabel="seconds since the command", ylabel="device", xlim=(0, None))
    lower.yaxis.set_major_locator(MaxNLocator(integer=True))
    lower.invert_yaxis()
    marks = [Patch(color=colour, label=phase) for phase, colour in _COLOURS.items()]
    lower.legend(
        handles=marks,
        frameon=False,
        ncols=len(PHASES),
        loc="upper center",
        bbox_to_anchor=(0.5, -0.15),
    )
    figure.savefig(path)


def main() -> None:
    """Runs the sweeps, prints a table, draws a picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", default="1,2")
    parser.add_argument("--simulated", action="store_true")
    parser.add_argument("--grows", action="store_true", help="as much work for each eight GPUs")
    parser.add_argument("--failing", type=float, default=0.0, help="the share of shards that fail")
    parser.add_argument("--picture", type=Path, default=Path("scaling.svg"))
    parser.add_argument("--results", type=Path, default=Path("scaling"), help="of the sweeps")
    parser.add_argument("--json", type=Path, help="for the timelines, by number of GPUs")
    parser.add_argument("flags", nargs="*", help="of the sweep, after --")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.devices.split(",")]
    if arguments.simulated:
        sweeps = [
            simulated(count, grows=arguments.grows, failing=arguments.failing) for count in counts
        ]
        title = "Simulated H100s"
    else:
        sweeps = [measured(count, arguments.flags, arguments.results) for count in counts]
        title = "A sweep on the first GPUs"
    Console(width=100).print(table_of(sweeps, title))
    draw(sweeps, title, arguments.picture)
    if arguments.json is not None:
        timelines = {one.devices: one.timeline.model_dump() for one in sweeps}
        arguments.json.write_text(json.dumps(timelines, indent=2))


if __name__ == "__main__":
    main()
