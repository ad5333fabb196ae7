"""The driver: plans, hands out shards, stores, reduces and reports. Imports no torch.

How the libraries must behave is said here and nowhere else, in the environment: they read it when
they are imported, and this package comes before any of them, in the driver and in every worker.
A user's own choice is kept.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.api import Result, compare
    from orchestrator.errors import BadInputError, OrchestratorError

__all__ = ["BadInputError", "OrchestratorError", "Result", "compare"]

for _name, _value in {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # Each of its tries to reach the hub would be a line; how they end is told in one.
    "HF_HUB_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Texts longer than the model are meant here: they are cut into windows afterwards.
    "TRANSFORMERS_VERBOSITY": "error",
    # Nothing of a user's run is sent anywhere.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Otherwise an actor that asked for no GPU sees every one of the node.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}.items():
    os.environ.setdefault(_name, _value)


def __getattr__(name: str) -> Any:
    """What `__all__` names, imported when it is asked for: the package itself imports nothing."""
    if name in ("Result", "compare"):
        from orchestrator import api

        return getattr(api, name)
    if name in ("BadInputError", "OrchestratorError"):
        from orchestrator import errors

        return getattr(errors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
