"""What `--wait-for-gpus` says: `8`, or `8:45` with minutes."""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator

_SAID = re.compile(r"(?P<count>[1-9]\d{0,5})(:(?P<minutes>\d{1,6}(\.\d+)?))?")
_USUAL_MINUTES = 30.0


@dataclass(frozen=True)
class GpusWanted:
    """GPUs that are waited for.

    Attributes:
        minutes: at most.
    """

    count: int
    minutes: float

    @classmethod
    def read(cls, said: str) -> "GpusWanted":
        """What somebody says.

        Raises:
            ValueError: it is something else.
        """
        found = _SAID.fullmatch(said)
        if found is None:
            raise ValueError("name how many, and for how many minutes at most: 8 or 8:45")
        minutes = found["minutes"]
        return cls(int(found["count"]), _USUAL_MINUTES if minutes is None else float(minutes))


def _checked(said: object) -> str:
    GpusWanted.read(str(said))
    return str(said)


SaidGpus = Annotated[str, BeforeValidator(_checked)]
