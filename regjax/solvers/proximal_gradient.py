"""Proximal gradient descent, plain and accelerated, on any tree of parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from regjax.dtypes import wide

PyTree = Any
Number = jax.Array | float
Loss = Callable[[PyTree], jax.Array]
Prox = Callable[[PyTree, Number], PyTree]


class Solution(NamedTuple):
    """Where a solver ended.

    Attributes:
      params: the solution, of the start's structure, shapes and dtypes.
      iterations: how many were done.
      error: what the tolerance was for: the norm of the gradient mapping, or the gap.
      converged: whether error ≤ tolerance. False after `max_iterations` and after a NaN.
    """

    params: PyTree
    iterations: jax.Array
    error: jax.Array
    converged: jax.Array


class _State(NamedTuple):
    params: PyTree
    point: PyTree  # where the gradient is taken: params, or ahead of them by the momentum
    t: jax.Array
    step_size: jax.Array
    iterations: jax.Array
    error: jax.Array


def momentum(t: jax.Array, restart: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the next t = (1 + √(1 + 4t²)) / 2 and the weight (t_old − 1) / t; restarted, 1 and 0.

    >>> [float(x) for x in momentum(jnp.float32(1), jnp.bool_(True))]
    [1.0, 0.0]
    """
    following = (1 + jnp.sqrt(1 + 4 * t * t)) / 2
    return jnp.where(restart, 1, following), jnp.where(restart, 0, (t - 1) / following)


def _wide(x: Any) -> jax.Array:
    return jnp.asarray(x, wide(jnp.result_type(x)))


def _dot(a: PyTree, b: PyTree) -> jax.Array:
    products = jax.tree.map(lambda x, y: jnp.sum(_wide(x) * _wide(y)), a, b)
    return sum(jax.tree.leaves(products), jnp.zeros(()))


def _along(a: PyTree, scale: Number, b: PyTree) -> PyTree:
    """a + scale · b, in a's dtypes."""
    return jax.tree.map(lambda x, y: x + jnp.asarray(scale, x.dtype) * y, a, b)


def _first_step_size(loss: Loss, params: PyTree) -> jax.Array:
    """One over the curvature along the gradient, which is at most the largest curvature."""
    gradient = jax.grad(loss)(params)
    norm = jnp.sqrt(_dot(gradient, gradient))
    length = 0.01 * (1 + jnp.sqrt(_dot(params, params)))
    probe = _along(params, -length / jnp.where(norm > 0, norm, 1), gradient)
    change = _along(jax.grad(loss)(probe), -1, gradient)
    change = jnp.sqrt(_dot(change, change))
    return jnp.where(change > 0, length / jnp.where(change > 0, change, 1), 1)


def _minimize(
    accelerate: bool,
    loss: Loss,
    prox: Prox,
    params: PyTree,
    strength: Number,
    step_size: Number | None,
    max_iterations: int | jax.Array,
    tolerance: Number,
    gap: Callable[[PyTree], jax.Array] | None,
) -> Solution:
    def step(
        point: PyTree, value: jax.Array, gradient: PyTree, step_size: jax.Array
    ) -> tuple[PyTree, jax.Array]:
        """The proximal step from a point, and whether the step size is too long for it."""
        new = prox(_along(point, -step_size, gradient), step_size * strength)
        moved = _along(new, -1, point)
        bound = value + _dot(gradient, moved) + _dot(moved, moved) / (2 * step_size)
        # Close to the solution the two sides differ by rounding alone, which must not shorten it.
        rounding = 10 * jnp.finfo(value.dtype).eps * jnp.abs(value)
        return new, loss(new) > bound + rounding

    def body(state: _State) -> _State:
        point, size = state.point, state.step_size
        value, gradient = jax.value_and_grad(loss)(point)
        new, too_long = step(point, value, gradient, size)
        if step_size is None:

            def halve(tried: tuple[PyTree, jax.Array, jax.Array]) -> Any:
                size = tried[1] / 2
                new, too_long = step(point, value, gradient, size)
                return new, size, too_long

            new, size, _ = jax.lax.while_loop(lambda tried: tried[2], halve, (new, size, too_long))
        back = _along(point, -1, new)
        error = jnp.sqrt(_dot(back, back)) / size if gap is None else gap(new)
        forward = _along(new, -1, state.params)
        t, weight = momentum(state.t, _dot(back, forward) > 0)
        ahead = _along(new, weight, forward) if accelerate else new
        return _State(new, ahead, t, size, state.iterations + 1, error.astype(state.error.dtype))

    def unfinished(state: _State) -> jax.Array:
        going = ~(state.error <= tolerance) & ~jnp.isnan(state.error)
        return going & (state.iterations < max_iterations)

    params = jax.tree.map(jnp.asarray, params)
    first = _first_step_size(loss, params) if step_size is None else step_size
    dtype = _dot(params, params).dtype
    one, infinite = jnp.ones((), dtype), jnp.full((), jnp.inf, dtype)
    start = _State(params, params, one, jnp.asarray(first, dtype), jnp.zeros((), int), infinite)
    end = jax.lax.while_loop(unfinished, body, start)
    return Solution(end.params, end.iterations, end.error, end.error <= tolerance)


