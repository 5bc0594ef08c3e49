"""The elastic net for a whole vector of strengths, in one loop of matrix products."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from regjax.dtypes import wide
from regjax.solvers.proximal_gradient import Solution, momentum

Number = jax.Array | float

_CHUNK = 512  # rows


class LinearModel(NamedTuple):
    """Models y ≈ x·w + b: `coefficients` of shape (models, features), `intercept` (models,)."""

    coefficients: jax.Array
    intercept: jax.Array


class _Problem(NamedTuple):
    """½w'Gw − w'q + ½‖y‖² + l1‖w‖₁ + ½·l2‖w‖², G, q and ‖y‖² over n, a column per strength."""

    multiply: Callable[[jax.Array], jax.Array]  # by G
    q: jax.Array  # (features, 1)
    y2: jax.Array
    rows: int
    l1: jax.Array  # (strengths,)
    l2: jax.Array
    trace: jax.Array  # of G, at least its largest eigenvalue


class _State(NamedTuple):
    w: jax.Array
    gw: jax.Array  # G·w
    z: jax.Array  # ahead of w by the momentum
    gz: jax.Array
    t: jax.Array
    curvature: jax.Array  # the step is its inverse
    best: jax.Array  # the w of the smallest gap
    gap: jax.Array
    iterations: jax.Array
    count: jax.Array


_matmul = partial(jnp.matmul, precision="highest")


def _sum(columns: jax.Array) -> jax.Array:
    return jnp.sum(columns, axis=0)


def _positive(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 1)


def _gap(problem: _Problem, w: jax.Array, gw: jax.Array) -> jax.Array:
    """Primal minus dual objective at the residual, scaled to where it is feasible for the dual."""
    _, q, y2, rows, l1, l2, _ = problem
    correlation = q - gw
    wq = _sum(w * q)
    residual2 = y2 - 2 * wq + _sum(w * gw)
    w2 = _sum(w * w)
    norm = jnp.max(jnp.abs(correlation - l2[None, :] * w), axis=0)
    c = l1 / _positive(jnp.maximum(norm, l1))
    lasso = (1 + c * c) / 2 * (residual2 + l2 * w2) + l1 * _sum(jnp.abs(w)) - c * (y2 - wq)
    # Without l1 another dual point; without both the normal equations, as scikit-learn has it.
    squares = _sum(correlation * correlation)
    ridge = residual2 + l2 * w2 / 2 - (y2 - wq) + squares / (2 * _positive(l2))
    return jnp.where(l1 > 0, lasso, jnp.where(l2 > 0, ridge, rows * squares))


def _iterate(problem: _Problem, active: jax.Array, state: _State) -> _State:
    """One step of FISTA for every strength. G·z follows from G·w: one product a step."""
    _, q, _, _, l1, l2, trace = problem
    w, z, curvature = state.w, state.z, state.curvature
    inverse = (1 / (curvature + l2))[None, :]
    u = z - (state.gz - q + l2[None, :] * z) * inverse
    threshold = l1[None, :] * inverse
    v = u - jnp.clip(u, -threshold, threshold)
    gv = problem.multiply(v)

    moved = v - z
    measured = _sum(moved * (gv - state.gz)) / _positive(_sum(moved * moved))
    # The trace bounds what may be measured, but for rounding: there every step is taken.
    too_long = (measured > 1.001 * curvature) & (curvature < trace)
    longer = jnp.maximum(0.98 * curvature, measured)
    shorter = jnp.minimum(1.1 * measured, trace)

    t, weight = momentum(state.t, _sum(moved * (v - w)) < 0)
    again = too_long[None, :]
    gap = _gap(problem, v, gv)
    better = active & ~(gap >= state.gap)
    return _State(
        w=jnp.where(again, w, v),
        gw=jnp.where(again, state.gw, gv),
        z=jnp.where(again, z, v + weight[None, :] * (v - w)),
        gz=jnp.where(again, state.gz, gv + weight[None, :] * (gv - state.gw)),
        t=jnp.where(too_long, state.t, t),
        curvature=jnp.where(too_long, shorter, longer),
        best=jnp.where(better[None, :], v, state.best),
        gap=jnp.where(better, gap, state.gap),
        iterations=state.iterations + active,
        count=state.count + 1,
    )


def _gram(a: jax.Array) -> jax.Array:
    """a'a. XLA does not use that it is symmetric, which on a CPU makes it half as long again."""
    return jax.lax.platform_dependent(a, cpu=_gram_in_parts, default=lambda a: _matmul(a.T, a))


