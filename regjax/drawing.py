"""How plots look: a PNG in light or dark colours. Colour-blind safe (Okabe, Ito)."""

import io
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#888888"]
MARKERS = "os^DvPX*"
LIGHT = {"text": "#1a1a1a", "ground": "#ffffff", "grid": "#dddddd"}
DARK = {"text": "#e8e8e8", "ground": "#16181c", "grid": "#3a3d44"}


def render(draw: Callable[[Any], None], colours: dict[str, str], height: float = 3.4) -> bytes:
    """A plot as a PNG.

    Args:
      draw: draws on the axes that it is given.
      colours: `LIGHT` or `DARK`.
      height: inches, at a width of 7.
    """
    return render_figure(lambda figure: draw(figure.subplots()), colours, 7, height)


def render_figure(
    draw: Callable[[Figure], None], colours: dict[str, str], width: float, height: float
) -> bytes:
    """A figure as a PNG.

    Args:
      draw: draws on the empty figure that it is given; it may change its size.
      colours: `LIGHT` or `DARK`.
      width, height: inches.
    """
    text, ground, grid = colours["text"], colours["ground"], colours["grid"]
    style: Any = {
        "text.color": text,
        "axes.labelcolor": text,
        "axes.edgecolor": grid,
        "xtick.color": text,
        "ytick.color": text,
        "axes.facecolor": ground,
        "figure.facecolor": ground,
        "legend.facecolor": ground,
        "legend.edgecolor": grid,
        "grid.color": grid,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 10,
        "legend.fontsize": 9,
    }
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a label's foreign letters, or its length
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
