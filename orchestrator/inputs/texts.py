"""What all texts of a data set have in common."""

# A hundred times the test split of WikiText-2.
MOST_TEXT_BYTES = 2**27


def with_plain_line_ends(text: str) -> str:
    r"""The text with "\n" for every line end."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
