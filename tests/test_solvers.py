"""Solvers against scikit-learn's coordinate descent, least squares and logistic regression."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression, MultiTaskLasso, enet_path

from regjax import solvers
from regjax.penalties import prox_elastic_net, prox_group_lasso, prox_l1, prox_none
from regjax.solvers import elastic_net

from .parity import compare

BAR = {"float64": 1e-6}
SOLVERS = pytest.mark.parametrize("solver", [solvers.ista, solvers.fista])


def regression(seed: int = 0, rows: int = 40, features: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(1, 1, (rows, features))
    return x, x[:, 0] - 2 * x[:, 1] + rng.normal(3, 0.5, rows)


def sklearn_path(x: Any, y: Any, strengths: Any, ratio: float = 1.0) -> np.ndarray:
    """Coefficients in the order of the strengths; centered, as `enet_path` has no intercept."""
    x, y = x - x.mean(0), y - y.mean()
    options: Any = {"l1_ratio": ratio, "tol": 1e-13, "max_iter": 1_000_000}
    strengths = np.asarray(strengths)
    coefficients = enet_path(x, y, alphas=strengths, **options)[1].T  # of the sorted strengths
    return coefficients[np.argsort(np.argsort(-strengths))]


def path(
    x: Any,
    y: Any,
    strengths: Any,
    ratio: float = 1.0,
    tolerance: float = 1e-4,
    max_iterations: int = 10_000,
) -> solvers.Solution:
    """Gives every argument, so that equal shapes are one compilation."""
    options = {"tolerance": tolerance, "max_iterations": max_iterations}
    return solvers.elastic_net_path(jnp.asarray(x), jnp.asarray(y), strengths, ratio, **options)


def test_lasso_on_diabetes_has_the_known_solution() -> None:
    x, y = load_diabetes(return_X_y=True)
    expected = np.zeros((2, 10))
    expected[0, [2, 3, 8]] = 367.701626, 6.309703, 307.602147
    expected[1, [2, 3, 6, 8]] = 471.013582, 136.516898, -58.340093, 408.021865
    with jax.enable_x64(True):
        assert solvers.alpha_max(x, y) == pytest.approx(2.148043576, abs=1e-6)
        strengths = jnp.array([1.0, 0.5])
        model, _, gap, converged = path(x, y, strengths, tolerance=1e-14)
    coefficients = np.asarray(model.coefficients)
    np.testing.assert_allclose(coefficients, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(coefficients == 0, expected == 0)
    np.testing.assert_allclose(model.intercept, 152.133484, rtol=0, atol=1e-6)
    fitted = coefficients @ x.T + np.asarray(model.intercept)[:, None]
    penalty = np.array([1, 0.5]) * abs(coefficients).sum(1)
    objective = ((y[None] - fitted) ** 2).mean(1) / 2 + penalty
    np.testing.assert_allclose(objective, [2586.943193, 2152.122993], rtol=0, atol=1e-6)
    assert converged.all() and (np.asarray(gap) < 1e-9).all()


@pytest.mark.parametrize("ratio", [1.0, 0.9, 0.5])
def test_the_path_on_diabetes_is_sklearns(ratio: float) -> None:
    x, y = load_diabetes(return_X_y=True)
    with jax.enable_x64(True):
        strengths = float(solvers.alpha_max(x, y, ratio)) * np.geomspace(1, 1e-3, 100)
        solution = path(x, y, jnp.asarray(strengths), ratio, tolerance=1e-14)
    ours = np.asarray(solution.params.coefficients)
    theirs = sklearn_path(x, y, strengths, ratio)
    assert solution.converged.all()
    assert not ours[0].any()  # at α_max itself
    np.testing.assert_array_equal(ours == 0, theirs == 0)
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        compare("solvers.elastic_net_path", "sklearn.linear_model.enet_path", a, b, BAR)


@given(
    shape=st.sampled_from([(40, 6), (12, 20), (512, 3), (1100, 7)]),
    ratio=st.sampled_from([1.0, 0.3]),
    seed=st.integers(0, 2**16),
)
def test_a_path_in_any_order_is_sklearns(shape: tuple[int, int], ratio: float, seed: int) -> None:
    """With the Gram matrix, of chunks of 512 rows; with more features than rows without it."""
    x, y = regression(seed, *shape)
    with jax.enable_x64(True):
        strengths = float(solvers.alpha_max(x, y, ratio)) * np.array([0.1, 1.1, 0.02, 0.5])
        solution = path(x, y, jnp.asarray(strengths), ratio, tolerance=1e-14)
    theirs = sklearn_path(x, y, strengths, ratio)
    assert solution.converged.all()
    compare(
        "solvers.elastic_net_path",
        "sklearn.linear_model.enet_path",
        solution.params.coefficients,
        theirs,
        BAR,
    )
    assert not solution.params.coefficients[1].any()
    residual = y[None] - theirs @ x.T
    np.testing.assert_allclose(solution.params.intercept, residual.mean(1), rtol=1e-6)


@pytest.mark.parametrize("ratio", [1.0, 0.4, 0.0])
def test_the_gap_is_sklearns(ratio: float) -> None:
    """Also of ridge, and of least squares: scikit-learn's, started where we stopped."""
    x, y = regression()
    x, y = x - x.mean(0), y - y.mean()
    strengths = np.array([0.3, 0.1, 0.01, 0.0])
    with jax.enable_x64(True):
        solution = path(x, y, jnp.asarray(strengths), ratio, tolerance=1e-2, max_iterations=2)
    for strength, w, gap in zip(
        strengths, *map(np.array, (solution[0][0], solution[2])), strict=True
    ):
        options: Any = {"alphas": strength[None], "l1_ratio": ratio, "precompute": True}
        gaps = enet_path(x, y, coef_init=w, tol=1e6, **options)[2]
        np.testing.assert_allclose(gap, gaps[0], rtol=1e-9)


