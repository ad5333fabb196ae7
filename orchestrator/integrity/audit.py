"""A model's files → what an audit says of them; nothing is built, and none of its code is run."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from orchestrator.errors import BadInputError, remedy_for
from orchestrator.inputs.weight_files import same_bytes
from orchestrator.integrity.files import AuditedFiles
from orchestrator.integrity.outcome import Audit
from orchestrator.integrity.tensors import Examined, examine
from orchestrator.integrity.verdicts import judge_model


def audit_files(
    files: AuditedFiles,
    *,
    everything: bool = False,
    done: Callable[[], None] = lambda: None,
) -> Audit:
    """Looks at every weight's tensor, and says what is to be said of the model.

    Args:
        everything: whether all weights are read, or a sample of each tensor.
        done: called after each tensor, from threads.

    Raises:
        BadInputError: a file cannot be read, or ends before its header says.
    """

    try:
        looked = files.each_tensor(partial(examine, everything=everything), done)
        found = [each for each in looked if each is not None]
        duplicates = list(_duplicates(found))
    except OSError as error:
        raise unreadable(error) from None
    return judge_model(files, found, duplicates, is_complete=everything)


def unreadable(error: OSError) -> BadInputError:
    """What is told of a file that cannot be read."""
    return BadInputError(str(error.filename), f"{error.strerror}; {remedy_for(error)}")


def _duplicates(examined: Sequence[Examined]) -> Iterator[tuple[str, str]]:
    """Layers that hold the same weights; a head that is the embedding once more is none."""
    first: dict[bytes, Examined] = {}
    for each in examined:
        if each.digest is None or each.outcome.role != "linear":
            continue
        known = first.setdefault(each.digest, each)
        if known is not each and same_bytes(known.tensor, each.tensor):
            yield known.tensor.name, each.tensor.name
