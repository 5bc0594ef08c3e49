"""How time and memory grow with images, batch, width, lanes, trials and devices.

python -m experiments.benchmarks.growth [--axes=images,batch,...] [--repeats=5] [--plot=PNG]

Question: along which of these does an epoch, or a study, take more than its share, and from where?
Method: one number is changed at a time, each value in a process of its own. Of `images` (random,
32×32×3, in batches of 32) and `batch` (4,096 images) the work is an epoch of the experiment's CNN;
of `width` that of an MLP with two hidden layers, on 1,024 images; of `lanes` that of so many runs
of `configs/digits.py` in one `vmap`ped program; of `devices` that of the CNN with batches of 256,
on virtual devices where there is a CPU only; of `trials` a whole study by the Python API, an epoch
on digits each. The first time compiles and is told apart (a study's is the only one). Memory is the
most that the process has used, or the largest of its workers, beyond what it had before the work;
on an accelerator the device's.
Reported: median seconds, memory, and slopes in logarithms over the first and the last half of the
values: 0 is constant, 1 in proportion.
"""

import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import cli, figures
from experiments.benchmarks.epochs import random_images, regjax_epoch
from regjax import config as config_lib
from regjax import drawing
from regjax.config import (
    Config,
    DataConfig,
    ModelConfig,
    ParallelConfig,
    SearchConfig,
    StoppingConfig,
    StudyConfig,
)
from regjax.sweeps import Range

Work = Callable[[], Any]


def cnn(images: int, folder: str, batch: int = 32, devices: int = 0) -> Work:
    """An epoch of the experiment's CNN."""
    return epoch(images, folder, ModelConfig("cnn", norm="batch"), batch, devices)


def mlp(width: int, folder: str) -> Work:
    """An epoch of an MLP."""
    return epoch(1024, folder, ModelConfig("mlp", widths=(width, width)))


def epoch(images: int, folder: str, model: ModelConfig, batch: int = 32, devices: int = 0) -> Work:
    """An epoch of training on random images, on one device or on so many."""
    name = f"npz:{random_images(images, folder)}"
    config = Config(
        batch_size=batch,
        data=DataConfig(name, train=-1, valid=0, select=0, test=0),
        model=model,
        parallel=ParallelConfig("jit" if devices else "single", devices),
        stopping=StoppingConfig("never", monitor="train_loss", mode="min"),
    )
    return regjax_epoch(config_lib.check(config))


def lanes(width: int, folder: str) -> Work:
    """An epoch of so many lanes."""
    from experiments.lanes import over_seeds
    from regjax.studies.lanes import Job
    from regjax.studies.shared import Shared
    from regjax.studies.vectorized import Vectorized

    del folder
    many = Vectorized(Shared(), width)
    endless = {"epochs": 10**6, "stopping.patience": 10**6}
    for run in over_seeds(config_lib.load("configs/digits.py"), range(width), [endless]):
        many.start(Job(config_lib.check(run), ()))
    return many.epoch


def trials(count: int, folder: str) -> Work:
    """A study of so many trials, with nothing confirmed."""
    import regjax

    config = StudyConfig(
        epochs=1,
        data=DataConfig("digits", train=300, valid=300, select=500, test=697),
        model=ModelConfig("mlp", widths=(32,)),
        study=SearchConfig(
            ranges={"optimizer.learning_rate": Range(1e-4, 1e-1, log=True)},
            protocol="optuna",
            trials=count,
            confirm=0,
        ),
    )
    return lambda: regjax.study(config, f"{folder}/study")


class Axis(NamedTuple):
    """What is changed, and how often it is measured; `once`: the first time is what counts."""

    values: Sequence[int]
    make: Callable[[int, str], Work]
    once: bool = False


AXES = {
    "images": Axis([250, 500, 1000, 2000, 4000, 8000, 16000], cnn),
    "batch": Axis([8, 16, 32, 64, 128, 256, 512], lambda n, folder: cnn(4096, folder, n)),
    "width": Axis([32, 64, 128, 256, 512, 1024, 2048], mlp),
    "lanes": Axis([1, 4, 16, 64, 256], lanes),
    "trials": Axis([10, 30, 100, 300, 1000], trials, once=True),
    "devices": Axis([1, 2, 4, 8], lambda n, folder: cnn(4096, folder, 256, n)),
}