def test_each_strength_stops_within_the_tolerance() -> None:
    x, y = regression()
    strengths = jnp.array([0.0, 1e-3, 0.1, 10.0])
    solution = path(x.astype("float32"), y.astype("float32"), strengths, tolerance=1e-5)
    assert solution.converged.all()
    assert (solution.error <= 1e-5 * y.var() * (1 + 1e-5)).all()
    assert solution.iterations[3] == 0
    assert solution.params.coefficients.dtype == jnp.float32
    least_squares = np.linalg.lstsq(x - x.mean(0), y - y.mean())[0]
    np.testing.assert_allclose(solution.params.coefficients[0], least_squares, atol=0.02)


def test_a_badly_conditioned_path_converges() -> None:
    """Pairwise correlations of .95, and a feature that is 0."""
    rng = np.random.default_rng(0)
    x = np.sqrt(0.05) * rng.normal(size=(40, 6)) + np.sqrt(0.95) * rng.normal(size=(40, 1))
    y = x[:, 0] - x[:, 1] + 0.1 * rng.normal(size=40)
    x[:, -1] = 0
    with jax.enable_x64(True):
        strengths = float(solvers.alpha_max(x, y)) * np.array([0.5, 0.1, 0.01, 1e-3])
        solution = path(x, y, jnp.asarray(strengths), tolerance=1e-14)
    assert solution.converged.all()
    theirs = sklearn_path(x, y, strengths)
    np.testing.assert_allclose(solution.params.coefficients, theirs, atol=1e-6)


def test_a_path_of_nothing_is_zero() -> None:
    x, y = (a.astype("float32") for a in regression())
    strengths = jnp.array([0.1, 0.0, 0.2, 0.0])
    for a, b in ((0 * x, y), (x, 0 * y)):
        solution = path(a, b, strengths)
        assert solution.converged.all()
        assert not solution.params.coefficients.any()


