"""An S3 API on this machine that answers as real ones do: late, not at all, or 503."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from werkzeug.serving import make_server

_BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Faults:
    """Between the network and the store.

    Attributes:
        busy: says of a request's method and path whether it is refused with 503.
        lost: whether it is done, and its answer never comes.
        delay_seconds: before each answer.
        overwrites: whether the store knows no conditional put.
        requests: all that were made, such as `PUT /bucket/name`.
    """

    def __init__(self, application: Any) -> None:
        self._application = application
        self.busy: Callable[[str], bool] = lambda _: False
        self.lost: Callable[[str], bool] = lambda _: False
        self.delay_seconds = 0.0
        self.overwrites = False
        self.requests: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        self.requests.append(request)
        time.sleep(self.delay_seconds)
        if self.busy(request):
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [_BUSY]
        if self.overwrites:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        answer: Iterable[bytes] = self._application(environ, start_response)
        if self.lost(request):
            # Read to its end, or it may not be done.
            b"".join(answer)
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        return answer


def each_first_time(wanted: str, most: int) -> Callable[[str], bool]:
    """Says yes to the first request of each of the first names that hold such words."""
    seen: set[str] = set()

    def is_first(request: str) -> bool:
        if wanted not in request or request in seen or len(seen) == most:
            return False
        seen.add(request)
        return True

    return is_first


@contextmanager
def s3_server() -> Iterator[Faults]:
    """A server with an empty bucket `bucket`, which the SDKs of this process and of those that it
    starts find by their own variables.
    """
    s3fs = pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = server_module.DomainDispatcherApplication(server_module.create_backend_app)
    faults = Faults(application)
    server = make_server("127.0.0.1", 0, faults, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    variables = {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{server.port}",
        "AWS_ACCESS_KEY_ID": "made-up",
        "AWS_SECRET_ACCESS_KEY": "made-up",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.delenv("AWS_PROFILE", raising=False)
        system = s3fs.S3FileSystem(skip_instance_cache=True)
        if system.exists("bucket"):
            system.rm("bucket", recursive=True)
        system.mkdir("bucket")
        yield faults
    server.shutdown()
