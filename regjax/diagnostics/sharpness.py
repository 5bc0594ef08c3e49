"""Sharpness of a minimum: the worst loss in a ball, and the curvature that makes it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from regjax.dtypes import widen

PyTree = Any
Number = jax.Array | float
Count = jax.Array | int
Loss = Callable[[PyTree], jax.Array]


def sam_sharpness(loss: Loss, params: PyTree, rho: Number = 0.05, steps: Count = 1) -> jax.Array:
    """max over ‖ε‖₂ ≤ ρ of L(w + ε) − L(w), as far as ascent finds it (Foret et al. 2021).

    One step is theirs, ε = ρ·g / ‖g‖. More go on from there, each as long, along the
    gradient and back onto the ball; the best point of all counts, so that more steps never find
    less, and what any number finds is a lower bound. At least 0, which is the start's.

    Args:
      loss: `loss(params) -> scalar`.
      params: w.
      rho: ρ, may be traced.
      steps: K, may be traced; one gradient each.

    >>> sam_sharpness(lambda w: (w**2).sum(), jnp.array([1.0]), 0.5)  # 1.5² − 1²
    Array(1.25, dtype=float32)
    """
    flat, unflatten = ravel_pytree(jax.tree.map(widen, params))

    def value(offset: jax.Array) -> jax.Array:
        return loss(unflatten(flat + offset))

    def ascend(_: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        offset, best = now
        offset = _within(offset + rho * _direction(jax.grad(value)(offset)), rho)
        return offset, jnp.maximum(best, value(offset))

    start = jnp.zeros_like(flat)
    here = value(start)
    _, best = jax.lax.fori_loop(0, steps, ascend, (start, here))
    return best - here


def hessian_vector(loss: Loss, params: PyTree, vector: PyTree) -> PyTree:
    """H·v, the gradient of ⟨∇L, v⟩: a few times the cost of a gradient.

    In reverse mode twice, which convolutions with rules of their own know, as those of
    `regjax.convolution` on a GPU; forward mode they do not.

    >>> hessian_vector(lambda w: (w**3).sum(), jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0]))
    Array([ 6., 12.], dtype=float32)
    """

    def along(params: PyTree) -> jax.Array:
        return jnp.asarray(optax.tree.vdot(jax.grad(loss)(params), vector))

    return jax.grad(along)(params)


def ritz_values(loss: Loss, params: PyTree, key: jax.Array, steps: int = 32) -> jax.Array:
    """Eigenvalues of the Hessian seen by Lanczos' method from a random vector, ascending.

    The ends come first: of two small trained networks the largest was exact to float32 after 16
    steps, the smallest within 0.1 % after 32. With as many steps as parameters all different
    eigenvalues are there. Vectors are orthogonalized twice against all before (Parlett 1980),
    without which Lanczos finds copies of the ends; they take `steps` times the parameters' memory.

    Args:
      loss: `loss(params) -> scalar`.
      params: where.
      key: of the random vector.
      steps: k, static, at most the number of parameters; one `hessian_vector` each.

    Returns:
      `(k,)`. A space that ends before, as that of a Hessian of few different eigenvalues, is filled
      up with a value between the ends.

    >>> curvatures = jnp.array([1.0, -2.0, 5.0])
    >>> loss = lambda w: (curvatures * w**2).sum() / 2
    >>> ritz_values(loss, jnp.ones(3), jax.random.key(0)).round(3)
    Array([-2.,  1.,  5.], dtype=float32)
    """
    flat, unflatten = ravel_pytree(jax.tree.map(widen, params))
    steps = min(steps, flat.size)

    def times(vector: jax.Array) -> jax.Array:
        return hessian_vector(lambda w: loss(unflatten(w)), flat, vector)

    def extend(step: jax.Array, now: Any) -> Any:
        basis, alphas, betas = now
        image = times(basis[step])
        alpha = basis[step] @ image
        rest = image
        for _ in range(2):
            rest = rest - (basis @ rest) @ basis
        beta = jnp.linalg.norm(rest)
        ended = beta <= 10 * jnp.finfo(flat.dtype).eps * jnp.linalg.norm(image)
        beta = jnp.where(ended, 0, beta)
        following = jnp.where(ended, 0, rest / jnp.where(ended, 1, beta))
        alpha = jnp.where(basis[step].any(), alpha, alphas[0])
        return (
            basis.at[step + 1].set(following),
            alphas.at[step].set(alpha),
            betas.at[step].set(beta),
        )

    start = _direction(jax.random.normal(key, flat.shape, flat.dtype))
    basis = jnp.zeros((steps + 1, flat.size), flat.dtype).at[0].set(start)
    zeros = jnp.zeros(steps, flat.dtype)
    _, alphas, betas = jax.lax.fori_loop(0, steps, extend, (basis, zeros, zeros))
    return jnp.linalg.eigvalsh(
        jnp.diag(alphas) + jnp.diag(betas[:-1], 1) + jnp.diag(betas[:-1], -1)
    )


def top_eigenvalue(loss: Loss, params: PyTree, key: jax.Array, steps: int = 32) -> jax.Array:
    """The Hessian's largest eigenvalue λ₁, the last of `ritz_values`; gradient descent is stable
    for rates below 2/λ₁.

    >>> curvatures = jnp.array([1.0, -7.0, 5.0])
    >>> loss = lambda w: (curvatures * w**2).sum() / 2
    >>> top_eigenvalue(loss, jnp.ones(3), jax.random.key(0)).round(3)
    Array(5., dtype=float32)
    """
    return ritz_values(loss, params, key, steps)[-1]


def _direction(vector: jax.Array) -> jax.Array:
    norm = optax.tree.norm(vector)
    return vector / jnp.where(norm > 0, norm, 1)


def _within(vector: jax.Array, radius: Number) -> jax.Array:
    """The vector's projection onto the ball."""
    norm = optax.tree.norm(vector)
    return vector * jnp.minimum(1, radius / jnp.where(norm > 0, norm, 1))