_AXES = flags.DEFINE_list("axes", list(AXES), "what is changed")
_REPEATS = flags.DEFINE_integer("repeats", 5, "times of each", lower_bound=1)
_PLOT = flags.DEFINE_string("plot", "", "also draw them into this PNG file")
_OUT = flags.DEFINE_string("out", "", "also write the figures to this JSON file")


def measured(name: str, value: int, repeats: int) -> dict[str, Any]:
    """A point: seconds of the first time and the others' median, and MiB."""
    import jax

    axis = AXES[name]
    if name == "devices":
        jax.config.update("jax_num_cpu_devices", value)
        if len(jax.devices()) < value:
            raise SystemExit(f"devices: {value} of {len(jax.devices())}; give other --axes")
    with tempfile.TemporaryDirectory() as folder:
        before = used()
        work, seconds = axis.make(value, folder), []
        for _ in range(1 if axis.once else 1 + repeats):
            started = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - started)
    return {
        "value": value,
        "first": seconds[0],
        "seconds": statistics.median(seconds[1:] or seconds),
        "mebibytes": (used() - before) / 2**20,
    }


def used() -> int:
    """The most bytes so far, of this process or the largest that it has started."""
    from regjax.watch import performance

    children = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(performance.memory_bytes() or 0, children)


def slopes(points: list[dict[str, Any]], what: str) -> list[float]:
    """Of the logarithms, over the first and the last half of the points, which share the middle.

    >>> points = [{"value": n, "seconds": n * max(n, 8.0)} for n in (2, 4, 8, 16, 32)]
    >>> [round(slope, 6) for slope in slopes(points, "seconds")]
    [1.0, 2.0]
    """
    middle = len(points) // 2
    halves = points[: middle + 1], points[middle:]
    return [
        float(np.polyfit(np.log([p["value"] for p in half]), np.log([p[what] for p in half]), 1)[0])
        for half in halves
        if len(half) > 1
    ]


def draw(figure: Figure, found: dict[str, Any]) -> None:
    """Seconds above, memory below, a column for each axis."""
    figure.set_size_inches(2.6 * len(found), 5)
    panels = figure.subplots(2, len(found), squeeze=False)
    for column, (name, of_axis) in zip(panels.T, found.items(), strict=True):
        for axes, what in zip(column, ("seconds", "mebibytes"), strict=True):
            curve(axes, of_axis["points"], what)
        column[1].set(xlabel=name)
    panels[0, 0].set(ylabel="seconds, an epoch or a study")
    panels[1, 0].set(ylabel="memory / MiB")


def curve(axes: Axes, points: list[dict[str, Any]], what: str) -> None:
    """One of the two along one axis, and what would be in proportion from the last point back."""
    along, measures = ([point[name] for point in points] for name in ("value", what))
    axes.loglog(along, measures, "o-", color=drawing.COLOURS[0], ms=4)
    ratio = np.array(along) / along[-1]
    axes.loglog(along, measures[-1] * ratio, ":", color="#888888")
    axes.set_ylim(min(measures) / 2, 2 * max(measures))
    axes.set_xticks(along[::2], labels=[f"{value:,}" for value in along[::2]], minor=False)
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(ticker.NullLocator())
    axes.set_title("slopes " + ", ".join(f"{slope:.2f}" for slope in slopes(points, what)))


def main(values: flags.FlagValues) -> None:
    """Measures and prints."""
    context = multiprocessing.get_context("spawn")
    found: dict[str, Any] = {}
    for name in _AXES.value:
        points = []
        for value in AXES[name].values:
            with context.Pool(1) as process:
                points.append(process.apply(measured, (name, value, _REPEATS.value)))
            print(name, json.dumps(points[-1]), flush=True)
        found[name] = {
            "points": points,
            "slopes": {what: slopes(points, what) for what in ("seconds", "mebibytes")},
        }
        print(name, "slopes", json.dumps(found[name]["slopes"]), flush=True)
    if _PLOT.value:
        Path(_PLOT.value).write_bytes(figures.render(lambda figure: draw(figure, found)))
    if _OUT.value:
        machine = cli.machine()
        Path(_OUT.value).write_text(json.dumps({"machine": machine, **found}, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
