"""Where tests find what lies beside them."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"
