"""What Google's store answers, as far as gcsfs asks it: written from its JSON API's documentation.

https://cloud.google.com/storage/docs/json_api/v1: objects are inserted (with `ifGenerationMatch=0`
only where there is none), got, listed, deleted.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from unittest import mock

from flask import Flask, Response, jsonify, request
from werkzeug.serving import make_server

_OBJECTS = "/storage/v1/b/bucket/o"


class GoogleStorage:
    """A bucket called `bucket`.

    Attributes:
        objects: the content of each by name, and when it was written.
    """

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self._writing = threading.Lock()
        self.application = Flask(__name__)
        add = self.application.add_url_rule
        add(f"/upload{_OBJECTS}", view_func=self.insert, methods=["POST"])
        add(_OBJECTS, view_func=self.list)
        add(f"{_OBJECTS}/<path:name>", view_func=self.get)
        add(f"{_OBJECTS}/<path:name>", view_func=self.delete, methods=["DELETE"])
        add(f"/download{_OBJECTS}/<path:name>", view_func=self.download)

    def insert(self) -> Response:
        assert request.args["uploadType"] == "multipart"
        boundary = request.mimetype_params["boundary"].encode()
        _, said, held, _ = request.get_data().split(b"--" + boundary, 3)
        name = json.loads(said.partition(b"\n\n")[2])["name"]
        content = held.partition(b"\n\n")[2].removesuffix(b"\n")
        with self._writing:
            if request.args.get("ifGenerationMatch") == "0" and name in self.objects:
                return refused(412, "a pre-condition did not hold")
            self.objects[name] = content, datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return jsonify(self._described(name))

    def list(self) -> Response:
        prefix, delimiter = request.args.get("prefix", ""), request.args.get("delimiter")
        items, prefixes = [], set()
        for name in sorted(self.objects):
            rest = name.removeprefix(prefix)
            if delimiter and delimiter in rest and name.startswith(prefix):
                prefixes.add(prefix + rest.partition(delimiter)[0] + delimiter)
            elif name.startswith(prefix):
                items.append(self._described(name))
        return jsonify(kind="storage#objects", items=items, prefixes=sorted(prefixes))

    def get(self, name: str) -> Response:
        return jsonify(self._described(name)) if name in self.objects else refused(404, "none")

    def delete(self, name: str) -> Response:
        found = self.objects.pop(name, None)
        return refused(404, "none") if found is None else Response(status=204)

    def download(self, name: str) -> Response:
        if name not in self.objects:
            return refused(404, "none")
        whole = Response(self.objects[name][0])
        return whole.make_conditional(request, True, len(self.objects[name][0]))

    def _described(self, name: str) -> dict[str, str]:
        content, written = self.objects[name]
        return {
            "kind": "storage#object",
            "name": name,
            "size": str(len(content)),
            "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
            "generation": "1",
            "timeCreated": written,
            "updated": written,
        }


def refused(status: int, message: str) -> Response:
    said = json.dumps({"error": {"code": status, "message": message}})
    return Response(said, status, content_type="application/json")


@contextmanager
def google_storage() -> Iterator[GoogleStorage]:
    """Such a store on the loopback address, where gcsfs looks for one."""
    store = GoogleStorage()
    server = make_server("127.0.0.1", 0, store.application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    where = {
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{server.server_port}",
        # It asks Google what kind of bucket it is, with credentials, and complains.
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }
    try:
        with mock.patch.dict("os.environ", where):
            yield store
    finally:
        server.shutdown()
