"""What was measured, as tables, as a file, as figures."""

import json
import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from regjax.progress import say
from regjax.workdir import Workdir, plain, write_bytes
from regjax.workdir import write as write_text

JSON, FIGURES = "inspect.json", "figures"


def write(path: str | Path, found: dict[str, Any]) -> Path:
    """Writes `inspect.json` and the figures into a run's folder, and returns the figures' folder.

    Raises:
      OSError: a folder that cannot be written to.
    """
    from regjax.inspect import figures  # matplotlib is slow to load

    folder = Workdir(path).path
    write_text(folder / JSON, json.dumps(plain(found), indent=2) + "\n")
    drawn = folder / FIGURES
    drawn.mkdir(exist_ok=True)
    images = dict(figures.render(found))
    for name, image in images.items():
        write_bytes(drawn / f"{name}.png", image)
    for name in set(figures.NAMES) - set(images):  # of another time
        (drawn / f"{name}.png").unlink(missing_ok=True)
    return drawn


def show(found: dict[str, Any], console: Console) -> None:
    """Prints the tables and what sums the run up."""
    which = "refit, epoch" if found["refit"] else "best epoch"
    title = f"{found['split']}, {which} {found['epoch']}, {found['measured']} examples"
    if any("given" in layer for layer in found["layers"].values()):
        console.print(_units(found, f"units: {title}"))
    else:
        say(console, "units: left out, the network is no flax.linen.Module whose layers one sees")
    console.print(_parameters(found, f"weights and gradients: {title}"))
    for line in _lines(found):
        say(console, line)


def _units(found: dict[str, Any], title: str) -> Table:
    made = Table("layer", title=title)
    made.columns[0].overflow = "fold"
    names = ("given", "mean", "std", "zeros", "dead", "saturated", "rank", "distinct")
    for name in (*names, "output mean", "std"):
        made.add_column(name, justify="right")
    for name, layer in found["layers"].items():
        if "given" not in layer:
            continue
        given, output, count = layer["given"], layer["output"], layer["units"]
        made.add_row(
            Text(name),
            str(count),
            _number(given["mean"]),
            _number(given["std"]),
            _percent(given["zeros"]),
            _percent(layer["dead_units"] / count),
            _percent(layer.get("saturated")),
            f"{layer['effective_rank']:.1f} of {layer['numerical_rank']}",
            str(layer.get("distinct_units", "")),
            _number(output["mean"]),
            _number(output["std"]),
        )
    return made


def _parameters(found: dict[str, Any], title: str) -> Table:
    made = Table("layer", title=title)
    made.columns[0].overflow = "fold"
    names = ("‖w‖", "zeros", "units", "inputs", "‖gradient‖", "one example's", "5 to 95 %")
    for name in (*names, "shift", "cosine"):
        made.add_column(name, justify="right")
    for name, layer in found["layers"].items():
        zeros, gradient, shift = (
            layer["weights"].get("zeros", {}),
            layer["gradient"],
            layer["covariate_shift"],
        )
        one = gradient["examples"]
        made.add_row(
            Text(name),
            _number(layer["weights"]["norm"]),
            *(_percent(zeros.get(of)) for of in ("weights", "outputs", "inputs")),
            _number(gradient["norm"]),
            _number(one["median"]),
            f"{_number(one['low'])} to {_number(one['high'])}",
            _number(shift["distance"]),
            _number(shift["cosine"]),
        )
    return made


def _lines(found: dict[str, Any]) -> list[str]:
    loss, sharp, smooth = found["loss"], found["sharpness"], found["smoothness"]
    one, more = sharp["sam"]["rise"]
    lines = [
        f"loss {_number(loss['mean'])} ({_number(loss['low'])} to {_number(loss['high'])})  "
        f"examples {found['examples']}",
        f"gradient of the first kernel / of the last {_number(found['first_to_last'])}  "
        f"weights of 0 {_percent(found['sparsity']['weights'])}",
        f"sharpness: loss within {sharp['rho']:g} of the weights +{_number(one)} by SAM's step, "
        f"+{_number(more)} by {sharp['sam']['steps'][1]}; Hessian's eigenvalues from "
        f"{_number(sharp['smallest_eigenvalue'])} to {_number(sharp['top_eigenvalue'])}",
        f"smoothness: along the gradient loss {_number(min(smooth['losses']))} to "
        f"{_number(max(smooth['losses']))} from {_number(smooth['start'])}, "
        f"beta {_number(smooth['beta'])}",
    ]
    if "calibration" not in found:
        return [*lines, "calibration: left out, it is of classes"]
    c = found["calibration"]
    return [
        *lines,
        f"calibration error {_number(c['expected_error'])}, largest of a bin "
        f"{_number(c['maximum_error'])}  Brier score {_number(c['brier'])}  "
        f"negative log-likelihood {_number(c['negative_log_likelihood'])}",
    ]


def _number(x: float | None) -> str:
    """Three digits."""
    if x is None or math.isnan(x):
        return ""
    return f"{x:.2e}" if x and not 1e-3 <= abs(x) < 1e5 else f"{x:.3g}"


def _percent(x: float | None) -> str:
    return "" if x is None or math.isnan(x) else f"{100 * x:.1f} %"
