"""Objects under a URL's prefix, with the one promise that drivers need: create, or say it is there.

Endpoint and credentials are those that the stores' own SDKs find: `AWS_ENDPOINT_URL_S3`,
`AWS_PROFILE`, `GOOGLE_APPLICATION_CREDENTIALS` and their kin.
"""

import errno
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from orchestrator.contract.variant_errors import first_line
from orchestrator.errors import BadInputError
from orchestrator.locations import READERS
from orchestrator.process import INSTALLED

# Two writers of one object at the same moment: both are told to come again.
_CONFLICT = "ConditionalRequestConflict"
_TRIES = 3
_LONGEST_REASON = 200


@dataclass(frozen=True)
class ObjectStore:
    """What is under a URL, by names that follow it.

    All methods raise OSError where the store cannot be had, is not theirs to use, or says no.

    Attributes:
        url: without a slash at its end.
        system: a file system of fsspec that keeps no listings.
    """

    url: str
    system: Any = field(compare=False)

    @classmethod
    def at(cls, url: str, setting: str) -> "ObjectStore":
        """What is under a URL; asks for nothing yet.

        Args:
            setting: that names it, for errors.

        Raises:
            BadInputError: the package that reads it is missing.
        """
        scheme = url.partition(":")[0]
        package, extra = READERS[scheme]
        try:
            module = import_module(package)
        except ImportError as error:
            raise BadInputError(
                setting,
                f"{url} needs the package {package} ({first_line(error)}); "
                f"pip install '{INSTALLED}[{extra}]'",
            ) from None
        quiet = {"use_listings_cache": False, "skip_instance_cache": True}
        kind = module.S3FileSystem if scheme == "s3" else module.GCSFileSystem
        return cls(url, kind(**quiet))

    def under(self, name: str) -> "ObjectStore":
        """What is under a folder of these."""
        return ObjectStore(f"{self.url}/{name}", self.system)

    def create(self, name: str, content: bytes) -> bool:
        """Puts an object where there is none; False where there is another.

        A put whose answer was lost is repeated by the SDK, and then refused as existing: what is
        there is read, and one's own bytes are success.
        """
        for _ in range(_TRIES):
            try:
                self._call(self.system.pipe_file, name, content, mode="create")
                return True
            except FileExistsError:
                return self.get(name) == content
            except OSError as error:
                if _CONFLICT not in str(error):
                    raise
        raise OSError(errno.EBUSY, "others write it all the time")

    def put(self, name: str, content: bytes) -> None:
        """Puts an object, over what is there."""
        self._call(self.system.pipe_file, name, content)

    def put_file(self, name: str, path: Path) -> None:
        """Puts a file, in parts where it is large."""
        self._call(lambda key: self.system.put_file(str(path), key), name)

    def get(self, name: str, most_bytes: int | None = None) -> bytes:
        """An object's bytes; of one that has more than so many, one more.

        Raises:
            FileNotFoundError: there is none.
        """
        end = None if most_bytes is None else most_bytes + 1
        content: bytes = self._call(self.system.cat_file, name, start=None, end=end)
        return content

    def get_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """The bytes of those objects that are there, all asked for at once."""
        keys = {self._key(name): name for name in names}
        if not keys:
            return {}
        found = self._call(lambda _: self.system.cat([*keys], on_error="return"), "")
        for key, one in found.items():
            if isinstance(one, Exception) and not isinstance(one, FileNotFoundError):
                raise _as_os_error(one, f"{self.url}/{keys[key]}")
        return {keys[key]: one for key, one in found.items() if isinstance(one, bytes)}

    def has(self, name: str) -> bool:
        """Whether there is an object."""
        try:
            self._call(self.system.info, name)
        except FileNotFoundError:
            return False
        return True

    def names(self, folder: str) -> dict[str, datetime]:
        """All objects under a folder, and when each was written, by the store's clock."""
        found = self._call(self.system.find, folder, detail=True)
        skipped = len(self._key("")) + 1
        # Where there is none at first and one a moment later, the folder itself is found.
        return {
            key[skipped:]: _written(info) for key, info in found.items() if info["type"] == "file"
        }

    def folders(self) -> list[str]:
        """The names of the folders right under the URL."""
        try:
            found = self._call(self.system.ls, "", detail=True)
        except FileNotFoundError:
            return []
        return [one["name"].rsplit("/", 1)[-1] for one in found if one["type"] == "directory"]

    def remove(self, name: str) -> None:
        """Takes an object away, where there is one."""
        try:
            self._call(self.system.rm_file, name)
        except FileNotFoundError:
            return

    def check_creates_once(self) -> None:
        """Refuses a store that takes a second object of a name as it took the first.

        Raises:
            BadInputError: it does, or cannot be written.
        """
        probe = f".probe-{uuid.uuid4().hex}"
        try:
            first, second = (self.create(probe, content) for content in (b"first", b"second"))
            self.remove(probe)
        except OSError as error:
            raise BadInputError(
                "--results",
                f"{self.url} cannot be written ({error.strerror or error}); see to the bucket's "
                "name, its endpoint and your credentials",
            ) from None
        if not first or second:
            raise BadInputError(
                "--results",
                f"{self.url} takes two objects of one name (it knows no conditional put), so that "
                "two drivers would overwrite each other; name a store that does, or a folder",
            )

    def _key(self, name: str) -> str:
        """As the file system names it: without the scheme."""
        path = self.url.partition("://")[2]
        return f"{path}/{name}" if name else path

    def _call(self, method: Callable[..., Any], name: str, *args: object, **given: object) -> Any:
        """Calls a method of the file system on an object of a name."""
        try:
            return method(self._key(name), *args, **given)
        except Exception as error:
            # SDKs have errors of their own: of credentials, of endpoints, of answers.
            raise _as_os_error(error, f"{self.url}/{name}") from None


# By the kinds of error that mean one thing whoever raises them.
_NUMBERS: dict[type[Exception], int] = {
    FileNotFoundError: errno.ENOENT,
    FileExistsError: errno.EEXIST,
    PermissionError: errno.EACCES,
}


def _as_os_error(error: Exception, where: str) -> OSError:
    """An error with a number, a reason of one line, and where it was."""
    reason = " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
    return OSError(_NUMBERS.get(type(error), errno.EHOSTUNREACH), reason, where)


def _written(info: dict[str, Any]) -> datetime:
    found = info.get("LastModified") or info.get("updated")
    return found if isinstance(found, datetime) else datetime.fromisoformat(str(found))
