"""What an actor tells its caller apart from tables."""


class CannotLoadError(Exception):
    """A variant cannot be loaded on this device; the message is one line for the user."""
