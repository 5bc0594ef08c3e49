"""Penalties, proximal operators and projections: one contract for all, and independent oracles."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regjax import models, penalties, strengths, trees
from regjax.batch import Batch
from regjax.config import Config, ModelConfig, PenaltyConfig
from regjax.network import Network
from regjax.objective import make_objective

from .contract import assert_close, one_program
from .parity import compare

NAMES = [name for name in penalties.PENALTIES if name != "none"]
PROXIMAL = [name for name in penalties.PROXIMAL if name != "none"]
PARAMS = {
    "dense": {
        "kernel": jnp.array([[1.0, -2.0, 0.25], [0.0, 3.0, 0.5]]),
        "bias": jnp.array([0.5, -0.5, 2.5]),
    }
}
seeds = st.integers(0, 2**16)
dtypes = st.sampled_from(["float32", "float64"])
kernels = st.sampled_from([(7, 5), (4, 6), (3, 3, 2, 4)])


def kernel(seed: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(dtype)


def columns(w: np.ndarray) -> np.ndarray:
    return w.reshape(-1, w.shape[-1])


def torch_penalty(name: str, w: Any) -> Any:
    """The penalty by PyTorch's own functions; its autograd gives the gradient."""
    import torch

    flat = w.reshape(-1, w.shape[-1])
    lengths = torch.linalg.vector_norm(flat, dim=0)
    eye = torch.eye(min(flat.shape), dtype=w.dtype)
    return {
        "l1": lambda: torch.linalg.vector_norm(flat, 1),
        "l2": lambda: torch.linalg.vector_norm(flat) ** 2,
        "elastic": lambda: 0.5 * (torch.linalg.vector_norm(flat, 1) + (w * w).sum()),
        "group_lasso": lambda: len(flat) ** 0.5 * lengths.sum(),
        "nuclear": lambda: torch.linalg.matrix_norm(flat, "nuc"),
        "orthogonality": lambda: (
            torch.linalg.matrix_norm(
                (flat.T @ flat if flat.shape[0] >= flat.shape[1] else flat @ flat.T) - eye
            )
            ** 2
        ),
        "max_norm": lambda: torch.relu(lengths - 1).square().sum(),
    }[name]()


@pytest.mark.parity
@pytest.mark.parametrize("name", NAMES)
@given(shape=kernels, dtype=dtypes, seed=seeds)
def test_value_and_gradient_are_torchs(
    name: str, shape: tuple[int, ...], dtype: str, seed: int
) -> None:
    import torch

    w = kernel(seed, shape, dtype)
    w[(0,) * w.ndim] = 0
    theirs = torch.tensor(w, requires_grad=True)
    value = torch_penalty(name, theirs)
    value.backward()
    assert theirs.grad is not None
    with jax.enable_x64(dtype == "float64"):
        ours = jax.value_and_grad(penalties.PENALTIES[name])(jnp.asarray(w))
    # PyTorch takes singular vectors in float32, good to some 1e-6.
    bars = {"float32": 1e-5 if name == "nuclear" else 2e-6, "float64": 1e-12}
    function = "elastic_net" if name == "elastic" else name
    expected = (value.detach().numpy(), theirs.grad.numpy())
    compare(f"penalties.{function}", "torch, by its norms and autograd", ours, expected, bars)


@pytest.mark.parametrize("name", penalties.PENALTIES)
def test_contract(name: str) -> None:
    """A scalar of float32, never negative, even, finite gradient at 0, jit = no jit."""
    penalty = penalties.PENALTIES[name]
    value = penalty(PARAMS)
    assert (value.shape, value.dtype) == ((), jnp.float32)
    assert value >= 0
    assert penalty(jax.tree.map(jnp.negative, PARAMS)) == pytest.approx(float(value))
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    assert penalty(zeros) == (3 if name == "orthogonality" else 0)  # rank 2 and rank 1 missing
    gradient = jax.tree.leaves(jax.grad(penalty)(zeros))
    assert all(jnp.isfinite(g).all() for g in gradient)
    assert name == "nuclear" or not any(g.any() for g in gradient)  # what is 0 stays 0
    assert jax.jit(penalty)(PARAMS) == pytest.approx(float(value), rel=1e-6)
    assert penalty(jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)).dtype == jnp.float32
    assert penalty([]) == 0
    many = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), PARAMS)
    np.testing.assert_allclose(jax.vmap(penalty)(many)[0], value, rtol=1e-6)
    if name != "none":
        broken = jax.tree.map(lambda x: x.at[0].set(jnp.nan), PARAMS)
        assert jnp.isnan(penalty(broken))


