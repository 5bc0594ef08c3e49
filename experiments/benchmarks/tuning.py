"""What each tuning of an epoch gives on a CPU: the epoch with one of them undone, against all.

python -m experiments.benchmarks.tuning [--repeats=7] [--config=configs/mnist_1000.py]
    [--undo=winograd,...] [--data_dir=] [--manual_dir=] [--out=FILE] [--plot=FILE]

Question: an epoch of the experiment's CNN (`configs/mnist_1000.py`: 1,000 images at batch 32 in one
program, 2,000 evaluated) is tuned in several ways; what should each have given, and what does it?
Method: first a profile of the training as it is, by layer (the share of the time that threads spend
in its operations). Then a process for each tuning undone; they take turns with the epoch as it is
(A B C A B C ...), the others idle. Reported: the median and range of the ratios of neighbours, of
the whole epoch: 1.2 says that without this tuning an epoch takes a fifth longer. `SHOULD` is what
was expected of each, by arithmetic on operations, bytes and the profile, with its reason. And the
share of the rate of a large matrix product, measured in the same turns, that training reaches by
the operations of the plain convolutions (which Winograd's way needs fewer of).
"""

import collections
import glob
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from absl import flags
from matplotlib.figure import Figure

from experiments import cli, figures
from experiments.benchmarks.turns import compared, in_turn
from regjax import config as config_lib
from regjax.config import Config

_CONFIG = flags.DEFINE_string("config", "configs/mnist_1000.py", "a config of a cnn")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "where TFDS keeps the prepared set")
_MANUAL_DIR = flags.DEFINE_string("manual_dir", "", "original files, to prepare it from")
_UNDO = flags.DEFINE_list("undo", [], "which tunings; default: all")
_REPEATS = flags.DEFINE_integer("repeats", 7, "epochs of each", lower_bound=1)
_PLOT = flags.DEFINE_string("plot", "", "also draw the ratios into this PNG file")
_OUT = flags.DEFINE_string("out", "", "also write the figures to this JSON file")

SIDE = 2048  # of the matrices whose product is the machine's rate
# Multiply-adds of an image, forward, by layer: places · window · channels in · out.
PRODUCTS = {
    "conv_0": 28 * 28 * 9 * 32,
    "conv_1": 12 * 12 * 9 * 32 * 64,
    "conv_2": 4 * 4 * 9 * 64 * 64,
    "dense": 1024 * 64,
    "head": 64 * 10,
}

# What undoing a tuning should make of the epoch's time, and why.
SHOULD: dict[str, tuple[float, str]] = {
    "convolution": (
        12.0,
        "XLA's weight gradient in a loop is a naive loop nest: 6.5 s, as issue threads report",
    ),
    "winograd": (
        1.4,
        "4 times the multiplications, in products that are half of an epoch; no maps, a tenth",
    ),
    "norm": (
        1.2,
        "a norm's backward pass takes three times as long; the norms' own are a tenth of an epoch",
    ),
    "sums": (1.1, "XLA's sums over 800,000 values compute their input anew, four times a norm"),
    "pooled first": (
        1.1,
        "a norm's output and half of its gradient are then of 4 times the values; its passes are a "
        "sixth of an epoch",
    ),
    "pool": (
        1.4,
        "XLA's gradient of a window's maximum goes place by place: 5 ns for each of 1.1M",
    ),
    "once": (1.2, "what norms and tiles read is computed in each of 4 to 16 readers, not once"),
    "chunks": (
        1.25,
        "1,000 images have 100 MB of maps, 64 have 6: evaluation at the cache's speed",
    ),
    "one program": (1.02, "32 calls a fifth of a millisecond each"),
    "donation": (1.0, "1.5 MB of state is copied once an epoch"),
    "by leaf": (
        1.0,
        "flattened, Adam moves the same 3.4 MB a step in one loop of 14, saving 13 starts of 5 µs",
    ),
}


