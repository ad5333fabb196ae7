"""What an actor tells its driver apart from tables."""


class VariantError(Exception):
    """A variant cannot be used, however often it is tried; the message is one line for the user."""


class CannotLoadError(VariantError):
    """A variant cannot be loaded on this device."""


class IncomparableError(VariantError):
    """A variant's distributions are not over the reference's tokens."""


class FilesChangedError(VariantError):
    """A variant's files are not those that its sweep began with."""


class TooLargeError(VariantError):
    """A device's memory does not hold what settings ask of it at once."""


class NoMemoryError(Exception):
    """A device had no memory for a shard; another time, or on another device, it may."""


def files_problem(variant: str, problem: str) -> str:
    """What is wrong with a variant's files, as a line for the user."""
    return f"variant {variant}: {problem}; leave the files as they are, and run it again"


def first_line(error: BaseException) -> str:
    """The first line that an error's message has, or its type where it has none."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)


def loading_problem(error: BaseException) -> str:
    """Why transformers could not load something, in a line."""
    if "trust_remote_code" in str(error):
        return "it brings code of its own, which is never run"
    return f"{type(error).__name__}: {first_line(error)}"
