"""Waiting for GPUs: until they are there, or the time is over, and never in silence."""

from collections.abc import Iterator

import pytest

from orchestrator.errors import BadInputError
from orchestrator.gpus_wanted import GpusWanted
from orchestrator.running.clusters import cluster_of
from orchestrator.running.waiting import wait_for
from orchestrator.settings import Settings
from orchestrator.settings_layers import resolve_settings


class Clock:
    """Goes on while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def waited(wanted: str, there: Iterator[int]) -> tuple[list[str], float]:
    """What is told, and how long it takes, where each look finds so many."""
    clock, told = Clock(), []
    wait_for(GpusWanted.read(wanted), lambda: next(there), told.append, clock, clock.sleep)
    return told, clock.now - 1000.0


def test_it_goes_on_as_soon_as_they_are_there_and_tells_of_each_that_comes() -> None:
    told, seconds = waited("4:5", iter([0, 0, 2, 2, 4]))
    assert told == [
        "0 of 4 GPUs are free; waiting, 5 minutes at most…",
        "2 of 4 GPUs are free; waiting, 5 minutes at most…",
    ]
    assert seconds == 4


def test_more_than_enough_are_not_waited_for() -> None:
    assert waited("2", iter([8])) == ([], 0)


def test_each_minute_it_says_that_it_waits() -> None:
    told, seconds = waited("1", iter([0] * 150 + [1]))
    assert seconds == 150
    assert [line.split("waiting, ")[1] for line in told] == [
        "30 minutes at most…",
        "29 minutes at most…",
        "28 minutes at most…",
    ]


def test_when_the_time_is_over_it_is_refused_with_what_there_is() -> None:
    with pytest.raises(BadInputError, match="3 of 4 GPUs were free after"):
        waited("4:0.5", iter([3] * 100))


@pytest.mark.parametrize("said", ["0", "", "-1", "8:", "8:x", "8:1:1", "8,5", "1e3", "8:-1"])
def test_what_is_no_number_of_gpus_is_refused(said: str) -> None:
    with pytest.raises(BadInputError, match=r"--wait-for-gpus.*name how many"):
        resolve_settings({"wait_for_gpus": said})


def test_a_number_of_a_yaml_file_is_one() -> None:
    assert resolve_settings({"wait_for_gpus": 8}).wait_for_gpus == "8"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cluster": "local"}, "no other GPU comes to this machine"),
        ({"cluster": "none"}, "no other GPU comes to this machine"),
        ({"cluster": "auto", "device": "cpu"}, "--device cpu takes none"),
    ],
)
def test_where_none_can_come_none_is_waited_for(settings: dict[str, str], says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        cluster_of(Settings(wait_for_gpus="1", **settings))