def _undo(name: str) -> None:
    """Takes one tuning out of this process's regjax."""
    import flax.linen as nn
    import optax
    from jax import lax

    from regjax import compiling, optimizer, state, step, winograd
    from regjax.models import cnn, layers
    from regjax.normalization import batch, core, standardize
    from regjax.parallel import Parallel

    def plain_norm(
        x: Any, axes: Any, scale: Any, bias: Any, mask: Any, epsilon: Any, pool: Any
    ) -> Any:
        stats = core.statistics(x, axes, mask)
        y = (x - stats.mean) * lax.rsqrt(stats.variance + epsilon) * scale + bias
        return core.picked(y, pool), stats

    def pooled_last(*arguments: Any) -> Any:
        y, stats = standardize.standardize(*arguments[:-1])
        return core.picked(y, arguments[-1]), stats

    def window_maximum(x: Any) -> Any:
        return nn.max_pool(x, (2, 2), (2, 2))

    def flat(*arguments: Any) -> Any:
        return optax.with_extra_args_support(optax.flatten(made(*arguments)))

    def undonated(
        self: Any, function: Any, out: Any = None, donate: Any = (), options: Any = None
    ) -> Any:
        del donate
        return jit(self, function, out, options=options)

    made, jit = optimizer.make_optimizer, Parallel.jit
    changes: dict[str, list[tuple[Any, str, Any]]] = {
        "convolution": [(layers, "unmaterialized", lax.conv_general_dilated)],
        "winograd": [(winograd, "pays", lambda *_: False)],
        "norm": [(batch, "standardize", plain_norm)],
        "sums": [(standardize, "summed", core.total)],
        "pooled first": [(batch, "standardize", pooled_last)],
        "pool": [(cnn, "max_pool_2x2", window_maximum)],
        "once": [(compiling, "options", dict)],
        "chunks": [(step, "CACHED", 1000)],
        "donation": [(Parallel, "jit", undonated)],
        "by leaf": [(module, "make_optimizer", flat) for module in (state, step)],
    }
    for place, attribute, value in changes.get(name, []):
        assert hasattr(place, attribute), (place, attribute)
        setattr(place, attribute, value)


def epochs(undone: str, config: Config) -> Callable[[], float]:
    """regjax's epoch without one of its tunings; returns the median seconds of its training."""
    _undo(undone)
    import jax
    import numpy as np

    from regjax import assembly, feed

    if undone == "chunks":
        config = config_lib.with_setting(config, {"eval_batch_size": 1000})
    parts = assembly.assemble(config)
    fed = feed.resident(parts)
    train, valid = fed.whole, fed.held_out
    functions = parts.program()
    run = functions.init(*parts.start())
    steps = functions.steps(train)
    ends = range(1, steps + 1) if undone == "one program" else [steps]

    trained: list[float] = []

    def epoch() -> float:
        nonlocal run
        started, start = time.perf_counter(), 0
        for stop in ends:
            run = functions.train_steps(
                parts.strengths, run, train, np.int32(start), np.int32(stop)
            )
            start = stop
        jax.block_until_ready(run)
        trained.append(time.perf_counter() - started)
        run, _ = jax.block_until_ready(functions.finish(parts.strengths, run, train, valid))
        return statistics.median(trained[1:] or trained)  # the first compiled

    return epoch


def products(config: Config) -> Callable[[], float]:
    """A large product of matrices; returns the median operations a second."""
    del config
    import jax
    import jax.numpy as jnp

    a = jnp.ones((SIDE, SIDE))
    multiply = jax.jit(jnp.matmul)
    rates: list[float] = []

    def once() -> float:
        started = time.perf_counter()
        multiply(a, a).block_until_ready()
        rates.append(2 * SIDE**3 / (time.perf_counter() - started))
        return statistics.median(rates[1:] or rates)

    return once


