"""Where runs are kept: a folder, or a URL of an object store."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

# By the scheme of a URL: the package that reads it, and the extra that brings that.
READERS = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs")}
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):(?P<rest>/.*)", re.DOTALL)
_WANTED = "name a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"


def is_url(location: str) -> bool:
    """Whether something named is at a URL, of whatever scheme."""
    return _SCHEME.fullmatch(location) is not None


def location_of(given: str | Path) -> str:
    """A folder or a URL as it is used; a folder's `~` is the user's.

    Raises:
        ValueError: it is a URL of another kind, or one without a bucket.
    """
    # A path has one slash where the URL had two.
    said = str(given)
    found = _SCHEME.fullmatch(said)
    if found is None:
        return str(Path(said).expanduser())
    scheme, rest = found["scheme"], found["rest"].strip("/")
    bucket = rest.partition("/")[0]
    if scheme not in READERS:
        raise ValueError(f"{said} cannot be written; {_WANTED}")
    if not bucket or "//" in rest:
        raise ValueError(f"{said} names no bucket or an empty folder; {_WANTED}")
    return f"{scheme}://{rest}"


Location = Annotated[str, BeforeValidator(location_of)]
