"""The layers of a network, as far as one can see them: their parameters, their units."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from regjax import diagnostics, trees
from regjax.config import ModelConfig
from regjax.network import Network
from regjax.normalization import reparametrization

PyTree = Any
ROWS = 8192  # values of a unit that ranks are of, as of a map every place is one
MANY = 1024  # units up to which each is compared with each
RANGES = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}
NEAR_AN_END = 0.015  # share of the range: |tanh| ≥ .97


class Seen(NamedTuple):
    """What layers are given and put out, by their paths in the order of the calls."""

    given: dict[str, jax.Array]
    output: dict[str, jax.Array]


def seen(network: Network, params: PyTree, statistics: PyTree, inputs: jax.Array) -> Seen:
    """Returns what the layers of a network see, in inference, in float32."""
    config = network.config
    params, statistics = reparametrization.effective(
        config.kernels, params, statistics, False, config.kernels_mask
    )
    rest = {k: v for k, v in statistics.items() if k != reparametrization.SPECTRAL}
    look = {"module": network.module, "variables": {"params": params, **rest}, "train": False}
    given = diagnostics.layer_inputs(x=inputs, **look)
    return Seen(given, diagnostics.activations(x=inputs, **look))


def owners(params: PyTree, calls: list[str]) -> list[str]:
    """The paths right above the parameters, in order of depth; of those at the root, their own.

    A layer that was not seen, as it is called in a loop, comes after those beside it.

    >>> owners({"b": {"kernel": 1}, "a": {"kernel": 1, "bias": 1}, "token": 1}, ["b", "a"])
    ['token', 'b', 'a']
    """
    found = dict.fromkeys(name.rpartition("/")[0] or name for name in trees.names(params))

    def depth(name: str) -> int:
        while name:
            if name in calls:
                return calls.index(name)
            name = name.rpartition("/")[0]
        return -1

    return sorted(found, key=depth)


def units(
    network: Network, params: PyTree, statistics: PyTree, inputs: jax.Array
) -> dict[str, dict[str, Any]]:
    """Diagnostics of each layer's units: of what it is given, and of what it puts out.

    `saturated` is there where what a kernel is given comes from an activation with two ends.
    """
    look = partial(seen, network)
    shapes = jax.eval_shape(look, params, statistics, inputs)
    kernels = {name.rpartition("/")[0] for name in trees.names(params, "kernels")}
    first = next((name for name in shapes.given if name in kernels), None)
    names = [
        name
        for name, given in shapes.given.items()
        if name in shapes.output and hasattr(given, "shape") and given.ndim > 1
    ]

    def measure(params: PyTree, statistics: PyTree, inputs: jax.Array) -> dict[str, Any]:
        given, output = look(params, statistics, inputs)
        found = {}
        for name in names:
            hidden = name in kernels and name != first
            ends = _ends(network.config, name) if hidden else None
            found[name] = {**_of_given(given[name], ends), "output": _moments(output[name])}
        return found

    found = jax.jit(measure)(params, statistics, inputs)
    return {name: {"units": shapes.given[name].shape[-1], **found[name]} for name in names}


def _moments(h: jax.Array) -> dict[str, jax.Array]:
    return diagnostics.statistics(h)._asdict()


def _of_given(h: jax.Array, ends: tuple[float, float] | None) -> dict[str, Any]:
    rows = h.reshape(-1, h.shape[-1])
    rows = rows[:: -(-len(rows) // ROWS)]
    found = {
        "given": _moments(h),
        "dead_units": diagnostics.dead_units(jnp.abs(h)).sum(),
        "effective_rank": diagnostics.effective_rank(rows),
        "numerical_rank": diagnostics.numerical_rank(rows),
    }
    if h.shape[-1] <= MANY:
        found["distinct_units"] = diagnostics.distinct_units(rows)
    if ends:
        low, high = ends
        share = diagnostics.saturation(h, low, high, NEAR_AN_END * (high - low))
        inside = (h >= low).all() & (h <= high).all()  # else it comes from something else
        found["saturated"] = jnp.where(inside, share, jnp.nan)
    return found


def _ends(config: ModelConfig, name: str) -> tuple[float, float] | None:
    """The range of the activation before a layer, if that has two ends."""
    if config.name == "rnn":  # of a GRU and an LSTM the hidden state is of tanh
        return RANGES.get(config.activation if config.cell == "elman" else "tanh")
    if config.name == "vit" and not name.endswith("/dense_1"):
        return None  # given the sum of branches, its norm, or values that attention averages
    if config.name == "cnn":
        return RANGES["sigmoid"] if name == "head" else None
    if config.name.startswith("file:"):
        return None
    return RANGES.get(config.activation)
