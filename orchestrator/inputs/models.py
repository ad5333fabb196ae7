"""A model's id → its checkpoint and all that a sweep must know beside, without loading it."""

from dataclasses import dataclass

from orchestrator.errors import BadInputError
from orchestrator.inputs.checkpoints import Checkpoint, read_folder
from orchestrator.inputs.gguf_files import names_gguf, read_gguf_model


@dataclass(frozen=True)
class Model:
    """What a sweep measures: windows and prompts are cut by its tokenizer.

    Attributes:
        checkpoint: its own weights, which variants are made of unless they bring theirs.
    """

    id: str
    checkpoint: Checkpoint

    @property
    def maximum_length(self) -> int | None:
        """The most positions that it takes, in tokens; None where nothing says so."""
        return self.checkpoint.maximum_length


def resolve_model(model: str, revision: str | None) -> Model:
    """Finds a model: `demo` (embedded), a folder, a hub id, or a GGUF file.

    Raises:
        BadInputError: no such folder or id, no weights or tokenizer in it, weights that are
            quantized already, the hub out of reach.
    """
    if names_gguf(model):
        return Model(model, read_gguf_model(model, revision, "--model"))
    checkpoint = read_folder(model, revision, "--model")
    if checkpoint.method is not None:
        # Variants are made of original weights: of quantized ones each would be the same.
        raise BadInputError(
            "--model",
            f"{model} is already quantized ({checkpoint.method}); name the model that it was made "
            "of, and this one as a variant of its own (--variants fp16,mine=...)",
        )
    return Model(model, checkpoint)