def _gram_in_parts(a: jax.Array) -> jax.Array:
    """The upper triangle in four bands of rows, summed over chunks of `a` that fit a cache."""
    rows, features = a.shape
    edges = [features * i // 4 for i in range(5)]
    bands = list(itertools.pairwise(edges))

    def add(sums: list[jax.Array], chunk: jax.Array) -> list[jax.Array]:
        products = [_matmul(chunk.T[i:j], chunk[:, i:]) for i, j in bands]
        return [s + p for s, p in zip(sums, products, strict=True)]

    def add_chunk(i: jax.Array, sums: list[jax.Array]) -> list[jax.Array]:
        return add(sums, jax.lax.dynamic_slice_in_dim(a, i * _CHUNK, _CHUNK))

    zeros = [jnp.zeros((j - i, features - i), a.dtype) for i, j in bands]
    sums = jax.lax.fori_loop(0, rows // _CHUNK, add_chunk, zeros) if rows >= _CHUNK else zeros
    sums = add(sums, a[rows - rows % _CHUNK :])
    padded = [jnp.pad(s, ((0, 0), (i, 0))) for s, (i, _) in zip(sums, bands, strict=True)]
    upper = jnp.concatenate(padded)
    return jnp.triu(upper) + jnp.triu(upper, 1).T


def _check(x: jax.Array, y: jax.Array) -> None:
    if x.ndim != 2 or 0 in x.shape or y.shape != x.shape[:1]:
        raise ValueError(f"expected x (rows, features) and y (rows,), got {x.shape} and {y.shape}")


def alpha_max(
    x: jax.Array, y: jax.Array, l1_ratio: Number = 1.0, fit_intercept: bool = True
) -> jax.Array:
    """The smallest α at which every coefficient is 0: max over j of |x_j'(y − ȳ)| / (n·r).

    Args:
      x: shape (n, features), floating.
      y: shape (n,).
      l1_ratio: r in (0, 1].
      fit_intercept: whether y is centered.

    >>> float(alpha_max(jnp.array([[1.0], [-1.0]]), jnp.array([3.0, 1.0])))
    1.0
    """
    _check(x, y)
    x, y = (jnp.asarray(a, wide(a.dtype)) for a in (x, y))
    y = y - jnp.mean(y) if fit_intercept else y
    return jnp.max(jnp.abs(_matmul(y, x))) / (len(y) * l1_ratio)


def elastic_net_path(
    x: jax.Array,
    y: jax.Array,
    strengths: jax.Array,
    l1_ratio: Number = 1.0,
    *,
    fit_intercept: bool = True,
    tolerance: Number = 1e-4,
    max_iterations: int | jax.Array = 10_000,
) -> Solution:
    """Minimizes 1/(2n)·‖y − xw − b‖² + α·r·‖w‖₁ + ½α(1 − r)·‖w‖² for every strength α.

    scikit-learn's objective and its stopping rule: duality gap ≤ tolerance · ‖y‖² / n, y centered
    if there is an intercept, which is free. r = 1 is the lasso. As there, without `l1` the gap is
    ridge's, and without a penalty the error is ‖x'(y − xw)‖² / n.

    All strengths go together through FISTA (see `fista`) on the Gram matrix: a step is one product
    of matrices for all of them, where coordinate descent is a chain of products of vectors. Each
    strength has its own step size, 1 over the curvature of the last steps, checked against the
    quadratic bound on every step: no eigenvalue is needed, and steps grow where the largest
    eigenvalues no longer take part, which correlated features make many times the others. Of each
    strength the iterate of the smallest gap is kept. With more features than rows the Gram matrix
    is not formed.

    Args:
      x: shape (n, features), floating.
      y: shape (n,).
      strengths: shape (k,), in any order, each ≥ 0.
      l1_ratio: r in [0, 1], may be traced.
      fit_intercept: whether b is fitted, or 0.
      tolerance: relative, may be traced.
      max_iterations: ends there, not converged; may be traced.

    Returns:
      A `Solution` of `LinearModel`s, coefficients of shape (k, features) in x's dtype (transposed,
      scikit-learn's); iterations, error (the gap) and converged of shape (k,). Data with a NaN
      give NaN.

    Raises:
      ValueError: shapes that do not fit.

    >>> x, y = jnp.array([[1.0, 1.0], [-1.0, 1.0], [0.0, -2.0]]), jnp.array([5.0, 1.0, 0.0])
    >>> elastic_net_path(x, y, jnp.array([0.5, 5.0])).params.coefficients.round(2)
    Array([[1.25, 0.75],
           [0.  , 0.  ]], dtype=float32)
    """
    _check(x, y)
    if strengths.ndim != 1:
        raise ValueError(f"expected strengths of shape (k,), got {strengths.shape}")
    dtype = wide(x.dtype)
    a, target, strengths, ratio, tolerance = (
        jnp.asarray(v, dtype) for v in (x, y, strengths, l1_ratio, tolerance)
    )
    solve = partial(_solve, fit_intercept=fit_intercept)
    solution = solve(a, target, strengths, ratio, tolerance, max_iterations)
    model = jax.tree.map(lambda v: v.astype(x.dtype), solution.params)
    return solution._replace(params=model)


@partial(jax.jit, static_argnames="fit_intercept")
def _solve(
    x: jax.Array,
    y: jax.Array,
    strengths: jax.Array,
    ratio: jax.Array,
    tolerance: jax.Array,
    max_iterations: int | jax.Array,
    fit_intercept: bool,
) -> Solution:
    """FISTA for all strengths, until each one's gap is small enough."""
    x_mean, y_mean = jnp.mean(x, axis=0), jnp.mean(y)
    a, target = (x - x_mean[None, :], y - y_mean) if fit_intercept else (x, y)
    rows, features = a.shape
    if rows >= features:
        gram = _gram(a) / rows
        multiply, trace = partial(_matmul, gram), jnp.trace(gram)
    else:
        multiply, trace = lambda w: _matmul(a.T, _matmul(a, w)) / rows, jnp.sum(a * a) / rows
    q = _matmul(target, a)[:, None] / rows  # not a.T @ target, which would copy a
    y2 = jnp.mean(target * target)
    problem = _Problem(multiply, q, y2, rows, strengths * ratio, strengths * (1 - ratio), trace)

    def active(state: _State) -> jax.Array:
        return ~(state.gap <= tolerance * y2) & ~jnp.isnan(state.gap)

    w = jnp.zeros((features, len(strengths)), a.dtype)
    ones = jnp.ones_like(strengths)
    counts = jnp.zeros(len(strengths), int), jnp.zeros((), int)
    # The mean eigenvalue is a first guess of the curvature.
    start = _State(w, w, w, w, ones, ones * trace / features, w, _gap(problem, w, w), *counts)
    end = jax.lax.while_loop(
        lambda state: (state.count < max_iterations) & jnp.any(active(state)),
        lambda state: _iterate(problem, active(state), state),
        start,
    )
    coefficients = jnp.where(jnp.isnan(end.gap)[:, None], jnp.nan, end.best.T)
    intercept = jnp.zeros_like(strengths)
    if fit_intercept:
        intercept = y_mean - _matmul(coefficients, x_mean)
    model = LinearModel(coefficients, intercept)
    return Solution(model, end.iterations, end.gap, end.gap <= tolerance * y2)
