"""What every function of a traced strength must be."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def one_program(
    function: Callable[[jax.Array], Any], strengths: jax.Array, rtol: float = 1e-6, atol: float = 0
) -> list[Any]:
    """Asserts one compiled program for all strengths, jit = eager, and vmap = loop.

    Returns what the function gives at each strength.
    """
    traces = []

    @jax.jit
    def compiled(strength: jax.Array) -> Any:
        traces.append(strength)
        return function(strength)

    loop = [compiled(strength) for strength in strengths]
    assert len(traces) == 1
    lanes = jax.jit(jax.vmap(function))(strengths)
    for i, (strength, found) in enumerate(zip(strengths, loop, strict=True)):
        assert_close(function(strength), found, rtol, atol)
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], lanes), found, rtol, atol)
    return loop


def assert_close(a: Any, b: Any, rtol: float = 1e-6, atol: float = 1e-6) -> None:
    """Asserts that two trees have one structure and nearly the same leaves."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)
