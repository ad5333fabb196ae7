"""The events of a run → what each device did when, and how much of the time it worked. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator.comparison_schema import DeviceTime, Timeline
from orchestrator.contract.shards import stage_of
from orchestrator.contract.stages import STAGES
from orchestrator.storage.events import Event

# What an actor does, in the order of its life. It is sending from when a shard is handed out until
# it begins, as long as there is nothing else to do: the payload and the reference's states travel.
PHASES = ("starting", "loading", "scoring", "answering", "sending", "waiting", "failing")
_WORK = ("scoring", "answering")
# Before the end of these there is no model.
_MODEL = ("loading", *_WORK)


@dataclass(frozen=True)
class Stretch:
    """A time in which one thing was done, in seconds since the epoch.

    Attributes:
        place: of the device, from 0; None for the driver.
        variant: None for the driver.
        shard: its name, where it is about one.
    """

    place: int | None
    variant: str | None
    phase: str
    began: float
    ended: float
    shard: str | None = None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


@dataclass
class Start:
    """What was done from a run's start, or its resumption, until it ended.

    Attributes:
        stretches: those of the driver may overlap, those of a device do not.
    """

    began: float
    ended: float
    stretches: list[Stretch] = field(default_factory=list)

    @property
    def work(self) -> list[Stretch]:
        """What models were at."""
        return [stretch for stretch in self.stretches if stretch.phase in _WORK]


def starts_of(events: Sequence[Event]) -> list[Start]:
    """What was done, by start of the run; those of which nothing is known are left out."""
    parts: list[list[Event]] = []
    for event in events:
        if event.event == "run_started" or not parts:
            parts.append([])
        parts[-1].append(event)
    found = (_start_of(part) for part in parts)
    return [start for start in found if start.work]


def timeline_of(starts: Sequence[Start]) -> Timeline | None:
    """How much of their time the devices worked; None where nothing is known of it."""
    if not starts:
        return None
    places = {s.place for start in starts for s in start.stretches if s.place is not None}
    devices = [_device_time(place, starts) for place in sorted(places)]
    work_seconds = sum(device.work_seconds for device in devices)
    busy_seconds = sum(device.busy_share * device.work_seconds for device in devices)
    first = starts[0]
    return Timeline(
        starts=len(starts),
        seconds=sum(start.ended - start.began for start in starts),
        seconds_to_first_shard=min(stretch.began for stretch in first.work) - first.began,
        busy_share=busy_seconds / work_seconds if work_seconds else 0.0,
        devices=devices,
    )


def _device_time(place: int, starts: Sequence[Start]) -> DeviceTime:
    seconds = dict.fromkeys(PHASES, 0.0)
    for stretch in (s for start in starts for s in start.stretches if s.place == place):
        seconds[stretch.phase] += stretch.seconds
    whole = sum(start.ended - start.began for start in starts)
    work_seconds = sum(_work_seconds(place, start) for start in starts)
    busy = sum(seconds[phase] for phase in _WORK)
    return DeviceTime(
        device=place + 1,
        seconds={**seconds, "unused": max(0.0, whole - sum(seconds.values()))},
        work_seconds=work_seconds,
        busy_share=busy / work_seconds if work_seconds else 0.0,
    )


def _work_seconds(place: int, start: Start) -> float:
    """From when a device first held a model to when no device had a shard left."""
    mine = (s for s in start.stretches if s.place == place)
    begins = [s.ended if s.phase == "loading" else s.began for s in mine if s.phase in _MODEL]
    ended = max(stretch.ended for stretch in start.work)
    return max(0.0, ended - min(begins, default=ended))


def _start_of(events: Sequence[Event]) -> Start:
    times = [event.time.timestamp() for event in events]
    begins = [e.began.timestamp() for e in events if e.event == "run_started" and e.began]
    start = Start(min(begins, default=times[0]), max(times))
    for event in events:
        if event.event == "driver_worked" and event.began and event.ended:
            began, ended = max(start.began, event.began.timestamp()), event.ended.timestamp()
            # The clock may have been set back meanwhile.
            if ended > began:
                start.stretches.append(Stretch(None, None, event.phase or "", began, ended))
    start.stretches += _of_actors(events, start.began)
    return start


def _of_actors(events: Sequence[Event], start: float) -> Iterator[Stretch]:
    """What each actor did, one thing after the other.

    The times of its machine's clock are taken for the driver's, but nothing began before it was
    handed out, or ended after its result was there.
    """
    # By actor: until when it is known what it did.
    known: dict[int, float] = {}
    for event in events:
        if event.actor is None or event.place is None:
            continue
        now = event.time.timestamp()
        if event.event == "actor_started":
            # One that another variant has left is at once the next one's.
            asked = max(start, _seconds(event.began, now))
            known[event.actor] = max(asked, known.get(event.actor, asked))
            continue
        if event.actor not in known:
            continue
        since = known[event.actor]
        began, ended = _seconds(event.began, now), min(_seconds(event.ended, now), now)
        match event.event:
            case "actor_prepared":
                ends = [("starting", max(since, ended))]
            case "actor_loaded" | "shard_computed":
                sent = max(since, _seconds(event.sent, since))
                began = min(max(sent, began), max(sent, now))
                phase: str = STAGES[stage_of(event.shard)].phase if event.shard else "loading"
                ends = [("waiting", sent), ("sending", began), (phase, max(began, ended))]
            case "failed":
                ends = [("waiting", max(since, _seconds(event.sent, since))), ("failing", now)]
            case "actor_stopped":
                ends = [("waiting", max(since, now))]
            case _:
                continue
        for phase, end in ends:
            if end > since:
                yield Stretch(event.place, event.variant, phase, since, end, event.shard)
            since = max(since, end)
        known[event.actor] = since


def _seconds(time: datetime | None, otherwise: float) -> float:
    return otherwise if time is None else time.timestamp()
