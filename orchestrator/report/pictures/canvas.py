"""Matplotlib figures → SVG: a file of its own, or a part of a page that takes the page's colours.

Drawn in the light colours; on a page each of them becomes a variable of its style sheet, so that
the picture turns dark with the page.
"""

import io
import logging
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.contract.variant_errors import first_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which the colour-blind can tell apart; marks and dashes serve without.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1)), (0, (3, 1, 1, 1)))
# Lines alone: dots make a picture ten times as long.
HATCHES = ("", "//", "\\\\", "||", "--", "xx")
INK = "#1b1f24"
MUTED = "#6a737d"
GRID = "#d0d7de"

# By colour, its variable in the page's style sheet.
_VARIABLES = {
    **{colour: f"--series-{number}" for number, colour in enumerate(SERIES, start=1)},
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
}
_WIDTH_INCHES = 5.6
_FEW_DECADES = 100.0
_STYLE: Any = {
    "svg.hashsalt": "plot",
    "svg.fonttype": "none",
    # Letters that can be searched and chosen.
    "pdf.fonttype": 42,
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "hatch.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}

# The same figures give the same bytes.
_NO_DATES: Any = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@dataclass(frozen=True)
class Look:
    """How a series is told apart, by colour and without."""

    colour: str
    dash: Any
    mark: str
    hatch: str


@dataclass(frozen=True)
class Plot:
    """A picture.

    Attributes:
        name: what its parts are told apart by on a page.
        title, description: what a screen reader says.
        svg: as matplotlib writes it; empty where it could not.
        failure: why it could not.
        redraw: the same again, in another of matplotlib's formats.
    """

    name: str
    title: str
    description: str
    svg: str
    failure: str | None = None
    redraw: Callable[[Literal["pdf"]], bytes] | None = field(
        default=None, compare=False, repr=False
    )

    @property
    def file(self) -> bytes | None:
        """An SVG file of its own; None where there is no picture."""
        if self.failure is not None:
            return None
        paper = '</desc><rect width="100%" height="100%" fill="#ffffff"/>'
        labelled = self.svg.replace("<svg ", f"<svg {_labels('title', 'description')} ", 1)
        return labelled.replace("</desc>", paper, 1).encode()

    @property
    def pdf(self) -> bytes | None:
        """A PDF file; None where there is no picture."""
        return None if self.failure is not None or self.redraw is None else self.redraw("pdf")

    @property
    def inline(self) -> str:
        """A part of a page: no declarations, no colours of its own, names used nowhere else."""
        start = self.svg.index("<svg ")
        body = re.sub(r"<metadata>.*?</metadata>\s*", "", self.svg[start:], flags=re.DOTALL)
        body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
        body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{self.name}-", body)
        for colour, variable in _VARIABLES.items():
            body = body.replace(colour, f"var({variable})")
        # In the page's own letters.
        body = re.sub(r'font-family: [^;"]*;? ?', "", body)
        body = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", body, count=1)
        body = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", body, count=1)
        labels = _labels(f"{self.name}-title", f"{self.name}-description")
        return body.replace("<svg ", f"<svg {labels} ", 1)


def _labels(title: str, description: str) -> str:
    """What has a screen reader say the words of these parts."""
    return f'role="img" aria-labelledby="{title} {description}"'


def draw(
    name: str,
    title: str,
    description: str,
    height_inches: float,
    paint: Callable[["Axes"], None],
) -> Plot:
    """Draws a picture in the style of all; the same figures give the same bytes.

    Whatever the drawing fails at, the report goes on: the figures are in the table beside it.
    """
    render = partial(_rendered, height_inches, paint)
    try:
        svg = render("svg").decode()
    except Exception as error:  # of numbers that an axis cannot show, of any kind
        return Plot(name, title, description, "", first_line(error) or type(error).__name__)
    return Plot(name, title, description, _titled(svg, title, description), redraw=render)


def _rendered(
    height_inches: float, paint: Callable[["Axes"], None], file_format: Literal["svg", "pdf"]
) -> bytes:
    # Imported here: it takes half a second, and most commands draw nothing.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with rc_context(_STYLE):
        drawn = Figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")
        drawn.patch.set_visible(False)
        axes = drawn.add_subplot()
        axes.patch.set_visible(False)
        axes.grid(alpha=0.6, linewidth=0.6)
        paint(axes)
        drawn.savefig(buffer, format=file_format, metadata=_NO_DATES[file_format])
    return buffer.getvalue()


def scale_logarithmically(axes: "Axes", *which: Literal["x", "y"]) -> None:
    """Makes axes logarithmic, once all is drawn; one with nothing above zero stays as it is."""
    from matplotlib.ticker import LogLocator, NullFormatter

    for name in which:
        if not math.isfinite(getattr(axes.dataLim, f"minpos{name}")):
            continue
        (axes.set_xscale if name == "x" else axes.set_yscale)("log")
        axis = axes.xaxis if name == "x" else axes.yaxis
        low, high = axis.get_view_interval()
        # As a person writes it: `0.01`, and 2 and 5 within a decade or two.
        axis.set_major_formatter("{x:g}")
        if high / low < _FEW_DECADES:
            axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
            axis.set_minor_formatter("{x:g}")
        else:
            axis.set_minor_formatter(NullFormatter())


def error_bars(
    value: float | None, interval: tuple[float, float] | None, *, logarithmic: bool = False
) -> list[list[float]] | None:
    """How far the interval of a figure or a change goes below and above it; None without one.

    Args:
        logarithmic: whether it is drawn on such an axis, where nothing or less has no place.
    """
    if interval is None or value is None:
        return None
    low, high = interval
    if logarithmic and low <= 0:
        low = value / 10
    return [[max(0.0, value - low)], [max(0.0, high - value)]]


def look(name: str, names: Iterable[str]) -> Look:
    """How one of several series looks, the same in every picture."""
    number = list(names).index(name) % len(SERIES)
    return Look(SERIES[number], DASHES[number], MARKERS[number], HATCHES[number])


def plain(text: str) -> str:
    """Text that is not taken for a formula."""
    return text.replace("$", r"\$")


def _titled(svg: str, title: str, description: str) -> str:
    """The picture with the words that a screen reader says."""
    end = svg.index(">", svg.index("<svg")) + 1
    words = (
        f'<title id="title">{escape(title, quote=False)}</title>'
        f'<desc id="description">{escape(description, quote=False)}</desc>'
    )
    return svg[:end] + words + svg[end:]