@pytest.mark.parametrize("where", ["x", "y"])
def test_a_path_of_nans_ends(where: str) -> None:
    x, y = (a.astype("float32") for a in regression())
    (x if where == "x" else y)[3] = np.nan
    solution = path(x, y, jnp.array([0.1, 1.0, 2.0, 3.0]))
    assert not solution.converged.any()
    assert np.isnan(solution.params.coefficients).all()
    assert (solution.iterations <= 1).all()


def test_bfloat16_is_solved_in_float32() -> None:
    x, y = regression()
    x, y = jnp.asarray(x, jnp.bfloat16), jnp.asarray(y, jnp.bfloat16)
    strengths = jnp.array([0.1, 0.5, 0.2, 0.3])
    model = path(x, y, strengths).params
    assert model.coefficients.dtype == model.intercept.dtype == jnp.bfloat16
    wide = path(x.astype(jnp.float32), y.astype(jnp.float32), strengths).params
    np.testing.assert_array_equal(model.coefficients, wide.coefficients.astype(jnp.bfloat16))


def test_vmap_over_data_is_a_loop() -> None:
    x, y = (jnp.stack(parts) for parts in zip(*map(regression, range(3)), strict=True))
    one = partial(path, strengths=jnp.array([0.1, 0.5]), tolerance=1e-6)
    together = jax.vmap(lambda x, y: one(x, y).params)(x, y)
    for i in range(3):
        alone = one(x[i], y[i]).params.coefficients
        np.testing.assert_allclose(together.coefficients[i], alone, rtol=1e-5, atol=1e-5)


def test_new_strengths_and_ratios_compile_nothing() -> None:
    x, y = (a.astype("float32") for a in regression())
    counts = []
    for i in range(3):
        path(x, y, jnp.arange(4.0) * i, 0.5 + i / 10, tolerance=10.0**-i, max_iterations=50 + i)
        counts.append(elastic_net._solve._cache_size())
    assert counts[0] == counts[2]


@pytest.mark.parametrize(
    ("x", "y", "strengths", "message"),
    [
        ((5, 2), (4,), (1,), r"got \(5, 2\) and \(4,\)"),
        ((5,), (5,), (1,), r"got \(5,\) and \(5,\)"),
        ((5, 0), (5,), (1,), r"got \(5, 0\) and \(5,\)"),
        ((5, 2), (5,), (), r"expected strengths of shape \(k,\), got \(\)"),
    ],
)
def test_bad_shapes(x: Any, y: Any, strengths: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        path(jnp.ones(x), jnp.ones(y), jnp.ones(strengths))


# The solvers of any loss.


def squares(x: Any, y: Any) -> Any:
    """Half the mean squared error of {"w", "b"}: a tree with a part that is not penalized."""
    x, y = jnp.asarray(x), jnp.asarray(y)
    return lambda p: jnp.mean((x @ p["w"] + p["b"] - y) ** 2) / 2


def prox_weights(p: Any, strength: Any) -> Any:
    return {"w": prox_l1(p["w"], strength), "b": p["b"]}


def zeros(features: int = 6) -> Any:
    return {"w": jnp.zeros(features), "b": jnp.zeros(())}


def solve(
    solver: Any, loss: Any, prox: Any, params: Any, strength: Any, **options: Any
) -> solvers.Solution:
    """One program, which compiles faster than its operations one by one."""
    return jax.jit(lambda p, s: solver(loss, prox, p, s, **options))(params, strength)


@SOLVERS
@pytest.mark.parametrize("step_size", [None, 0.08])
def test_lasso_of_a_tree_is_sklearns(solver: Any, step_size: float | None) -> None:
    x, y = regression()
    theirs = sklearn_path(x, y, [0.2])[0]
    with jax.enable_x64(True):
        solution = solve(
            solver, squares(x, y), prox_weights, zeros(), 0.2, step_size=step_size, tolerance=1e-10
        )
    assert solution.converged
    block = f"solvers.{solver.__name__}"
    compare(block, "sklearn.linear_model.enet_path", solution.params["w"], theirs, BAR)
    np.testing.assert_array_equal(np.asarray(solution.params["w"]) == 0, theirs == 0)


@SOLVERS
def test_without_strength_it_is_least_squares(solver: Any) -> None:
    x, y = regression()
    with jax.enable_x64(True):
        params = solve(solver, squares(x, y), prox_weights, zeros(), 0.0, tolerance=1e-10).params
    expected = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y)[0]
    np.testing.assert_allclose([*params["w"], params["b"]], expected, rtol=1e-7)


