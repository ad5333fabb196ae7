"""The model's tokenizer, as the driver uses it: text → windows' and prompts' token ids."""

from typing import Any

from orchestrator.contract.errors import first_line
from orchestrator.errors import BadInputError
from orchestrator.models import Model


class ModelTokenizer:
    """A thin face over transformers' tokenizer.

    Raises:
        BadInputError: the tokenizer cannot be loaded, or has neither a first nor a last token.
    """

    def __init__(self, model: Model) -> None:
        # Imported here: it takes seconds, and `--help` must not wait for it.
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(model.folder)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise BadInputError(
                "--model", f"{model.id}: its tokenizer cannot be loaded ({first_line(error)})"
            ) from None

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """The token ids of a text."""
        encoded = self._tokenizer(text, add_special_tokens=add_special_tokens)
        return list(encoded["input_ids"])

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
        """The token ids of a prompt: as the user's turn of a chat where there is a template."""
        if not self._tokenizer.chat_template:
            return self.encode(text, add_special_tokens=True)
        chat = [{"role": "user", "content": text}]
        rendered = self._tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True
        )
        # The template writes its own special tokens.
        return self.encode(rendered, add_special_tokens=False)