@pytest.mark.parametrize("name", NAMES)
def test_grows_with_the_weights(name: str) -> None:
    penalty = penalties.PENALTIES[name]
    assert penalty(jax.tree.map(lambda x: 2 * x, PARAMS)) > penalty(PARAMS) > 0


def test_elastic_net_lies_between_its_parts() -> None:
    mean = (penalties.l1(PARAMS) + penalties.l2(PARAMS)) / 2
    assert penalties.elastic_net(PARAMS) == mean
    assert penalties.elastic_net(PARAMS, 1.0) == penalties.l1(PARAMS)
    assert penalties.elastic_net(PARAMS, 0.0) == penalties.l2(PARAMS)


def test_orthogonality_and_group_lasso_by_rows() -> None:
    q = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (7, 5)))[0]
    assert penalties.orthogonality(q) < 1e-10
    assert penalties.orthogonality(q.T) < 1e-10
    by_rows = penalties.group_lasso(q, "inputs")
    by_columns = penalties.group_lasso(q.T, "outputs")
    assert by_rows == pytest.approx(float(by_columns), rel=1e-6)
    with pytest.raises(ValueError, match="'outputs' or 'inputs', got 'rows'"):
        penalties.group_lasso(q, "rows")


def test_scales_by_name() -> None:
    factors = [penalties.scale_factor(s, PARAMS, 100) for s in ("sum", "mean", "per_example")]
    assert factors == [1, 1 / 9, 1 / 100]
    with pytest.raises(ValueError, match="'per_example', got 'max'"):
        penalties.scale_factor("max", PARAMS, 100)


def test_masks_by_name_glob_and_function() -> None:
    assert penalties.l1(trees.select(PARAMS, "kernels")) == 6.75
    assert penalties.l1(trees.select(PARAMS, "all")) == 10.25
    assert trees.names(PARAMS, "dense/b*") == ["dense/bias"]
    assert trees.names(PARAMS, "nothing, dense/*") == ["dense/bias", "dense/kernel"]
    assert trees.names(PARAMS, lambda name: name.endswith("kernel")) == ["dense/kernel"]