@SOLVERS
def test_logistic_regression_is_sklearns(solver: Any) -> None:
    x, y = regression()
    sign = np.where(y > y.mean(), 1.0, -1.0)
    strength = 0.02
    theirs = LogisticRegression(
        l1_ratio=1.0, C=1 / (len(y) * strength), solver="saga", tol=1e-12, max_iter=200_000
    )
    theirs.fit(x, sign)
    with jax.enable_x64(True):
        features, labels = jnp.asarray(x), jnp.asarray(sign)

        def loss(p: Any) -> jax.Array:
            return jnp.mean(jax.nn.softplus(-labels * (features @ p["w"] + p["b"])))

        solution = solve(solver, loss, prox_weights, zeros(), strength, tolerance=1e-9)
    assert solution.converged
    coefficients = np.append(theirs.coef_, theirs.intercept_)
    ours = np.append(solution.params["w"], solution.params["b"])
    block = f"solvers.{solver.__name__}"
    compare(block, "sklearn.linear_model.LogisticRegression", ours, coefficients, BAR)
    assert (ours == 0).any() and ((ours == 0) == (coefficients == 0)).all()


@SOLVERS
def test_group_lasso_is_sklearns_multitask_lasso(solver: Any) -> None:
    x, y = regression()
    x, targets = x - x.mean(0), np.stack([y, x[:, 2] - y], 1)
    strength = 0.3
    theirs = MultiTaskLasso(alpha=strength, fit_intercept=False, tol=1e-14, max_iter=100_000)
    theirs.fit(x, targets)
    with jax.enable_x64(True):
        a, b = jnp.asarray(x), jnp.asarray(targets)
        solution = solve(
            solver,
            lambda w: jnp.sum((a @ w - b) ** 2) / (2 * len(b)),
            lambda w, s: prox_group_lasso(w, s, "inputs"),
            jnp.zeros((6, 2)),
            strength / np.sqrt(2),  # the penalty has the root of the group's size
            tolerance=1e-10,
        )
    owner = "sklearn.linear_model.MultiTaskLasso"
    compare(f"solvers.{solver.__name__}", owner, solution.params, theirs.coef_.T, BAR)
    assert (np.asarray(solution.params) == 0).all(axis=1).any()


def test_both_roads_to_the_elastic_net_meet() -> None:
    """Our l2 has no ½."""
    x, y = regression()
    x, y = x - x.mean(0), y - y.mean()
    with jax.enable_x64(True):
        a, b = jnp.asarray(x), jnp.asarray(y)
        solution = solve(
            solvers.fista,
            lambda w: jnp.mean((a @ w - b) ** 2) / 2,
            lambda w, s: prox_elastic_net(w, s * 0.75, l1_ratio=2 / 3),
            jnp.zeros(6),
            0.3,
            tolerance=1e-12,
        )
        model = path(x, y, jnp.full(4, 0.3), 0.5, tolerance=1e-15).params
    np.testing.assert_allclose(solution.params, model.coefficients[0], rtol=1e-7)