def profile(config: Config) -> Callable[[], dict[str, float]]:
    """The share of each layer, forward and backward, in the time of training's operations."""
    import jax
    import numpy as np

    from regjax import assembly, feed

    parts = assembly.assemble(config)
    fed = feed.resident(parts)
    train, valid = fed.whole, fed.held_out
    functions = parts.program()
    run = functions.init(*parts.start())
    functions = functions.compiled(parts.strengths, run, train, valid)
    bounds = np.int32(0), np.int32(functions.steps(train))
    named = dict(
        re.findall(r"%([\w.\-]+) = [^\n]*?op_name=\"([^\"]*)\"", functions.train_steps.as_text())
    )

    def shares() -> dict[str, float]:
        nonlocal run
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                run = functions.train_steps(parts.strengths, run, train, *bounds)
                jax.block_until_ready(run)
            (file,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
            planes = jax.profiler.ProfileData.from_file(file).planes
            spent: collections.defaultdict[str, float] = collections.defaultdict(float)
            for plane in planes:
                for line in plane.lines:
                    for event in line.events:
                        if event.name in named and not event.name.startswith("while"):
                            spent[_layer(named[event.name])] += event.duration_ns
        total = sum(spent.values())
        return {name: spent[name] / total for name in sorted(spent, key=spent.__getitem__)[::-1]}

    return shares


def _layer(operation: str) -> str:
    """Of which layer an operation is, and on which way: "…/transpose(jvp(CNN))/conv_1/…"."""
    layer = re.search(r"(conv|norm)_\d|dense|head", operation)
    way = "backward" if "transpose(jvp" in operation else "forward"
    if layer:
        return f"{layer[0]} {way}"
    return f"pooling and activations {way}" if "CNN" in operation else "loss, optimizer, data"


def draw(figure: Figure, ratios: dict[str, list[float]]) -> None:
    """Every ratio to the epoch as it is beside what was expected, a row for each tuning."""
    axes = figure.subplots()
    figures.bars(axes, ratios)
    for place, name in enumerate(ratios):
        label = "expected" if place == 0 else None
        axes.plot([SHOULD[name][0]], [place], "|", color="0.3", ms=14, mew=2, label=label)
    axes.set_xscale("log")
    axes.set_xticks([0.8, 1, 1.2, 1.5, 2, 4, 8, 16], minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("an epoch without it, in the time of one with all")
    axes.legend(loc="lower right")


def main(values: flags.FlagValues) -> None:
    """Measures and prints."""
    config = config_lib.load(_CONFIG.value)
    config.data.data_dir, config.data.manual_dir = _DATA_DIR.value, _MANUAL_DIR.value
    config = config_lib.check(config)
    assert config.model.name == "cnn", "the tunings are counted for the cnn"
    names = _UNDO.value or list(SHOULD)
    makes: dict[str, Any] = {"as it is": partial(epochs, ""), "product": products}
    makes |= {name: partial(epochs, name) for name in names}
    (shares,) = in_turn({"profile": profile}, config, 1).values()
    turns = in_turn(makes, config, _REPEATS.value)

    trained, rate = turns["as it is"].result, turns["product"].result
    # The first layer's input has no gradient.
    operations = 2 * config.data.train * (3 * sum(PRODUCTS.values()) - PRODUCTS["conv_0"])
    found: dict[str, Any] = {
        "machine": cli.machine(),
        "config": _CONFIG.value,
        "seconds": statistics.median(turns["as it is"].seconds),
        "training": trained,
        "product": rate,
        "share of product": operations / trained / rate,
        "profile": shares.result,
        "undone": {},
    }
    for name in names:
        against = compared(turns, name, "as it is")
        should, why = SHOULD[name]
        found["undone"][name] = {
            "ratio": against["ratio"],
            "ratio_range": against["ratio_range"],
            "should": should,
            "why": why,
        }
    print(json.dumps(found, indent=2))
    if _PLOT.value:
        whole = turns["as it is"].seconds
        ratios = {
            name: [a / b for a, b in zip(turns[name].seconds, whole, strict=True)] for name in names
        }
        Path(_PLOT.value).write_bytes(figures.render(lambda figure: draw(figure, ratios)))
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
