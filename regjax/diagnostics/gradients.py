"""Sizes of gradients, by parameter: of a batch, and of each example."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from regjax import trees
from regjax.dtypes import widen

PyTree = Any


def gradient_norms(grads: PyTree, layers: Iterable[str] = ()) -> OrderedDict[str, jax.Array]:
    """Returns ‖g‖₂ of every leaf by its path.

    Args:
      grads: a tree, as `jax.grad` gives it; of parameters it gives the norms of these.
      layers: names of layers in order of depth, as `list(activations(...))`: their leaves come
        first, in this order. A tree alone is ordered by the alphabet.

    >>> dict(gradient_norms({"b": jnp.array([3.0, 4.0]), "a": jnp.zeros(2)}, ["b"]))
    {'b': Array(5., dtype=float32), 'a': Array(0., dtype=float32)}
    """
    leaves = trees.named(grads).items()
    norms = {name: jnp.linalg.norm(widen(leaf).reshape(-1)) for name, leaf in leaves}
    order = [n for layer in layers for n in norms if n == layer or n.startswith(f"{layer}/")]
    return OrderedDict((name, norms[name]) for name in dict.fromkeys([*order, *norms]))


def example_gradient_norms(
    loss: Callable[..., jax.Array], params: PyTree, *batch: jax.Array, chunk: int = 16
) -> OrderedDict[str, jax.Array]:
    """Returns the norm of each example's own gradient, `(N,)` for every leaf by its path.

    Args:
      loss: `loss(params, *example) -> scalar`; arrays without their first axis.
      params: parameters.
      *batch: arrays `(N, ...)`.
      chunk: how many examples' gradients are in memory at a time, static.

    >>> loss = lambda w, x: (w * x).sum()
    >>> example_gradient_norms(loss, jnp.ones(2), jnp.array([[3.0, 4.0], [0.0, 1.0]]))[""]
    Array([5., 1.], dtype=float32)
    """

    def one(example: tuple[jax.Array, ...]) -> OrderedDict[str, jax.Array]:
        return gradient_norms(jax.grad(loss)(params, *example))

    return jax.lax.map(one, batch, batch_size=chunk)


def first_to_last(norms: Mapping[str, jax.Array]) -> jax.Array:
    """Norm of the first kernel over that of the last: ≪ 1 where gradients vanish with depth.

    Args:
      norms: of `gradient_norms`, in order of depth; of kernels, or if there are none of all.

    >>> first_to_last({"a/kernel": 1.0, "a/bias": 5.0, "b/kernel": 4.0})
    0.25
    """
    kernels = [norm for name, norm in norms.items() if trees.is_kernel(name)]
    chosen = kernels or list(norms.values())
    return chosen[0] / chosen[-1]
