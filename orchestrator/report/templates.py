"""The templates of the reports."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates(*, autoescape: bool) -> Environment:
    """They are strict: what is not there is an error, and no gap in a page."""
    return Environment(
        loader=PackageLoader("orchestrator.report", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=autoescape,
    )