def test_l2_in_the_loss_is_coupled_decay_of_twice_its_strength() -> None:
    strength, rate = 0.1, 0.3

    def loss(params: dict) -> jax.Array:
        return jnp.sin(params["dense"]["kernel"]).sum()

    grads = jax.grad(lambda p: loss(p) + strength * penalties.l2(p))(PARAMS)
    penalized = jax.tree.map(lambda p, g: p - rate * g, PARAMS, grads)
    tx = optax.chain(optax.add_decayed_weights(2 * strength), optax.sgd(rate))
    updates, _ = tx.update(jax.grad(loss)(PARAMS), tx.init(PARAMS), PARAMS)
    decayed = optax.apply_updates(PARAMS, updates)
    for a, b in zip(jax.tree.leaves(penalized), jax.tree.leaves(decayed), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


# Penalties on what the network computes.


def test_jacobian_estimates_half_the_squared_frobenius_norm() -> None:
    w = jax.random.normal(jax.random.key(0), (6, 4))
    x = jax.random.normal(jax.random.key(1), (3, 6))

    def apply(x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ w)

    exact = jnp.square(jax.vmap(jax.jacobian(lambda row: apply(row[None])[0]))(x)).sum((1, 2)) / 2
    estimate = penalties.jacobian(apply, x, jax.random.key(2), projections=4000)
    np.testing.assert_allclose(estimate, exact, rtol=0.05)
    assert penalties.jacobian(apply, x, jax.random.key(3)).shape == (3,)


def test_jacobian_through_batch_norm_does_not_see_padding_rows() -> None:
    """A batch of 3 has the same penalty in the mean however many rows fill it up."""
    config = Config(
        model=ModelConfig(widths=(16,), norm="batch"), penalty=PenaltyConfig("jacobian", 1.0)
    )
    network = Network(config.model, models.build(config.model, (6,), 4), 4)
    x, labels = jax.random.normal(jax.random.key(1), (8, 6)), jnp.arange(8) % 4
    params, statistics = network.init(jax.random.key(0), x)
    numbers = strengths.from_config(config, 8)
    objective = make_objective(config, network)

    @partial(jax.jit, static_argnums=0)
    def penalty(rows: int) -> jax.Array:
        batch = Batch(x[:rows], labels[:rows], (jnp.arange(rows) < 3).astype(jnp.float32))
        found = jax.vmap(lambda key: objective(params, numbers, statistics, batch, key)[1].penalty)
        return found(jax.random.split(jax.random.key(2), 1000)).mean()

    np.testing.assert_allclose(penalty(8), penalty(3), rtol=0.1)


@pytest.mark.parity
@given(seed=seeds, dtype=dtypes)
def test_entropy_is_torchs(seed: int, dtype: str) -> None:
    import torch

    logits = 3 * kernel(seed, (5, 7), dtype)
    theirs = -torch.distributions.Categorical(logits=torch.tensor(logits)).entropy()
    with jax.enable_x64(dtype == "float64"):
        ours = penalties.entropy(jnp.asarray(logits))
    compare("penalties.entropy", "torch.distributions.Categorical.entropy", ours, theirs.numpy())


def test_entropy_of_certainty_is_zero_with_a_finite_gradient() -> None:
    for logits in ([1e4, 0.0, -1e4], [0.0, -jnp.inf, -jnp.inf]):
        value, gradient = jax.value_and_grad(penalties.entropy)(jnp.array(logits))
        assert value == 0
        assert jnp.isfinite(gradient).all()


# Proximal operators.


@pytest.mark.parametrize("name", PROXIMAL)
@given(shape=kernels, seed=seeds, strength=st.floats(0.01, 3))
def test_prox_minimizes_what_it_says(
    name: str, shape: tuple[int, ...], seed: int, strength: float
) -> None:
    """½‖x − w‖² + s·Ω(x) is no smaller anywhere near, and firm: ‖Pu − Pv‖² ≤ ⟨Pu − Pv, u − v⟩."""
    prox, omega = penalties.PROXIMAL[name], penalties.PENALTIES[name]
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        w, v = (jnp.asarray(rng.normal(size=shape)) for _ in range(2))
        x = prox(w, strength)

        def objective(x: jax.Array) -> Any:
            return 0.5 * jnp.square(x - w).sum() + strength * omega(x)

        best = objective(x)
        for size in (1e-4, 1e-2, 1.0):
            assert objective(x + size * rng.normal(size=shape)) >= best - 1e-12
        assert objective(0.99 * x) >= best - 1e-12
        moved = x - prox(v, strength)
        assert jnp.square(moved).sum() <= (moved * (w - v)).sum() + 1e-12


@pytest.mark.parity
@pytest.mark.parametrize("groups", ["outputs", "inputs"])
@given(seed=seeds, strength=st.sampled_from([0.1, 0.5, 1.0]))
def test_prox_of_group_lasso_solves_scikit_learns_problem(
    groups: str, seed: int, strength: float
) -> None:
    """On an orthonormal design, `MultiTaskLasso` is one proximal step: its groups are inputs."""
    from sklearn.linear_model import MultiTaskLasso

    w = kernel(seed, (6, 4), "float64")
    theirs = MultiTaskLasso(strength / 6, fit_intercept=False, tol=1e-14, max_iter=10000)
    expected = theirs.fit(np.eye(6), w).coef_.T
    with jax.enable_x64(True):
        mine = w if groups == "inputs" else w.T
        ours = penalties.prox_group_lasso(jnp.asarray(mine), strength / 2, groups)
    ours = ours if groups == "inputs" else ours.T
    bars = {"float64": 1e-7}
    owner = "sklearn.linear_model.MultiTaskLasso"
    compare("penalties.prox_group_lasso", owner, ours, expected, bars)
    np.testing.assert_array_equal(np.asarray(ours) == 0, expected == 0)


@pytest.mark.parity
@given(seed=seeds, dtype=dtypes, strength=st.sampled_from([0.0, 0.1, 0.7]))
def test_prox_of_l1_is_torchs_softshrink(seed: int, dtype: str, strength: float) -> None:
    import torch

    w = kernel(seed, (7, 5), dtype)
    expected = torch.nn.functional.softshrink(torch.tensor(w), strength).numpy()
    with jax.enable_x64(dtype == "float64"):
        ours = penalties.prox_l1(jnp.asarray(w), strength)
    compare("penalties.prox_l1", "torch.nn.functional.softshrink", ours, expected)
    np.testing.assert_array_equal(np.asarray(ours) == 0, expected == 0)


@pytest.mark.parametrize("name", penalties.PROXIMAL)
def test_prox_contract(name: str) -> None:
    """Identity at 0, zeros at infinity, dtype kept, one trace for all strengths, vmap = loop."""
    prox, strengths = penalties.PROXIMAL[name], jnp.array([0.0, 0.3, 1e9])
    results = one_program(partial(prox, PARAMS), strengths, atol=1e-6)
    assert_close(results[0], PARAMS)
    if name not in ("none", "l2"):
        assert all((abs(leaf) < 1e-8).all() for leaf in jax.tree.leaves(results[2]))
    low = prox(jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS), 0.3)
    assert {leaf.dtype for leaf in jax.tree.leaves(low)} == {jnp.bfloat16.dtype}
    broken = prox(jax.tree.map(lambda x: x.at[0].set(jnp.nan), PARAMS), 0.3)
    assert all(jnp.isnan(leaf).any() for leaf in jax.tree.leaves(broken))


