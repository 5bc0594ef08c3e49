"""The look of an experiment's figure: colour-blind safe, with intervals."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regjax import drawing
from regjax.comparison import estimate
from regjax.drawing import COLOURS, MARKERS

STYLE: Any = {"axes.titlesize": 10, "legend.frameon": False}  # for several axes beside each other


def render(draw: Callable[[Figure], None], width: float = 8.0, height: float = 3.8) -> bytes:
    """A figure as a PNG, see `regjax.drawing.render_figure`."""
    with mpl.rc_context(STYLE):
        return drawing.render_figure(draw, drawing.LIGHT, width, height)


def curve(axes: Axes, x: Sequence[float] | np.ndarray, y: Any, label: str, number: int = 0) -> None:
    """A line of means over seeds with the band of their 95 % intervals.

    Args:
      axes: where.
      x: `(points,)`.
      y: `(seeds, points)`; a point may be NaN for some seeds.
      label: for the legend.
      number: of the line, which gives its colour and marker.
    """
    middles = [estimate(column) for column in np.asarray(y, float).T]
    mean, low, high = (np.array(part) for part in zip(*middles, strict=True))
    colour = COLOURS[number % len(COLOURS)]
    marker = MARKERS[number % len(MARKERS)] if len(mean) <= 20 else None
    axes.plot(x, mean, color=colour, marker=marker, ms=4, lw=1.5, label=label)
    axes.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)


def bars(axes: Axes, values: dict[str, Any]) -> None:
    """Means over seeds with 95 % intervals, and each seed as a dot, one row a name.

    Args:
      axes: where.
      values: by name, `(seeds,)`.
    """
    for place, one in enumerate(values.values()):
        of_seeds = np.asarray(one, float)
        of_seeds = of_seeds[np.isfinite(of_seeds)]
        mean, low, high = estimate(of_seeds)
        colour = COLOURS[place % len(COLOURS)]
        reach = np.nan_to_num([[mean - low], [high - mean]])
        beside = np.full(len(of_seeds), place + 0.2)
        error: dict[str, Any] = {"fmt": "o", "color": colour, "ms": 6, "capsize": 4, "lw": 2}
        axes.errorbar([mean], [place], xerr=reach, **error)
        axes.plot(of_seeds, beside, ".", color=colour, alpha=0.4, ms=4)
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.5, -0.5)


def grid(axes: Axes, values: np.ndarray, rows: list[str], columns: list[str], span: float) -> None:
    """A map of numbers, which are written in it, each row's highest in bold.

    Args:
      axes: where; its image is `axes.images[0]`.
      values: `(rows, columns)`.
      rows: their names.
      columns: their names.
      span: of the colours, down from the highest value.
    """
    top = values.max()
    axes.imshow(values, cmap="viridis", vmin=top - span, vmax=top, aspect="auto")
    for i, j in np.ndindex(*values.shape):
        shade = "white" if values[i, j] < top - span / 2 else "black"
        weight = "bold" if j == values[i].argmax() else "normal"
        said = f"{values[i, j]:.1f}"
        axes.text(j, i, said, ha="center", va="center", color=shade, weight=weight)
    axes.grid(False)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
