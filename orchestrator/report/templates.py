"""The templates of the reports."""

from collections.abc import Callable

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates(
    *, autoescape: bool, finalize: Callable[[object], object] | None = None
) -> Environment:
    """They are strict: what is not there is an error, and no gap in a page.

    Args:
        finalize: what becomes of each value that is put into them.
    """
    return Environment(
        loader=PackageLoader("orchestrator.report", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=autoescape,
        finalize=finalize,
    )
