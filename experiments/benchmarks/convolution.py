"""A convolution with its gradients inside a loop: regjax, `lax` and PyTorch, on a CPU.

python -m experiments.benchmarks.convolution [--repeats=3] [--ways=patches,...] [--shapes=]

Question: is `regjax.convolution` inside `lax.scan` ever slower than `lax`'s own, and how does it
compare with PyTorch, over layers from LeNet to ResNet-50 and others of their kind?
Method: each layer's output, and the gradients of its input and kernel, several times over with
other numbers, in one `scan`, or in a loop in PyTorch (NCHW, eager). A process for each way measures
all layers; the processes take turns. Reported: milliseconds a pass, the least of the repeats, and
over all layers the median and range of the ratios. The ways `patches`, `shifted` and `winograd` are
what `regjax` chooses from: how its rule was found.
"""

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from experiments import cli
from experiments.benchmarks.turns import in_turn

_REPEATS = flags.DEFINE_integer("repeats", 3, "measurements of each", lower_bound=1)
_WAYS = flags.DEFINE_list("ways", ["regjax", "lax", "torch"], "what is measured")
_SHAPES = flags.DEFINE_list("shapes", [], "names of layers; default: all")
_OUT = flags.DEFINE_string("out", "", "also write the figures to this JSON file")
PASSES = 4


class Layer(NamedTuple):
    """A convolution: batch, size of the input, channels in and out, window, stride, groups."""

    batch: int
    size: tuple[int, ...]
    channels: int
    out: int
    window: int
    stride: int = 1
    padding: int = 0
    groups: int = 1


LAYERS = {
    "lenet 1": Layer(32, (28, 28), 1, 6, 5, padding=2),
    "lenet 2": Layer(32, (14, 14), 6, 16, 5),
    "mnist 1": Layer(32, (28, 28), 1, 32, 3, padding=1),
    "mnist 2": Layer(32, (14, 14), 32, 64, 3),
    "mnist 3": Layer(32, (6, 6), 64, 64, 3),
    "cifar stem": Layer(32, (32, 32), 3, 16, 3, padding=1),
    "resnet20 1": Layer(32, (32, 32), 16, 16, 3, padding=1),
    "resnet20 2 down": Layer(32, (32, 32), 16, 32, 3, 2, 1),
    "resnet20 2": Layer(32, (16, 16), 32, 32, 3, padding=1),
    "resnet20 3 down": Layer(32, (16, 16), 32, 64, 3, 2, 1),
    "resnet20 3": Layer(32, (8, 8), 64, 64, 3, padding=1),
    "alexnet 2": Layer(4, (27, 27), 64, 192, 5, padding=2),
    "vgg 3": Layer(2, (56, 56), 128, 128, 3, padding=1),
    "resnet50 stem": Layer(4, (224, 224), 3, 64, 7, 2, 3),
    "resnet50 2 reduce": Layer(4, (56, 56), 256, 64, 1),
    "resnet50 2": Layer(4, (56, 56), 64, 64, 3, padding=1),
    "resnet50 3 shortcut": Layer(4, (56, 56), 256, 512, 1, 2),
    "resnet50 4": Layer(4, (14, 14), 256, 256, 3, padding=1),
    "resnet50 5": Layer(4, (7, 7), 512, 512, 3, padding=1),
    "resnext 3": Layer(4, (28, 28), 256, 256, 3, padding=1, groups=32),
    "mobilenet depthwise": Layer(8, (28, 28), 128, 128, 3, padding=1, groups=128),
    "audio 1-D": Layer(16, (512,), 32, 64, 9, padding=4),
    "video 3-D": Layer(2, (8, 28, 28), 16, 32, 3, padding=1),
}


def chosen() -> dict[str, Layer]:
    """The layers asked for."""
    return {name: layer for name, layer in LAYERS.items() if name in (_SHAPES.value or LAYERS)}


