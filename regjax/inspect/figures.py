"""Figures of what was measured, by layers in order of depth, along the gradient, by confidence."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from regjax.drawing import COLOURS, LIGHT, MARKERS
from regjax.drawing import render as draw_png

NAMES = (
    "activations",
    "units",
    "gradients",
    "sparsity",
    "covariate_shift",
    "smoothness",
    "calibration",
)


def render(found: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The figures that there are data for, by name, each as a PNG."""
    layers = found["layers"]
    seen = {name: layer for name, layer in layers.items() if "given" in layer}
    longest = max((len(name) for name in layers), default=0)
    height = 3.4 + 0.06 * longest  # names stand upright
    if seen:
        yield "activations", draw_png(lambda axes: _activations(axes, seen), LIGHT, height)
        yield "units", draw_png(lambda axes: _units(axes, seen), LIGHT, height)
    yield "gradients", draw_png(lambda axes: _gradients(axes, layers), LIGHT, height)
    if found["sparsity"]["weights"]:
        yield "sparsity", draw_png(lambda axes: _sparsity(axes, layers), LIGHT, height)
    yield "covariate_shift", draw_png(lambda axes: _shift(axes, layers), LIGHT, height)
    yield "smoothness", draw_png(lambda axes: _smoothness(axes, found), LIGHT, 3.4)
    if "calibration" in found:
        bins = found["calibration"]["bins"]
        yield "calibration", draw_png(lambda axes: _calibration(axes, bins), LIGHT, 5.0)


def _by_depth(
    axes: Any,
    layers: dict[str, Any],
    values: Mapping[str, Callable[[dict[str, Any]], float | None]],
) -> None:
    """Lines over the layers, with a legend outside."""
    for i, (label, value) in enumerate(values.items()):
        found = [value(layer) for layer in layers.values()]
        heights = [math.nan if x is None else x for x in found]
        if not np.isfinite(heights).any():
            continue
        style = {"color": COLOURS[i], "marker": MARKERS[i], "ms": 5, "lw": 1.2}
        axes.plot(range(len(layers)), heights, label=label, **style)
    _layer_axis(axes, layers)
    axes.figure.legend(loc="outside upper center", ncols=4, frameon=False)


def _layer_axis(axes: Any, layers: dict[str, Any]) -> None:
    size = 10 if len(layers) <= 20 else max(3, 200 / len(layers))
    axes.set_xticks(range(len(layers)), list(layers), rotation=90, fontsize=size)
    axes.set_xlim(-0.5, len(layers) - 0.5)
    axes.set_xlabel("Layer, in order of depth")


def _logarithmic(axes: Any) -> None:
    """A logarithmic axis, if there is something above 0 to show."""
    if any((np.asarray(line.get_ydata(), float) > 0).any() for line in axes.get_lines()):
        axes.set_yscale("log")


def _activations(axes: Any, layers: dict[str, Any]) -> None:
    _by_depth(
        axes,
        layers,
        {
            "what it is given": lambda layer: layer["given"]["std"],
            "what it puts out": lambda layer: layer["output"]["std"],
        },
    )
    _logarithmic(axes)
    axes.set_ylabel("Standard deviation")


def _units(axes: Any, layers: dict[str, Any]) -> None:
    def saturated(layer: dict[str, Any]) -> float:
        return 100 * layer.get("saturated", math.nan)

    _by_depth(
        axes,
        layers,
        {
            "values of 0": lambda layer: 100 * layer["given"]["zeros"],
            "units never used": lambda layer: 100 * layer["dead_units"] / layer["units"],
            "effective rank / units": lambda layer: 100 * layer["effective_rank"] / layer["units"],
            "saturated values": saturated,
        },
    )
    axes.set_ylim(-3, 103)
    axes.set_ylabel("Of what the layer is given (%)")


def _gradients(axes: Any, layers: dict[str, Any]) -> None:
    places = np.arange(len(layers))
    one = [layer["gradient"]["examples"] for layer in layers.values()]
    axes.vlines(places, [x["low"] for x in one], [x["high"] for x in one], color=COLOURS[1], lw=2)
    _by_depth(
        axes,
        layers,
        {
            "mean gradient": lambda layer: layer["gradient"]["norm"],
            "one example's: median, 5 to 95 %": lambda layer: layer["gradient"]["examples"][
                "median"
            ],
        },
    )
    _logarithmic(axes)
    axes.set_ylabel("Norm of the gradient")


def _sparsity(axes: Any, layers: dict[str, Any]) -> None:
    kernels = {name: x for name, x in layers.items() if "zeros" in x["weights"]}

    def share(of: str) -> Callable[[dict[str, Any]], float]:
        return lambda layer: 100 * layer["weights"]["zeros"][of]

    shares = {"weights": share("weights"), "units": share("outputs"), "inputs": share("inputs")}
    _by_depth(axes, kernels, shares)
    axes.set_ylim(-3, 103)
    axes.set_ylabel("Exactly 0 (%)")


def _shift(axes: Any, layers: dict[str, Any]) -> None:
    _by_depth(
        axes,
        layers,
        {
            "change of its gradient by the layers before": lambda x: x["covariate_shift"][
                "distance"
            ],
        },
    )
    axes.set_ylim(bottom=0)
    axes.set_ylabel("‖G − G'‖ / ‖G‖")


def _smoothness(axes: Any, found: dict[str, Any]) -> None:
    along = found["smoothness"]
    axes.plot(
        along["rates"], along["losses"], "o-", color=COLOURS[0], ms=4, label="along the gradient"
    )
    axes.axhline(along["start"], color=COLOURS[-1], ls="--", lw=1.2, label="where it starts")
    top = found["sharpness"]["top_eigenvalue"]
    if top > 0:
        axes.axvline(2 / top, color=COLOURS[5], ls=":", lw=1.5, label="2/λ₁")
    axes.set_xscale("log")
    axes.set_xlabel("Rate η of a step along the gradient")
    axes.set_ylabel("Loss")
    axes.figure.legend(loc="outside upper center", ncols=3, frameon=False)


def _calibration(axes: Any, bins: dict[str, Any]) -> None:
    values = {name: np.array(x, float) for name, x in bins.items()}
    kept = values["count"] > 0
    accuracy, confidence = values["accuracy"][kept], values["confidence"][kept]
    low, high = (values[f"accuracy_{end}"][kept] for end in ("low", "high"))
    axes.plot([0, 1], [0, 1], color=COLOURS[-1], ls="--", lw=1.2, label="calibrated")
    axes.vlines(confidence, low, high, color=COLOURS[0], lw=2)
    axes.plot(confidence, accuracy, "o", color=COLOURS[0], ms=5, label="accuracy, 95 % interval")
    shares = values["count"] / values["count"].sum()
    centres, width = (values["lower"] + values["upper"]) / 2, values["upper"] - values["lower"]
    style = {"color": COLOURS[1], "alpha": 0.4, "label": "share of the examples"}
    axes.bar(centres, shares, 0.9 * width, **style)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("Confidence")
    axes.set_ylabel("Accuracy")
    axes.figure.legend(loc="outside upper center", ncols=3, frameon=False)
