"""What XLA's CPU compiler is told: what to compute once, and what is not worth its time.

It computes what it takes for cheap anew inside every operation that uses it, such as the output of
a norm inside each of the 16 sums of a Winograd tile. JAX's word against that,
`jax.lax.optimization_barrier`, means nothing there by itself: it takes barriers out before it
fuses. With `options` it leaves them in.
"""

from functools import reduce
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

PyTree = TypeVar("PyTree")
Options = dict[str, Any] | None  # JAX's `compiler_options`

BLOCK = 16  # numbers that are summed in the loop that computes them


def materialized(tree: PyTree) -> PyTree:
    """Arrays that, on a CPU, are computed once for all who use them, if compiled with `options`.

    Without these it is the identity, as on other backends, whose compilers know better.

    >>> materialized(jnp.ones(2))
    Array([1., 1.], dtype=float32)
    """
    return lax.optimization_barrier(tree) if jax.default_backend() == "cpu" else tree


def in_blocks(x: jax.Array, axis: int) -> jax.Array:
    """Sums of up to 16 neighbours along an axis, for a sum over it to be of fewer terms.

    On a CPU they are added in the loop that computes x, which is so never written; XLA's own sum of
    many writes it first and reads it again. Elsewhere it is x.

    >>> in_blocks(jnp.ones((2, 32, 3)), 1).shape
    (2, 2, 3)
    """
    size = x.shape[axis]
    block = max(b for b in range(1, BLOCK + 1) if size % b == 0)
    if block == 1 or jax.default_backend() != "cpu":
        return x
    parts = x.reshape(*x.shape[:axis], size // block, block, *x.shape[axis + 1 :])
    terms = [lax.index_in_dim(parts, i, axis + 1, keepdims=False) for i in range(block)]
    while len(terms) > 1:  # as a tree: its rounding grows with the logarithm
        terms = [reduce(jnp.add, terms[i : i + 2]) for i in range(0, len(terms), 2)]
    return materialized(terms[0])


def options() -> Options:
    """Returns what to give `jax.jit` as `compiler_options`; JAX takes them on the outermost alone.

    None where the backend is no CPU.

    >>> jax.jit(materialized, compiler_options=options())(jnp.ones(2))
    Array([1., 1.], dtype=float32)
    """
    if jax.default_backend() != "cpu":
        return None
    return {"xla_disable_hlo_passes": "cse_barrier_expander"}


def options_for_one_run() -> Options:
    """The same for a program that is run once: compiled in a third of the time, with the same bits.

    Random numbers are what LLVM takes long for: the start of a small network's run four seconds.

    >>> jax.jit(jnp.sin, compiler_options=options_for_one_run())(jnp.zeros(1))
    Array([0.], dtype=float32)
    """
    return {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