# Projections.

PROJECTIONS = {
    "max_norm": lambda w: penalties.project_max_norm(w, 1.5),
    "unit": penalties.project_unit,
    "l1_ball": lambda w: penalties.project_l1_ball(w, 1.5),
}


@pytest.mark.parity
@given(seed=seeds, shape=kernels)
def test_projections_are_keras_constraints(seed: int, shape: tuple[int, ...]) -> None:
    import keras

    w = kernel(seed, shape, "float32")
    axes = list(range(len(shape) - 1))
    for name, theirs in (
        ("max_norm", keras.constraints.MaxNorm(1.5, axis=axes)),
        ("unit", keras.constraints.UnitNorm(axis=axes)),
    ):
        owner = f"keras.constraints.{type(theirs).__name__}"
        ours = PROJECTIONS[name](jnp.asarray(w))
        compare(f"penalties.project_{name}", owner, ours, np.asarray(theirs(w)))


@pytest.mark.parametrize("name", PROJECTIONS)
def test_projection_contract(name: str) -> None:
    """Inside afterwards, the same again, zeros stay finite, dtype kept, gradients finite."""
    project = PROJECTIONS[name]
    w = jax.random.normal(jax.random.key(0), (7, 5))
    inside = project(w)
    np.testing.assert_allclose(project(inside), inside, atol=1e-6)
    lengths = jnp.sqrt(jnp.square(inside).sum(0))
    if name == "l1_ball":
        assert abs(inside).sum() <= 1.5 + 1e-5
    else:
        assert (lengths <= (1.5 if name == "max_norm" else 1) + 1e-6).all()
    assert not project(jnp.zeros((7, 5))).any()
    assert jnp.isfinite(jax.grad(lambda w: project(w).sum())(jnp.zeros((7, 5)))).all()
    assert project(w.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    assert project({}) == {}


def test_the_l1_ball_of_no_radius_is_zero() -> None:
    w = jnp.array([3.0, -2.0])
    lanes = jax.vmap(partial(penalties.project_l1_ball, w))(jnp.array([0.0, 2.0, 9.0]))
    np.testing.assert_allclose(lanes, [[0, 0], [1.5, -0.5], [3, -2]], atol=1e-6)


def test_groups_of_half_precision_do_not_overflow() -> None:
    """Of length 5,196 below a threshold of 6,928; squares beyond what float16 can hold."""
    w = jnp.full((300, 1), 300.0, jnp.float16)
    assert not penalties.prox_group_lasso(w, 400.0).any()


def test_the_l1_ball_is_where_soft_thresholding_ends() -> None:
    """Projection on the ball is thresholding at the level that reaches its radius."""
    w = jax.random.normal(jax.random.key(0), (40,))
    inside = penalties.project_l1_ball(w, 3.0)
    level = (jnp.abs(w) - jnp.abs(inside))[inside != 0].mean()
    np.testing.assert_allclose(inside, penalties.prox_l1(w, level), atol=1e-6)
