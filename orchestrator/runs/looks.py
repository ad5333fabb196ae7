"""A run's windows as far as they were looked at → whether its gates are decided by them."""

from collections.abc import Sequence

from orchestrator.contract.manifest import Manifest
from orchestrator.figures.comparison import compare
from orchestrator.gates.language import Gate, GateSet
from orchestrator.gates.verdicts import GateResult, judge
from orchestrator.storage.reduce import join_shards
from orchestrator.storage.run_folder import RunFolder


def verdicts_at(
    folder: RunFolder, manifest: Manifest, look: int, gates: Sequence[Gate]
) -> list[GateResult]:
    """How a look's windows do by gates over windows.

    Args:
        look: one whose windows all have tables, as those of the looks before it.
    """
    seen = manifest.of_windows(look)
    comparison = compare(join_shards(folder, seen), seen)
    gate_set = GateSet(name="given", title="passes every gate", gates=tuple(gates))
    return judge(comparison, gate_set, asked=True).results