def ista(
    loss: Loss,
    prox: Prox,
    params: PyTree,
    strength: Number,
    *,
    step_size: Number | None = None,
    max_iterations: int | jax.Array = 10_000,
    tolerance: Number = 1e-4,
    gap: Callable[[PyTree], jax.Array] | None = None,
) -> Solution:
    """Minimizes loss(w) + λ·Ω(w) by w ← prox(w − η∇loss(w), ηλ): proximal gradient descent.

    Stops when the gradient mapping ‖w − prox(w − η∇loss(w), ηλ)‖ / η, which is the norm of the
    gradient where there is no penalty, or `gap` is within the tolerance.

    Args:
      loss: smooth, from a tree of parameters to a scalar.
      prox: prox(w, s) = argmin over x of ½‖x − w‖² + s·Ω(x), as those of `regjax.penalties`.
      params: where to start, any tree of floating arrays.
      strength: λ ≥ 0, may be traced; under `jax.vmap` a whole path of them is one program.
      step_size: η ≤ 1 / L, L the largest curvature of the loss; may be traced. By default the
        step is halved until the loss lies below its quadratic bound (Beck & Teboulle 2009).
      max_iterations: ends there, not converged; may be traced.
      tolerance: absolute, may be traced.
      gap: what to stop on instead, such as a duality gap, from parameters to a scalar.

    Returns:
      A `Solution`. A NaN ends the loop at once. The loop has no reverse-mode derivative.

    >>> from regjax.penalties import prox_l1
    >>> loss = lambda w: jnp.sum((w - jnp.array([3.0, 0.5])) ** 2) / 2
    >>> ista(loss, prox_l1, jnp.zeros(2), 1.0, step_size=1.0).params
    Array([2., 0.], dtype=float32)
    """
    return _minimize(False, loss, prox, params, strength, step_size, max_iterations, tolerance, gap)


def fista(
    loss: Loss,
    prox: Prox,
    params: PyTree,
    strength: Number,
    *,
    step_size: Number | None = None,
    max_iterations: int | jax.Array = 10_000,
    tolerance: Number = 1e-4,
    gap: Callable[[PyTree], jax.Array] | None = None,
) -> Solution:
    """`ista` with Nesterov's momentum (Beck & Teboulle 2009): about the root of its iterations.

    The momentum restarts where it points uphill: where (z − w')·(w' − w) > 0, z the point of the
    gradient (O'Donoghue & Candès 2015). The gradient mapping is that of z. Arguments as `ista`.

    >>> from regjax.penalties import prox_l1
    >>> loss = lambda w: jnp.sum((w - jnp.array([3.0, 0.5])) ** 2) / 2
    >>> path = jax.vmap(lambda s: fista(loss, prox_l1, jnp.zeros(2), s, step_size=1.0).params)
    >>> path(jnp.array([0.0, 1.0]))
    Array([[3. , 0.5],
           [2. , 0. ]], dtype=float32)
    """
    return _minimize(True, loss, prox, params, strength, step_size, max_iterations, tolerance, gap)
