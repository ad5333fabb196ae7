"""The model's tokenizer, as the driver uses it: text → windows' and prompts' token ids."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.contract.variant_errors import first_line, loading_problem
from orchestrator.errors import BadInputError
from orchestrator.inputs.apart import APART, ApartError
from orchestrator.inputs.gguf_files import load_gguf_tokenizer
from orchestrator.inputs.long_texts import Encoded, ids_of
from orchestrator.inputs.models import Model

# What a chat template gets for a clock: with the real one, prompts would change from run to run.
_DATE = datetime(2025, 1, 1, tzinfo=UTC)
_OTHER_DATE = datetime(2031, 12, 28, 13, 14, 15, tzinfo=UTC)
# A template writes in no time, once the process that has it write has its libraries.
_TEMPLATE_SECONDS = 30.0
# Of a text, in characters: enough to see what a tokenizer puts around it.
_BEGINNING = 1000
# What all prompts say where the chat template writes a date.
PROMPTS_DATE = "1 January 2025"


class ModelTokenizer:
    """A thin face over transformers' tokenizer.

    Attributes:
        wrote_a_date: whether a prompt's text depends on the day.

    Raises:
        BadInputError: the tokenizer cannot be loaded, or has neither a first nor a last token.
    """

    def __init__(self, model: Model) -> None:
        self._model = model.id
        self.wrote_a_date = False
        try:
            self._tokenizer = _load(model)
        except Exception as error:  # the tokenizers library raises nothing more special
            raise BadInputError(
                "--model", f"{model.id}: its tokenizer cannot be loaded ({loading_problem(error)})"
            ) from None

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """The token ids of a text."""
        encoded = self._tokenizer(text, add_special_tokens=add_special_tokens)
        return list(encoded["input_ids"])

    def encode_each(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """The token ids of each of some texts, without special tokens: int64 `[tokens]` each."""
        if not self._tokenizer.is_fast:
            found = [self.encode(text, add_special_tokens=False) for text in texts]
        else:
            # By transformers' own call a text takes several times the time and memory.
            library = self._tokenizer.backend_tokenizer
            made = library.encode_batch_fast(list(texts), add_special_tokens=False)
            found = [each.ids for each in made]
        return [np.asarray(ids, np.int64) for ids in found]

    def encode_long(self, text: str) -> NDArray[np.int32]:
        """The token ids of a text of any length, without special tokens: int32 `[tokens]`."""
        # Others than the `tokenizers` library's do not say where in the text a token is.
        if not self._tokenizer.is_fast:
            return np.asarray(self.encode(text, add_special_tokens=False), dtype=np.int32)
        return ids_of(text, self._encode_with_places)

    def with_special_tokens(self, ids: NDArray[np.int32], text: str) -> NDArray[np.int32]:
        """A text's ids with the special tokens that the tokenizer puts around it.

        Args:
            ids: of the text, as of `encode_long`.
        """
        beginning = text[:_BEGINNING]
        bare, whole = (self.encode(beginning, add_special_tokens=each) for each in (False, True))
        places = (n for n in range(len(whole)) if whole[n : n + len(bare)] == bare)
        before = next(places, None) if bare else None
        if before is None:
            return np.asarray(self.encode(text, add_special_tokens=True), dtype=np.int32)
        around = np.asarray(whole, dtype=np.int32)
        return np.concatenate([around[:before], ids, around[before + len(bare) :]])

    def _encode_with_places(self, text: str) -> Encoded:
        made = self._tokenizer(
            text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        places = np.asarray(made["offset_mapping"], np.int64).reshape(-1, 2)
        return Encoded(np.asarray(made["input_ids"], np.int32), places[:, 0], places[:, 1])

    @property
    def prefix_id(self) -> int:
        """The beginning-of-sequence token, or the end-of-sequence one where there is none."""
        for token in (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        raise BadInputError(
            "--protocol", "the tokenizer has neither a first nor a last token; use concat"
        )

    @property
    def adds_bos(self) -> bool:
        """Whether the tokenizer puts a beginning-of-sequence token before a text."""
        bos = self._tokenizer.bos_token_id
        return bos is not None and self.encode("a", add_special_tokens=True)[:1] == [bos]

    def encode_prompt(self, text: str) -> list[int]:
        """The token ids of a prompt: as the user's turn of a chat where there is a template.

        An end token that the tokenizer puts behind a text is not part of a prompt.
        """
        if not self._tokenizer.chat_template:
            ids = self.encode(text, add_special_tokens=True)
            end = self._tokenizer.eos_token_id
            bare = self.encode(text, add_special_tokens=False)
            return ids[:-1] if end is not None and ids[-1:] == [end] != bare[-1:] else ids
        content, rendered = self._written(text)
        self.wrote_a_date |= rendered != self._render(content, _OTHER_DATE)
        # The template writes its own special tokens.
        return self.encode(rendered, add_special_tokens=False)

    def _written(self, text: str) -> tuple[Any, str]:
        """A prompt as the template takes it, and what it writes: all of the text, or nothing."""
        problems = []
        # Templates of models that see, too, take a list of parts.
        for content in (text, [{"type": "text", "text": text}]):
            try:
                rendered = self._render(content, _DATE)
            except BadInputError as error:
                problems.append(error)
                continue
            if text.strip() in rendered:
                return content, rendered
        raise (
            problems[0]
            if problems
            else BadInputError(
                "--model",
                f"{self._model}: its chat template leaves out what the user says ({text[:40]!r}); "
                "mend the template, or remove it",
            )
        )

    def _render(self, content: Any, now: datetime) -> str:
        try:
            request = {
                "template": self._tokenizer.get_chat_template(),
                "content": content,
                "now": now.isoformat(),
                "special_tokens": self._tokenizer.special_tokens_map,
            }
            rendered: str = APART.ask("render_prompt", request, least_seconds=_TEMPLATE_SECONDS)
        except (ApartError, TypeError, ValueError) as error:
            raise BadInputError(
                "--model",
                f"{self._model}: its chat template cannot write a prompt ({first_line(error)}); "
                "mend the template, or remove it",
            ) from None
        return rendered


def import_tokenizers() -> None:
    """Imports what a `ModelTokenizer` will need, which takes seconds."""
    from transformers import AutoTokenizer  # noqa: F401


def _load(model: Model) -> Any:
    # Imported here: `--help` must not wait for it.
    from transformers import AutoTokenizer

    checkpoint = model.checkpoint
    if checkpoint.location.gguf_file is not None:
        return load_gguf_tokenizer(checkpoint.content_files[0], "--model")
    # Not left open: transformers would ask on the terminal.
    return AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=False)