def jax_passes(layers: dict[str, Layer], way: str) -> Callable[[], dict[str, float]]:
    """Returns a function that measures every layer once: seconds a pass."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    from regjax import compiling

    def compiled(layer: Layer) -> Any:
        spatial = len(layer.size)
        window = (layer.window,) * spatial
        key = jax.random.key(0)
        x = jax.random.normal(key, (layer.batch, *layer.size, layer.channels))
        kernel = jax.random.normal(key, (*window, layer.channels // layer.groups, layer.out))
        convolution = jax_way(way, layer)

        def once(carry: jax.Array, scale: jax.Array) -> tuple[jax.Array, None]:
            y, pull = jax.vjp(convolution, x * scale, kernel)
            dx, dkernel = pull(y)
            return carry + dx.sum() + dkernel.sum(), None

        scales = 1 + 0.1 * jnp.arange(PASSES)
        run = jax.jit(
            lambda: lax.scan(once, jnp.zeros(()), scales)[0], compiler_options=compiling.options()
        )
        run().block_until_ready()
        return run

    runs = {name: compiled(layer) for name, layer in layers.items()}
    return partial(
        _timed, {name: lambda run=run: run().block_until_ready() for name, run in runs.items()}
    )


def jax_way(way: str, layer: Layer) -> Any:
    """The convolution of a layer by a way."""
    import jax

    from regjax import by_patches, convolution, winograd

    spatial = len(layer.size)
    geometry = by_patches.Geometry(
        (layer.stride,) * spatial,
        ((layer.padding, layer.padding),) * spatial,
        (1,) * spatial,
        (1,) * spatial,
        layer.groups,
    )
    if way == "lax":
        return geometry.lax
    if way == "regjax":
        return partial(convolution.convolution, geometry)
    if way == "shifted":
        return partial(by_patches.shifted_sum, geometry=geometry)

    @jax.custom_vjp
    def function(x: Any, kernel: Any) -> Any:
        return geometry.lax(x, kernel)

    forward = winograd.forward if way == "winograd" else by_patches.forward
    function.defvjp(partial(forward, geometry=geometry), lambda pull, dy: pull(dy))
    return function


def torch_passes(layers: dict[str, Layer]) -> Callable[[], dict[str, float]]:
    """Returns the same for PyTorch."""
    import torch

    def compiled(layer: Layer) -> Any:
        function = getattr(torch.nn.functional, f"conv{len(layer.size)}d")
        window = (layer.window,) * len(layer.size)
        x = torch.randn(layer.batch, layer.channels, *layer.size)
        kernel = torch.randn(layer.out, layer.channels // layer.groups, *window, requires_grad=True)

        def run() -> float:
            total = 0.0
            for i in range(PASSES):
                scaled = (x * (1 + 0.1 * i)).requires_grad_()
                y = function(scaled, kernel, None, layer.stride, layer.padding, 1, layer.groups)
                dx, dkernel = torch.autograd.grad(y, (scaled, kernel), y.detach())
                total += float(dx.sum() + dkernel.sum())
            return total

        run()
        return run

    return partial(_timed, {name: compiled(layer) for name, layer in layers.items()})


def _timed(runs: dict[str, Callable[[], Any]]) -> dict[str, float]:
    seconds = {}
    for name, run in runs.items():
        started = time.perf_counter()
        run()
        seconds[name] = (time.perf_counter() - started) / PASSES
    return seconds


def applies(way: str, layer: Layer) -> bool:
    """Whether a way can do a layer."""
    if way == "shifted":  # a term for each channel
        return layer.channels // layer.groups <= 8
    plain = 3 <= layer.window <= 5 and layer.stride == layer.groups == 1
    return way != "winograd" or plain


def measured(way: str) -> Any:
    """Something for `in_turn` that keeps the least of a layer's times."""
    return partial(_least, way=way)


def _least(layers: dict[str, Layer], way: str) -> Callable[[], dict[str, float]]:
    layers = {name: layer for name, layer in layers.items() if applies(way, layer)}
    once = torch_passes(layers) if way == "torch" else jax_passes(layers, way)
    least: dict[str, float] = {}

    def run() -> dict[str, float]:
        nonlocal least
        least = {name: min(s, least.get(name, np.inf)) for name, s in once().items()}
        return least

    return run


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in seconds.items()}


def main(values: flags.FlagValues) -> None:
    """Measures and prints."""
    ways = _WAYS.value
    turns = in_turn({way: measured(way) for way in ways}, chosen(), _REPEATS.value)
    seconds = {way: turns[way].result for way in ways}
    print(f"{'ms a pass':22}" + "".join(f"{way:>10}" for way in ways))
    for name in chosen():
        line = [1000 * seconds[way].get(name, np.nan) for way in ways]
        print(f"{name:22}" + "".join(f"{value:10.2f}" for value in line))
    figures: dict[str, Any] = {
        "machine": cli.machine(),
        "seconds a pass": {way: _rounded(seconds[way]) for way in ways},
    }
    for way in ways[1:]:
        ratios = [seconds[ways[0]][n] / s for n, s in seconds[way].items() if n in seconds[ways[0]]]
        figures[f"{ways[0]} of {way}"] = [statistics.median(ratios), min(ratios), max(ratios)]
        print(
            f"{ways[0]} of {way}: median {statistics.median(ratios):.3f}, "
            f"{min(ratios):.3f} to {max(ratios):.3f}"
        )
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