@SOLVERS
def test_vmap_over_strengths_is_a_loop(solver: Any) -> None:
    loss = squares(*regression())
    strengths = jnp.array([0.0, 0.1, 0.5, 20.0])

    def one(strength: jax.Array) -> solvers.Solution:
        return solver(loss, prox_weights, zeros(), strength, tolerance=1e-3)

    together = jax.jit(jax.vmap(one))(strengths)
    assert together.converged.all()
    one = jax.jit(one)
    for i, strength in enumerate(strengths):
        alone = one(strength)
        np.testing.assert_allclose(together.params["w"][i], alone.params["w"], atol=1e-3)
    assert not together.params["w"][3].any()


def test_momentum_takes_fewer_steps() -> None:
    loss = squares(*regression())
    count = {
        solver: int(solve(solver, loss, prox_weights, zeros(), 0.1, tolerance=1e-3).iterations)
        for solver in (solvers.ista, solvers.fista)
    }
    assert count[solvers.fista] < count[solvers.ista] / 3


@SOLVERS
def test_at_the_solution_nothing_moves(solver: Any) -> None:
    target = jnp.array([3.0, 0.5])
    solution = solve(
        solver,
        lambda w: jnp.sum((w - target) ** 2) / 2,
        prox_l1,
        jnp.array([2.0, 0.0]),
        1.0,
        step_size=0.5,
        tolerance=0.0,
    )
    assert solution.error == 0 and solution.converged and solution.iterations == 1
    np.testing.assert_array_equal(solution.params, [2.0, 0.0])


@pytest.mark.parametrize("step_size", [None, 0.1])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_ends(step_size: float | None, bad: float) -> None:
    x, y = regression()
    y[0] = bad
    solution = solve(solvers.fista, squares(x, y), prox_weights, zeros(), 0.1, step_size=step_size)
    assert not solution.converged
    assert solution.iterations <= 2


def test_a_gap_may_decide() -> None:
    target = jnp.array([3.0, 0.5])
    solution = solve(
        solvers.fista,
        lambda w: jnp.sum((w - target) ** 2) / 2,
        prox_none,
        jnp.zeros(2),
        1.0,
        step_size=0.1,
        tolerance=0.1,
        gap=lambda w: jnp.max(jnp.abs(w - target)),
    )
    assert solution.converged
    assert 0 < solution.error <= 0.1
    assert 3 < solution.iterations < 40
    np.testing.assert_allclose(solution.error, jnp.max(jnp.abs(solution.params - target)))


def test_it_ends_after_the_most_iterations() -> None:
    loss = squares(*regression())
    solution = solve(
        solvers.fista, loss, prox_weights, zeros(), 0.1, max_iterations=3, tolerance=0.0
    )
    assert solution.iterations == 3 and not solution.converged


def test_dtypes_stay() -> None:
    target = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.full(3, 2.0)}

    def loss(p: Any) -> jax.Array:
        return sum(jnp.sum((p[k] - target[k]).astype(jnp.float32) ** 2) for k in p)

    start = jax.tree.map(jnp.zeros_like, target)
    solution = solve(solvers.fista, loss, prox_l1, start, 0.5, tolerance=0.1)
    assert solution.converged
    assert jax.tree.map(lambda v: v.dtype, solution.params) == jax.tree.map(
        lambda v: v.dtype, target
    )
    np.testing.assert_allclose(solution.params["b"], 1.75, atol=0.05)


def test_strength_step_size_and_tolerance_are_traced() -> None:
    loss = squares(*regression())
    traces = []

    @jax.jit
    def run(strength: Any, step_size: Any, tolerance: Any, most: Any) -> solvers.Solution:
        traces.append(strength)
        options = {"step_size": step_size, "tolerance": tolerance, "max_iterations": most}
        return solvers.fista(loss, prox_weights, zeros(), strength, **options)

    first, second = run(0.1, 0.05, 1e-2, 1000), run(5.0, 0.06, 1e-1, 900)
    assert len(traces) == 1
    assert first.params["w"].any() and not second.params["w"].any()
