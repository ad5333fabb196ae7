"""What an actor tells its driver apart from tables."""


class VariantError(Exception):
    """A variant cannot be used, however often it is tried; the message is one line for the user."""


class CannotLoadError(VariantError):
    """A variant cannot be loaded on this device."""


class IncomparableError(VariantError):
    """A variant's distributions are not over the reference's tokens."""


def first_line(error: BaseException) -> str:
    """The first line that an error's message has, or its type where it has none."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)
