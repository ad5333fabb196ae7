"""Whether every model of a sweep was loaded from the files that its figures are to be of."""

from orchestrator.contract.exchange import Loaded
from orchestrator.contract.file_states import FileState, this_machine
from orchestrator.planning.plan import Plan


class SeenFiles:
    """Each file by its place, as it must stay: on the driver's machine as it was hashed, on another
    (or in another cache of the hub's) as the first model was loaded from it.

    Args:
        plan: whose checkpoints were hashed.
    """

    def __init__(self, plan: Plan) -> None:
        hashed: dict[str, FileState] = {}
        for planned in plan.variants:
            hashed |= planned.checkpoint.file_states
        self._sizes = {name: state.size_bytes for name, state in hashed.items()}
        self._seen = {(this_machine(), state.place): state for state in hashed.values()}

    def problem(self, loaded: Loaded) -> str | None:
        """Why a model is not of the files that it should be of; None where it is."""
        for name, state in loaded.files.items():
            if self._seen.setdefault((loaded.machine, state.place), state) != state:
                return f"{name} is another file than when this sweep began"
            if self._sizes.get(name, state.size_bytes) != state.size_bytes:
                return (
                    f"{name} has another size where a model was loaded than on the driver's machine"
                )
        return None
