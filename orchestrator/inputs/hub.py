"""The model hub: an id → a folder on this machine."""

from pathlib import Path

from orchestrator.contract.variant_errors import first_line
from orchestrator.errors import BadInputError


def download(
    name: str, revision: str | None, patterns: list[str], never: list[str], setting: str
) -> Path:
    """Fetches the files of a hub id that are not here yet.

    Args:
        patterns, never: which files, and which of these not.
        setting: the flag that named it, for messages.

    Returns:
        The snapshot's folder, named by its commit.

    Raises:
        BadInputError: no such id or revision, a gate, the hub out of reach.
    """
    # Imported here: a local model needs neither.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=patterns, ignore_patterns=never
            )
        )
    except GatedRepoError:
        problem = "is gated; accept its licence on the hub and log in with `hf auth login`"
    except RevisionNotFoundError:
        raise BadInputError(
            "--revision" if setting == "--model" else setting,
            f"{name} has no revision '{revision}'",
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        problem = "is neither a folder nor a model on the hub; check the spelling, or log in"
    except (LocalEntryNotFoundError, OSError) as error:
        problem = (
            f"is no folder, and the hub cannot be reached ({first_line(error)}); "
            "check the network, or name a local folder"
        )
    raise BadInputError(setting, f"{name} {problem}")
