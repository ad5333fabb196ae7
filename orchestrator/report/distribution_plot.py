"""A comparison → `kl.svg`: which share of tokens has a KL above a value, both axes logarithmic."""

import io
import logging

from orchestrator.comparison_json import Comparison, Exceedance

# Okabe and Ito's colours, which the colour-blind can tell apart; the dashes serve without colour.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("-", "--", "-.", (0, (1, 1)))
_NOISE_COLOUR = "#777777"
_SIZE_INCHES = (7.0, 4.2)


def draw_distributions(comparison: Comparison) -> bytes | None:
    """Draws the distribution of each variant's KL, and the noise floor's, as SVG.

    The same comparison gives the same bytes.

    Returns:
        None where no variant has a KL.
    """
    found = {n: v.kl.distribution for n, v in comparison.variants.items() if v.kl is not None}
    if not found:
        return None
    # Imported here: it takes half a second, and most commands draw nothing.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "kl", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot()
        for number, (name, distribution) in enumerate(found.items()):
            axes.plot(
                *_points(distribution),
                color=_COLOURS[number % len(_COLOURS)],
                linestyle=_DASHES[number % len(_DASHES)],
                label=_plain(name),
            )
        if comparison.noise_floor is not None:
            points = _points(comparison.noise_floor.distribution)
            axes.plot(*points, color=_NOISE_COLOUR, linestyle=":", label="noise floor")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(f"KL({_plain(comparison.reference)} ‖ variant) of a token, nats")
        axes.set_ylabel("share of tokens above")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _titled(buffer.getvalue(), f"KL from {comparison.reference}, by token")


def _points(distribution: list[Exceedance]) -> tuple[list[float], list[float]]:
    """Values and shares; a share of nothing has no place on a logarithmic axis."""
    shown = [point for point in distribution if point.share > 0]
    return [point.kl for point in shown], [point.share for point in shown]


def _plain(text: str) -> str:
    """Text that is not taken for a formula."""
    return text.replace("$", r"\$")


def _titled(svg: bytes, title: str) -> bytes:
    """The picture with the name that a screen reader says."""
    escaped = title.replace("&", "&amp;").replace("<", "&lt;").encode()
    start = svg.index(b"<svg")
    end = svg.index(b">", start)
    return svg[:end] + b' role="img"><title>' + escaped + b"</title>" + svg[end + 1 :]
