"""What the transformations share: strengths that may be schedules, masks by path."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from regjax import trees

PyTree = Any
Number = jax.Array | float
# A number, a traced array, or a function of the number of updates done.
Strength = Number | Callable[[jax.Array], Number]


class Count(NamedTuple):
    """How many updates were done."""

    count: jax.Array


def start(params: PyTree = None) -> Count:
    """The state before the first update.

    >>> start()
    Count(count=Array(0, dtype=int32))
    """
    del params
    return Count(jnp.zeros((), jnp.int32))


def value(strength: Strength, count: jax.Array) -> Any:
    """The strength at a count.

    >>> value(lambda count: 2 * count, jnp.int32(3))
    Array(6, dtype=int32)
    """
    return strength(count) if callable(strength) else strength


def check_given(params: PyTree, step: str) -> None:
    """Raises unless a step that needs the parameters was given them.

    >>> check_given(None, "an average")
    Traceback (most recent call last):
    ...
    ValueError: an average needs the parameters: tx.update(grads, state, params)
    """
    if params is None:
        raise ValueError(f"{step} needs the parameters: tx.update(grads, state, params)")


def masked(tx: optax.GradientTransformation, mask: trees.Rule) -> optax.GradientTransformation:
    """Applies a transformation to the parameters whose path matches a rule.

    The rule is a name (`kernels`, `all`), globs joined by commas, or a test of the path. At `init`
    a rule that matches nothing is refused.

    >>> tx = masked(optax.scale(2.0), "*/kernel")
    >>> grads = {"dense": {"kernel": 1.0, "bias": 1.0}}
    >>> tx.update(grads, tx.init(grads))[0]
    {'dense': {'bias': 1.0, 'kernel': 2.0}}
    """
    inner = optax.masked(tx, lambda tree: trees.mask(tree, mask))

    def init(params: PyTree) -> Any:
        if jax.tree.leaves(params) and not trees.names(params, mask):
            paths = ", ".join(trees.names(params))
            raise ValueError(f"mask {mask!r} matches no parameter; the paths are {paths}")
        return inner.init(params)

    return optax.GradientTransformationExtraArgs(init, inner.update)
