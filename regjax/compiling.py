"""What XLA's CPU compiler is told: what to compute once, and what is not worth its time.

It computes what it takes for cheap anew inside every operation that uses it, such as the output of
a norm inside each of the 16 sums of a Winograd tile. JAX's word against that,
`jax.lax.optimization_barrier`, means nothing there by itself: it takes barriers out before it
fuses. With `options` it leaves them in.
"""

from typing import Any, TypeVar

import jax
from jax import lax

PyTree = TypeVar("PyTree")
Options = dict[str, Any] | None  # JAX's `compiler_options`


def materialized(tree: PyTree) -> PyTree:
    """Arrays that, on a CPU, are computed once for all who use them, if compiled with `options`.

    Without these it is the identity, as on other backends, whose compilers know better.

    >>> import jax.numpy as jnp
    >>> materialized(jnp.ones(2))
    Array([1., 1.], dtype=float32)
    """
    return lax.optimization_barrier(tree) if jax.default_backend() == "cpu" else tree


def options() -> Options:
    """Returns what to give `jax.jit` as `compiler_options`; JAX takes them on the outermost alone.

    None where the backend is no CPU.

    >>> import jax.numpy as jnp
    >>> jax.jit(materialized, compiler_options=options())(jnp.ones(2))
    Array([1., 1.], dtype=float32)
    """
    if jax.default_backend() != "cpu":
        return None
    return {"xla_disable_hlo_passes": "cse_barrier_expander"}


def options_for_one_run() -> Options:
    """The same for a program that is run once: compiled in a third of the time, with the same bits.

    Random numbers are what LLVM takes long for: the start of a small network's run four seconds.

    >>> import jax.numpy as jnp
    >>> jax.jit(jnp.sin, compiler_options=options_for_one_run())(jnp.zeros(1))
    Array([0.], dtype=float32)
    """
    return {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
