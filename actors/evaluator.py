"""The class whose methods Ray calls. It imports no torch, so that a driver can name it."""

from typing import TYPE_CHECKING

import pyarrow as pa

from orchestrator.shards import ModelLocation, PromptShard, WindowShard
from orchestrator.variants import Variant

if TYPE_CHECKING:
    from actors.engine import Engine


class Evaluator:
    """One variant of a model on one device, as an actor.

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
        compute_dtype: str,
        device: str,
        threads: int,
    ) -> None:
        self._arguments = (location, variant, compute_dtype, device, threads)
        self._engine: Engine | None = None

    def load(self) -> pa.Table:
        """Loads the model; one row of the table `memory`.

        Raises:
            CannotLoadError: the variant cannot be had on this device; the message says why.
        """
        from actors.engine import Engine

        engine = Engine(*self._arguments)
        table = engine.load()
        self._engine = engine
        return table

    def evaluate(self, work: WindowShard | PromptShard) -> pa.Table:
        """Works on a shard: the rows of its stage, by the schema in `orchestrator.tables`.

        Raises:
            RuntimeError: nothing is loaded yet.
        """
        if self._engine is None:
            raise RuntimeError("evaluate was called before load")
        return self._engine.evaluate(work)
