"""How long an epoch takes, in regjax and in PyTorch, Flax and Keras.

python -m experiments.benchmarks.epoch [--repeats=10] [--config=configs/mnist_1000.py]
    [--peers=eager,compiled,graphs,flax,flax_scan,keras] [--random_images=0]

Question: does an epoch of training and evaluation (of `configs/mnist_1000.py`: 1,000 images at
batch 32, 2,000 evaluated) take longer here than the same network, data, precision and optimizer
elsewhere? In PyTorch, `eager`, `compiled` (`torch.compile`) and `graphs` (the same with
mode="reduce-overhead": CUDA graphs); in Flax Linen, a compiled step in a Python loop (`flax`) or
under `lax.scan` (`flax_scan`), both without what does not fill a batch, as in its examples; in
Keras 3 on JAX (`keras`), by `fit` and `evaluate`.
Method: a process for each; they run an epoch in turn (A B C A B C ...), the others idle, all on the
GPU where there is one, with the data there and TF32 allowed. The first epoch of each (compilation,
warm-up) is told apart. Reported: the median of each, images per second, the share of the device's
peak (by the operations that XLA counts, for all of them; where the peak is known), and the median
and range of the ratios of neighbours.
"""

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from absl import flags
from matplotlib.figure import Figure

from experiments import cli, figures
from experiments.benchmarks.epochs import PEERS, random_images, regjax_epoch
from experiments.benchmarks.turns import Turns, compared, in_turn
from regjax import config as config_lib

_CONFIG = flags.DEFINE_string("config", "configs/mnist_1000.py", "a config of a cnn or resnet")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "where TFDS keeps the prepared set")
_MANUAL_DIR = flags.DEFINE_string("manual_dir", "", "original files, to prepare it from")
_RANDOM = flags.DEFINE_integer("random_images", 0, "so many of 32×32×3, in place of the data")
_PEERS = flags.DEFINE_list("peers", ["eager"], f"of {', '.join(PEERS)}")
_REPEATS = flags.DEFINE_integer("repeats", 10, "epochs of each", lower_bound=1)
_PLOT = flags.DEFINE_string("plot", "", "also draw the seconds into this PNG file")
_OUT = flags.DEFINE_string("out", "", "also write the figures to this JSON file")


def draw(figure: Figure, turns: dict[str, Turns], images: int) -> None:
    """Every epoch's seconds, a row for each library."""
    axes = figure.subplots()
    figures.bars(axes, {name: turn.seconds for name, turn in turns.items()})
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel(f"seconds an epoch ({images:,} images, trained and evaluated)")


def main(values: flags.FlagValues) -> None:
    """Measures and prints."""
    config = config_lib.load(_CONFIG.value)
    config.data.data_dir, config.data.manual_dir = _DATA_DIR.value, _MANUAL_DIR.value
    makes: dict[str, Any] = {"regjax": regjax_epoch} | {name: PEERS[name] for name in _PEERS.value}
    with tempfile.TemporaryDirectory() as folder:
        if _RANDOM.value:
            config.data.name = f"npz:{random_images(_RANDOM.value, folder)}"
        turns = in_turn(makes, config_lib.check(config), _REPEATS.value)
    about = turns["regjax"].result
    found: dict[str, Any] = {
        "machine": cli.machine(),
        "config": _CONFIG.value,
        **about,
    }
    for name, turn in turns.items():
        seconds = statistics.median(turn.seconds)
        found[name] = {
            "first": turn.first,
            "seconds": seconds,
            "images/s": about["images"] / seconds,
        }
        if about["peak"] and about["operations"]:
            found[name]["peak_share"] = about["operations"] / seconds / about["peak"]
        if name != "regjax":
            against = compared(turns, "regjax", name)
            found[name] |= {key: against[key] for key in ("ratio", "ratio_range")}
            found[name] |= turn.result
    print(json.dumps(found, indent=2))
    if _PLOT.value:
        drawn = figures.render(lambda figure: draw(figure, turns, about["images"]))
        Path(_PLOT.value).write_bytes(drawn)
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
