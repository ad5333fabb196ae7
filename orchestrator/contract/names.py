"""What may name a folder or a file of a run, whoever says so."""

from typing import Annotated

from pydantic import StringConstraints

# Files of such names have endings, and are written under longer ones first; most file systems take
# 255 bytes.
LONGEST_NAME = 100
NAME_PATTERN = rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}"

Name = Annotated[str, StringConstraints(pattern=rf"^{NAME_PATTERN}$")]
