"""What an actor tells its driver apart from tables."""


class CannotLoadError(Exception):
    """A variant cannot be loaded on this device; the message is one line for the user."""


def first_line(error: BaseException) -> str:
    """The first line that an error's message has, or its type where it has none."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)
