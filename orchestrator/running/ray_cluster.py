"""Ray: starting or joining a cluster."""

import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from threading import Timer
from typing import Any, cast

import ray
from ray._private import ray_constants

from orchestrator.console import messages_console, say
from orchestrator.contract.variant_errors import first_line
from orchestrator.errors import BadInputError
from orchestrator.gpus_wanted import GpusWanted
from orchestrator.planning.devices import Devices, local_devices
from orchestrator.process import interrupt, kill_descendants
from orchestrator.running.nodes import NOTHING, Needs
from orchestrator.running.ray_nodes import free_devices, nodes_left_out, reports_of_nodes
from orchestrator.running.stop import StopRequest
from orchestrator.running.waiting import wait_for
from orchestrator.settings import Settings

_CONNECT_SECONDS = 5.0
_SHUTDOWN_SECONDS = 20.0
# What Ray's gRPC calls it.
_NO_TOKEN = "InvalidAuthToken"


@dataclass(frozen=True)
class Joined:
    """A cluster that is there.

    Attributes:
        devices: what it has to run models on.
        off: ids of nodes that are not counted there, and on which no actor can be started.
    """

    devices: Devices
    off: tuple[str, ...] = ()


@contextmanager
def connected(settings: Settings, needs: Needs = NOTHING) -> Iterator[Joined]:
    """Starts a cluster on this machine, or joins the one that the settings name.

    Args:
        needs: what a node must have to be of use, if any other has it.

    Raises:
        BadInputError: there is no cluster at that address, or it has no device left.
    """
    quiet = not settings.verbose
    logging_level = logging.ERROR if quiet else logging.INFO
    said: list[str] = []
    options: dict[str, Any] = {
        "logging_level": logging_level,
        "log_to_driver": settings.verbose,
    }
    with ExitStack() as leaving:
        leaving.callback(_shut_down)
        try:
            if settings.cluster == "local":
                joined = Joined(_started_here(settings, options))
            else:
                _check_reachable(settings.cluster)
                with _uninterrupted(), _held_back(said, quiet):
                    ray.init(address=settings.cluster, **options)
                if settings.wait_for_gpus is not None:
                    leaving.callback(_withdraw)
                    _wait_for_gpus(GpusWanted.read(settings.wait_for_gpus))
                reports = reports_of_nodes(settings, needs)
                off = nodes_left_out(reports, needs)
                joined = Joined(free_devices(settings, reports, off), off)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise _refusal(settings.cluster, first_line(error), "".join(said)) from None
        yield joined


def _started_here(settings: Settings, options: Mapping[str, Any]) -> Devices:
    """Starts a cluster that is this machine's own."""
    devices = local_devices(settings.device)
    with _uninterrupted(), _on_loopback():
        ray.init(
            # "local" starts a cluster even where the environment names a running one.
            address="local",
            # Ray starts a process for each, at once: no more than actors can take.
            num_cpus=devices.count,
            num_gpus=devices.count if devices.kind == "cuda" else 0,
            include_dashboard=False,
            # By Ray's own 15, actors would give way to all else that runs here: what is
            # measured would be that.
            _system_config={"worker_niceness": 0},
            **options,
        )
    return devices


def _wait_for_gpus(wanted: GpusWanted) -> None:
    """Asks a cluster that scales for GPUs, and waits until they are free."""
    _ask_for_gpus(wanted.count)
    wait_for(
        wanted,
        free=lambda: int(ray.available_resources().get("GPU", 0)),
        tell=partial(say, messages_console()),
    )


@contextmanager
def _held_back(said: list[str], quiet: bool) -> Iterator[None]:
    """Keeps what Ray's C++ writes to standard error off the screen.

    Each of its tries to join would be a line; how they end is told in one.

    Args:
        said: takes it in, once it is over.
        quiet: else it is left as it is.
    """
    if not quiet:
        yield
        return
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(screen, 2)
            os.close(screen)
            kept.seek(0)
            said.append(kept.read().decode(errors="replace"))


def _shut_down() -> None:
    """Leaves the cluster, and ends one that was started here, even if it does not answer."""
    unanswered = Timer(_SHUTDOWN_SECONDS, kill_descendants)
    unanswered.daemon = True
    unanswered.start()
    try:
        ray.shutdown()
    finally:
        unanswered.cancel()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Has the processes of a cluster that is for this machine alone listen on its loopback address.

    By Ray's own switch, which is off on Linux, where a cluster may have other nodes; an address
    that is asked for of `ray.init` is exchanged for one that others reach.
    """
    name = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    known, said = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(name)
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ[name] = "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = known
        del os.environ[name]
        if said is not None:
            os.environ[name] = said


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Has a signal that comes while Ray starts end the command once it has started.

    Ray that is half started crashes the process that ends. And it would take SIGTERM for itself:
    in Python, with an exception that is lost where nothing can be raised; then in C, with a stack
    that is printed and an alarm that aborts the process.
    """
    stop = StopRequest()
    try:
        with stop, _keeping_sigterm():
            yield
    finally:
        signal.alarm(0)
        if stop.received:
            interrupt(signal.SIGTERM)


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """Lets nobody set a handler of SIGTERM; its default may be set."""
    install: Any = signal.signal

    def install_others(number: int, handler: Any) -> Any:
        is_taken = number == signal.SIGTERM and callable(handler)
        return signal.getsignal(number) if is_taken else install(number, handler)

    signal.signal = cast(Any, install_others)
    try:
        yield
    finally:
        signal.signal = install


def _refusal(cluster: str, reason: str, said: str) -> BadInputError:
    """What a user is told.

    Args:
        said: what Ray wrote beside the reason.
    """
    if _NO_TOKEN in said or _NO_TOKEN in reason:
        problem = (
            f"'{cluster}' wants a token, and this one is missing or wrong; set RAY_AUTH_MODE=token "
            "and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) as on its head"
        )
    elif cluster == "local":
        folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
        problem = (
            f"Ray cannot be started on this machine ({reason}); it needs a folder to write to with "
            f"a short path: set RAY_TMPDIR (now {folder}), and HOME if that cannot be written"
        )
    else:
        problem = (
            f"cannot join '{cluster}' ({reason}); "
            "start one with `ray start --head`, or use --cluster local"
        )
    return BadInputError("--cluster", problem)


def _check_reachable(address: str) -> None:
    """Asks the head's port for a connection: Ray itself would wait for minutes.

    Raises:
        OSError: nothing listens there.
        ValueError: this is no address.
    """
    if address == "auto":
        named = os.environ.get("RAY_ADDRESS")
        if named in (None, "", "auto", "local"):
            return  # Ray knows at once whether a cluster runs on this machine
        # It may have been stopped since: Ray would wait for it.
        address = str(named)
    host, separator, port = address.rpartition("://")[2].rpartition(":")
    if not separator or not port.isdigit():
        raise ValueError("not local, none, auto or HOST:PORT")
    socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()


def _ask_for_gpus(count: int) -> None:
    """Has a cluster that scales keep so many GPUs there, in the place of what was asked before."""
    # Imported here: it takes a while, and few ask for it.
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[{"GPU": 1}] * count)


def _withdraw() -> None:
    """Takes back what a cluster was asked for; of one that is gone nothing is asked any more."""
    with suppress(ray.exceptions.RayError, RuntimeError):
        _ask_for_gpus(0)
