"""A chat template → what it writes of a prompt, as transformers has it written."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

# A template writes some marks around what is said.
_MOST_CHARACTERS = 2**24


def import_templates() -> None:
    """Imports what `render_prompt` will need, which takes seconds."""
    from transformers.utils import chat_template_utils  # noqa: F401


def render_prompt(template: str, content: Any, now: str, special_tokens: Mapping[str, Any]) -> str:
    """What a template writes of a user's turn, up to where the answer begins.

    Args:
        template: Jinja, of whoever made the model.
        content: what the user says: a text, or a list of parts.
        now: the time that it is told, in ISO 8601.
        special_tokens: by name, as templates call them.

    Raises:
        Exception: whatever the template makes of itself.
    """
    from transformers.utils.chat_template_utils import render_jinja_template

    # Of each conversation what is written, and where answers are in it.
    rendered: Any = render_jinja_template(
        conversations=[[{"role": "user", "content": content}]],
        chat_template=template,
        add_generation_prompt=True,
        **special_tokens,
        strftime_now=datetime.fromisoformat(now).strftime,
    )
    written = str(rendered[0][0])
    if len(written) > _MOST_CHARACTERS + len(str(content)):
        raise ValueError("it writes without end")
    return written
