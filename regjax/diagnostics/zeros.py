"""Sparsity: weights that are zero, units without a weight, inputs never used."""

from collections import OrderedDict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from regjax import trees
from regjax.penalties import parameters

PyTree = Any
Number = jax.Array | float


class Sparsity(NamedTuple):
    """Shares of zeros.

    Attributes:
      weights: of the weights.
      outputs: of the units, all of whose incoming weights are zero.
      inputs: of the input values (of a convolution at each place of its window), all of whose
        outgoing weights are.
    """

    weights: jax.Array
    outputs: jax.Array
    inputs: jax.Array


def sparsity(params: PyTree, mask: trees.Rule = "kernels", tolerance: Number = 0.0) -> Sparsity:
    """Returns the shares over all leaves of a mask; groups are those of `penalties.group_lasso`.

    Args:
      params: parameters.
      mask: a name in `trees.MASKS`, globs of paths, or a test of a path.
      tolerance: zero is |w| ≤ this, by default exactly zero.

    Raises:
      ValueError: a mask that matches nothing.

    >>> sparsity({"kernel": jnp.array([[0.0, 1.0], [0.0, 0.0]])})
    Sparsity(weights=Array(0.75, dtype=float32), outputs=Array(0.5, dtype=float32), \
inputs=Array(0.5, dtype=float32))
    """
    leaves = trees.select(params, mask)
    if not leaves:
        raise ValueError(
            f"no parameter matches {mask!r}; there are {', '.join(trees.names(params))}"
        )
    small = [parameters.as_matrix(jnp.abs(jnp.asarray(leaf)) <= tolerance) for leaf in leaves]
    outputs, inputs = (
        [m.all(axis=parameters.group_axis(groups)) for m in small]
        for groups in ("outputs", "inputs")
    )
    return Sparsity(_share(small), _share(outputs), _share(inputs))


def sparsity_by_path(
    params: PyTree, mask: trees.Rule = "kernels", tolerance: Number = 0.0
) -> OrderedDict[str, Sparsity]:
    """Returns `sparsity` of each leaf by its path.

    >>> [f"{s.weights:.2f}" for s in sparsity_by_path({"kernel": jnp.eye(2)}).values()]
    ['0.50']
    """
    leaves = trees.named(params, mask).items()
    return OrderedDict((name, sparsity(leaf, "all", tolerance)) for name, leaf in leaves)


def _share(zeros: list[jax.Array]) -> jax.Array:
    total = sum((z.sum(dtype=jnp.float32) for z in zeros), start=jnp.zeros((), jnp.float32))
    return total / sum(z.size for z in zeros)
