"""What may name a folder or a file of a run, whoever says so."""

from typing import Annotated

from pydantic import StringConstraints

# Files of such names have endings, and are written under longer ones first; most file systems take
# 255 bytes.
LONGEST_NAME = 100
NAME_PATTERN = rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}"

# A variant's may go on in what is done to it: `nf4+noise=0.5`.
VARIANT_PATTERN = rf"{NAME_PATTERN}(?:\+[a-z]+=[A-Za-z0-9.:@-]{{1,40}})*"

VariantName = Annotated[str, StringConstraints(pattern=rf"^{VARIANT_PATTERN}$")]
Name = Annotated[str, StringConstraints(pattern=rf"^{NAME_PATTERN}$")]
