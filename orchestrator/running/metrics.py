"""The figures by which a sweep can be watched from outside, each declared once."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A kind of figure.

    Attributes:
        labels: what tells figures of the kind apart, beside the run.
        only_grows: whether it counts from a dispatch's start.
    """

    description: str
    labels: tuple[str, ...] = ()
    only_grows: bool = False


# By name; Ray puts `ray_` before it.
METRICS: dict[str, Metric] = {
    "sweep_shards": Metric("Shards: done, running, waiting, given_up", ("variant", "state")),
    "sweep_tokens_total": Metric(
        "Tokens that models read, and steps that they decoded", ("variant", "stage"), True
    ),
    "sweep_device_seconds_total": Metric(
        "Seconds that devices were at shards", ("variant", "stage"), True
    ),
    "sweep_failures_total": Metric("Failures of shards and of loading, by kind", ("kind",), True),
    "sweep_devices": Metric(
        "1 for what a device is at: loading, scoring, answering, waiting, free",
        ("device", "variant", "phase"),
    ),
    "sweep_states_bytes": Metric("The reference's hidden states that wait for candidates"),
    "sweep_states_limit_bytes": Metric("The most that they may take"),
    "sweep_seconds_left": Metric("What is left will take, as far as anybody can tell"),
}


@dataclass(frozen=True)
class Figure:
    """A figure at a moment.

    Attributes:
        metric: its name in `METRICS`.
        labels: their values by name, the run's included.
    """

    metric: str
    labels: Mapping[str, str]
    value: float
