"""Internal covariate shift: how much the layers before change what a layer has to do."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from regjax import trees

PyTree = Any


class GradientShift(NamedTuple):
    """Of a layer's gradient, as the layers before it are updated.

    Attributes:
      distance: ‖G − G'‖₂.
      cosine: of the angle between G and G'; 1 without a shift, NaN where one of them is 0.
      norm: ‖G‖₂.
    """

    distance: jax.Array
    cosine: jax.Array
    norm: jax.Array


class MomentShift(NamedTuple):
    """Of a layer's input, mean over its units.

    Attributes:
      mean: |μ' − μ| / σ.
      std: |log(σ' / σ)|.
    """

    mean: jax.Array
    std: jax.Array


def covariate_shift(
    loss: Callable[[PyTree], jax.Array], before: PyTree, after: PyTree, layers: Sequence[str]
) -> OrderedDict[str, GradientShift]:
    """Internal covariate shift of every layer (Santurkar et al. 2018, definition 2.1).

    G is the gradient for layer i at `before`, G' the same after the layers 1 … i − 1, and they
    alone, have moved to `after`. The first layer has none.

    Args:
      loss: `loss(params) -> scalar` of the batch whose update it was.
      before, after: parameters before the update and after it.
      layers: paths in order of depth. A leaf is of the longest path that it is under, and stays as
        before if it is under none.

    Raises:
      ValueError: a path without a leaf.

    >>> loss = lambda w: (w["a"] * w["b"]) ** 2 / 2
    >>> shift = covariate_shift(loss, {"a": 1.0, "b": 1.0}, {"a": 0.5, "b": 2.0}, ["a", "b"])
    >>> {name: float(s.distance) for name, s in shift.items()}  # of b: 1 · 1² − 1 · .5²
    {'a': 0.0, 'b': 0.75}
    """
    leaves, treedef = jax.tree.flatten(before)
    later = treedef.flatten_up_to(after)
    layer_of = _layer_of(trees.names(before), layers)
    gradient = jax.grad(lambda leaves: loss(treedef.unflatten(leaves)))

    def moved(number: jax.Array) -> list[jax.Array]:
        """All gradients, with the layers before this one updated."""
        pairs = zip(leaves, later, layer_of, strict=True)
        now = [
            a if i is None else jnp.where(i < number, b, a).astype(jnp.asarray(a).dtype)
            for a, b, i in pairs
        ]
        return gradient(now)

    plain = gradient([jnp.asarray(leaf) for leaf in leaves])

    def one(number: jax.Array) -> GradientShift:
        own = jnp.array([-1 if i is None else i for i in layer_of]) == number
        now = [jnp.where(number > 0, b, a) for a, b in zip(plain, moved(number), strict=True)]
        pairs = list(zip(plain, now, own, strict=True))
        shifted = _dot([(mine * (a - b), a - b) for a, b, mine in pairs])
        old = _dot([(mine * a, a) for a, _, mine in pairs])
        new = _dot([(mine * b, b) for _, b, mine in pairs])
        both = _dot([(mine * a, b) for a, b, mine in pairs])
        lengths = jnp.sqrt(old) * jnp.sqrt(new)  # of the product itself 1e-40 would be left
        return GradientShift(jnp.sqrt(shifted), both / lengths, jnp.sqrt(old))

    found = jax.lax.map(one, jnp.arange(len(layers)))
    return OrderedDict(
        (layer, jax.tree.map(lambda x, i=i: x[i], found)) for i, layer in enumerate(layers)
    )


def moment_shift(before: jax.Array, after: jax.Array) -> MomentShift:
    """How far the moments of a layer's input have moved, in its own standard deviations.

    Units that do not vary are left out.

    Args:
      before, after: `(..., U)`, what the layer is given, as `layer_inputs` has it.

    >>> moment_shift(jnp.array([[0.0], [2.0]]), jnp.array([[3.0], [5.0]])).mean
    Array(3., dtype=float32)
    """
    axes = tuple(range(before.ndim - 1))
    old, new = before.std(axes), after.std(axes)
    varies = (old > 0) & (new > 0)
    count = varies.sum()
    safe_old, safe_new = jnp.where(varies, old, 1), jnp.where(varies, new, 1)
    mean = jnp.abs(after.mean(axes) - before.mean(axes)) / safe_old
    std = jnp.abs(jnp.log(safe_new / safe_old))
    return MomentShift(*(jnp.where(varies, x, 0).sum() / count for x in (mean, std)))


def _layer_of(names: list[str], layers: Sequence[str]) -> list[int | None]:
    """The number of each leaf's layer."""
    found: list[int | None] = [None] * len(names)
    for number, layer in sorted(enumerate(layers), key=lambda pair: len(pair[1])):
        for i, name in enumerate(names):
            if name == layer or name.startswith(f"{layer}/"):
                found[i] = number
    if missing := [layer for number, layer in enumerate(layers) if number not in found]:
        raise ValueError(f"no parameter is under '{missing[0]}'; there are {', '.join(names)}")
    return found


def _dot(pairs: list[tuple[jax.Array, jax.Array]]) -> jax.Array:
    return sum(((a * b).sum() for a, b in pairs), start=jnp.zeros(()))
