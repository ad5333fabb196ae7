"""The class whose methods Ray calls. It imports no torch, so that a driver can name it."""

from typing import TYPE_CHECKING

import pyarrow as pa

from orchestrator.contract.shards import ModelLocation, Payload
from orchestrator.contract.variants import DtypeName, Variant

if TYPE_CHECKING:
    from actors.engine import Engine


class ModelActor:
    """One variant of a model on one device, in a process of its own.

    Construction does nothing that can fail, since Ray hides why a constructor did; torch and the
    model come with `load`.

    Args:
        location: where the weights are.
        variant: how to hold them.
        compute_dtype: the dtype of the arithmetic.
        device: `cuda` or `cpu`.
        threads: processor threads to compute with.
    """

    def __init__(
        self,
        location: ModelLocation,
        variant: Variant,
        compute_dtype: DtypeName,
        device: str,
        threads: int,
    ) -> None:
        self._arguments = (location, variant, compute_dtype, device, threads)
        self._engine: Engine | None = None

    def load(self) -> None:
        """Loads the model; to be called first.

        Raises:
            CannotLoadError: the variant cannot be had on this device; the message says why.
        """
        from actors.engine import Engine

        self._engine = Engine(*self._arguments)

    def evaluate(self, payload: Payload) -> pa.Table:
        """Works on a shard: the rows of its stage, and the environment that they are from.

        Raises:
            RuntimeError: nothing is loaded yet.
        """
        if self._engine is None:
            raise RuntimeError("evaluate was called before load")
        return self._engine.evaluate(payload)
