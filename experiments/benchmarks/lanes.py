"""How many more runs are trained in the same time when many are lanes of one program.

python -m experiments.benchmarks.lanes [--widths=1,4,16,64,256] [--config=configs/mnist_1000.py]
    [--torch_widths=1,4]

Question: how many epochs of a run (of the experiment: 1,000 images trained, 2,000 evaluated) are
done in a second with 1, 4, ... lanes in one `vmap`ped program, and what holds it back?
Method: every width is compiled, then some epochs of all its lanes are timed, host's work included;
the median counts. Each lane has its own seed and split. Beside it what the device's matrix products
do in float32 as they are by default (TF32 on a GPU), measured on 8192×8192. On a CPU lanes are
processes of their own, and this is of interest only as the reason why. With `--torch_widths` the
same of an ensemble under `torch.vmap`.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import flags

from experiments import cli
from experiments.benchmarks.epochs import ensemble_epoch
from experiments.lanes import over_seeds
from regjax import config as config_lib
from regjax.config import Config
from regjax.studies.lanes import Job
from regjax.studies.shared import Shared
from regjax.studies.vectorized import Vectorized
from regjax.watch import performance

_CONFIG = flags.DEFINE_string("config", "configs/mnist_1000.py", "the run")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "where TFDS keeps the prepared set")
_WIDTHS = flags.DEFINE_list("widths", ["1", "4", "16", "64", "256"], "numbers of lanes")
_TORCH = flags.DEFINE_list("torch_widths", [], "numbers of networks of torch.func")
_REPEATS = flags.DEFINE_integer("repeats", 5, "epochs of each", lower_bound=1)
_PLOT = flags.DEFINE_string("plot", "", "also draw the rates into this PNG file")
_OUT = flags.DEFINE_string("out", "", "also write the figures to this JSON file")


def measured(config: Config, width: int) -> dict[str, float]:
    """Seconds of compilation and of an epoch of all lanes, and lane-epochs a second."""
    many = Vectorized(Shared(), width)
    for run in over_seeds(config, range(many.width)):
        many.start(Job(run, ()))
    return timed(many.epoch, width)


def timed(advance: Callable[[], Any], width: int) -> dict[str, float]:
    """The same of anything that advances so many."""
    started = time.perf_counter()
    advance()
    first, seconds = time.perf_counter() - started, []
    for _ in range(_REPEATS.value):
        started = time.perf_counter()
        advance()
        seconds.append(time.perf_counter() - started)
    epoch = statistics.median(seconds)
    return {"lanes": width, "first": first, "epoch": epoch, "rate": width / epoch}


def product_rate(side: int) -> float:
    """Operations a second of a matrix product."""
    a = jax.random.normal(jax.random.key(0), (side, side))
    product = jax.jit(lambda a, b: a @ b / side)
    product(a, a).block_until_ready()
    started, times = time.perf_counter(), 20 if jax.default_backend() != "cpu" else 1
    b = a
    for _ in range(times):
        b = product(a, b)
    b.block_until_ready()
    return 2 * side**3 * times / (time.perf_counter() - started)


def draw(rows: list[dict[str, float]], path: str) -> None:
    """Lane-epochs a second by lanes, with what would be in proportion."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    widths = [row["lanes"] for row in rows]
    axes.loglog(widths, [row["rate"] for row in rows], marker="o", label="measured")
    axes.loglog(
        widths, [rows[0]["rate"] * w / widths[0] for w in widths], ":", label="in proportion"
    )
    axes.set(xlabel="lanes", ylabel="lane-epochs a second")
    axes.legend()
    figure.savefig(path, dpi=120)


def main(values: flags.FlagValues) -> None:
    """Measures and prints."""
    config = config_lib.load(_CONFIG.value)
    config.data.data_dir = _DATA_DIR.value
    config.epochs, config.stopping.patience = 10**6, 10**6
    config = config_lib.check(config)
    rows: list[dict[str, Any]] = []
    for width in map(int, _WIDTHS.value):
        rows.append(measured(config, width))
        print(json.dumps(rows[-1]), flush=True)
    peers = []
    for width in map(int, _TORCH.value):
        peers.append(timed(ensemble_epoch(config, width), width))
        print("torch", json.dumps(peers[-1]), flush=True)
    operations = performance.epoch_flops(Shared().assemble(config)) or 0.0
    figures = {
        "device": f"{jax.devices()[0].device_kind}, jax {jax.__version__}",
        "operations": operations,
        "product_rate": product_rate(8192),
        "achieved_rate": [row["rate"] * operations for row in rows],
        "times_one_lane": [row["rate"] / rows[0]["rate"] for row in rows],
        "rows": rows,
        "torch": peers,
    }
    print(json.dumps({k: v for k, v in figures.items() if k not in ("rows", "torch")}, indent=2))
    if _PLOT.value:
        draw(rows, _PLOT.value)
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
