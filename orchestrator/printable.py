"""Text of models, files and users that can be shown: nothing in it acts, and no secret is told."""

import re

# Control characters, which a terminal obeys, and those that turn a line's direction or end it.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_SECRETS = re.compile(
    r"(?i)(?<=[?&])((?:access_)?token|key|secret|password|sig(?:nature)?)=[^&\s;]+"
)
# Of the model hub, by their form.
_HUB_TOKENS = re.compile(r"\bhf_[A-Za-z0-9]{16,}")


def printable(text: str) -> str:
    """A text in one line, with marks in the place of characters that act: `␛` for an escape."""
    return _CONTROLS.sub(_mark, text)


def masked(text: str) -> str:
    """A text without what gives access: in the addresses that it has, and tokens of the hub."""
    return _HUB_TOKENS.sub("hf_***", _SECRETS.sub(r"\1=***", _CREDENTIALS.sub("***", text)))


def _mark(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"
