"""Transformations: one contract for all, parity with PyTorch, Keras and optax, and faults."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regjax import penalties, transforms

from .contract import assert_close, one_program
from .parity import TWENTY_STEPS, compare

KEY = jax.random.key(0)
PARAMS = {"dense": {"kernel": jnp.array([[1.0, -2.0], [0.3, 3.0]]), "bias": jnp.array([0.5, -0.5])}}
GRADS = jax.tree.map(lambda w: jnp.cos(3 * w), PARAMS)


def gradient(params: Any) -> Any:
    return jax.grad(lambda p: sum(jnp.sin(3 * leaf).sum() for leaf in jax.tree.leaves(p)))(params)


class Member(NamedTuple):
    """A transformation as a function of its strength, and two strengths that differ in effect."""

    make: Callable[[Any], optax.GradientTransformation]
    one: float
    other: float


FAMILY = {
    "clip_by_value": Member(transforms.clip_by_value, 0.1, 0.2),
    "clip_by_norm": Member(transforms.clip_by_norm, 0.1, 0.2),
    "clip_by_norm optax": Member(lambda s: transforms.clip_by_norm(s, "optax"), 0.1, 0.2),
    "clip_by_leaf_norm": Member(transforms.clip_by_leaf_norm, 0.1, 0.2),
    "adaptive_clip": Member(transforms.adaptive_clip, 0.01, 0.02),
    "add_penalty": Member(lambda s: transforms.add_penalty(penalties.l1, s), 0.1, 0.2),
    "coupled_decay": Member(transforms.coupled_decay, 0.1, 0.2),
    "decoupled_decay": Member(lambda s: transforms.decoupled_decay(s, 0.5), 0.1, 0.2),
    "momentum": Member(transforms.momentum, 0.9, 0.5),
    "momentum nesterov": Member(lambda s: transforms.momentum(s, 0.1, nesterov=True), 0.9, 0.5),
    "scale_by_adagrad": Member(transforms.scale_by_adagrad, 1.0, 2.0),
    "scale_by_adam_hat": Member(lambda s: transforms.scale_by_adam_hat(epsilon=s), 1.0, 2.0),
    "proximal": Member(lambda s: transforms.proximal(penalties.prox_l1, s, 0.5), 0.1, 0.2),
    "project": Member(
        lambda s: transforms.project(lambda w: penalties.project_max_norm(w, s)), 0.5, 1.0
    ),
    "gradient_noise": Member(lambda s: transforms.gradient_noise(KEY, s), 0.1, 0.2),
    "sam": Member(transforms.sam, 0.1, 0.2),
    "ema": Member(transforms.ema, 0.9, 0.5),
    "swa": Member(lambda s: transforms.swa(s, 2), 1, 2),
}
NEED_PARAMS = ["add_penalty", "decoupled_decay", "proximal", "project", "sam", "ema", "swa"]


def run(tx: optax.GradientTransformation, params: Any, steps: int = 3) -> tuple[Any, Any, Any]:
    """The last updates, the state and the parameters after some steps."""
    tx = optax.with_extra_args_support(tx)
    state, updates = tx.init(params), None
    for _ in range(steps):
        updates, state = tx.update(gradient(params), state, params, gradient=gradient)
        params = optax.apply_updates(params, updates)
    return updates, state, params


@pytest.mark.parametrize("name", FAMILY)
def test_contract(name: str) -> None:
    """jit = eager, one trace for all strengths, vmap = loop, structure and dtype kept."""
    make, one, other = FAMILY[name]
    strengths = jnp.array([one, other])
    first, second = one_program(lambda s: run(make(s), PARAMS), strengths, 2e-5, 2e-5)
    differ = [
        not np.allclose(a, b)
        for a, b in zip(jax.tree.leaves(first[:2]), jax.tree.leaves(second[:2]), strict=True)
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
    ]
    assert any(differ)
    updates, state, _ = first
    assert jax.tree.structure(updates) == jax.tree.structure(PARAMS)
    assert jax.tree.structure(state) == jax.tree.structure(make(one).init(PARAMS))


@pytest.mark.parametrize("name", FAMILY)
def test_dtype_is_kept(name: str) -> None:
    params = jax.tree.map(lambda w: w.astype(jnp.bfloat16), PARAMS)
    tx = optax.with_extra_args_support(FAMILY[name].make(FAMILY[name].one))
    updates, _ = tx.update(gradient(params), tx.init(params), params, gradient=gradient)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.bfloat16.dtype}


@pytest.mark.parametrize("name", FAMILY)
def test_works_with_optaxs_wrappers(name: str, tmp_path: Path) -> None:
    """In `chain`, `masked`, `inject_hyperparams` and `MultiSteps`, and through a checkpoint."""
    make, one, _ = FAMILY[name]
    plain = run(make(one), PARAMS)
    chained = run(optax.chain(make(one), optax.identity()), PARAMS)
    assert_close(chained[0], plain[0])
    if name != "sam":  # its function of the gradient knows no mask
        inner = optax.masked(make(one), {"dense": {"kernel": True, "bias": False}})
        updates, _, _ = run(inner, PARAMS, 1)
        np.testing.assert_array_equal(updates["dense"]["bias"], gradient(PARAMS)["dense"]["bias"])
    factory: Any = optax.inject_hyperparams(lambda strength: make(strength))
    assert_close(run(factory(strength=one), PARAMS)[0], plain[0])
    many = optax.MultiSteps(make(one), every_k_schedule=1)
    if name != "sam":
        state = many.init(PARAMS)
        updates, state = many.update(gradient(PARAMS), state, PARAMS)
        assert_close(updates, run(make(one), PARAMS, 1)[0])
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", plain[1] or {"none": jnp.zeros(1)})
        checkpointer.wait_until_finished()
        if jax.tree.leaves(plain[1]):
            assert_close(checkpointer.restore(tmp_path / "state", plain[1]), plain[1])


@pytest.mark.parametrize("name", NEED_PARAMS)
def test_says_that_it_needs_the_parameters(name: str) -> None:
    tx = FAMILY[name].make(FAMILY[name].one)
    with pytest.raises(ValueError, match=r"needs? (the )?param"):
        tx.update(GRADS, tx.init(PARAMS))


@pytest.mark.parametrize("name", [n for n in FAMILY if "clip" in n])
def test_clips_leave_zeros_and_show_nan(name: str) -> None:
    tx = FAMILY[name].make(FAMILY[name].one)
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = tx.update(zeros, tx.init(PARAMS), PARAMS)
    assert_close(updates, zeros)
    differentiated = jax.grad(
        lambda g: sum(u.sum() for u in jax.tree.leaves(tx.update(g, tx.init(PARAMS), PARAMS)[0]))
    )
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(differentiated(GRADS)))
    broken = jax.tree.map(lambda g: g.at[0].set(jnp.nan), GRADS)
    updates, _ = tx.update(broken, tx.init(PARAMS), PARAMS)
    assert all(jnp.isnan(leaf).any() for leaf in jax.tree.leaves(updates))


def test_masks_by_path() -> None:
    tx = transforms.coupled_decay(0.1, mask="kernels")
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    np.testing.assert_array_equal(updates["dense"]["bias"], GRADS["dense"]["bias"])
    with pytest.raises(ValueError, match=r"'nowhere' matches no parameter; .* dense/bias"):
        transforms.proximal(penalties.prox_l1, 0.1, 0.1, mask="nowhere").init(PARAMS)


def test_strengths_may_be_schedules() -> None:
    def schedule(count: jax.Array) -> jax.Array:
        return 0.1 / (count + 1)

    for make in (
        lambda s: transforms.add_penalty(penalties.l2, s),
        transforms.coupled_decay,
        lambda s: transforms.decoupled_decay(s, s),
        lambda s: transforms.proximal(penalties.prox_l2, s, s),
    ):
        tx = make(schedule)
        state = tx.init(PARAMS)
        for count in range(3):
            updates, state = tx.update(GRADS, state, PARAMS)
            fixed = make(schedule(jnp.asarray(count)))
            expected, _ = fixed.update(GRADS, fixed.init(PARAMS), PARAMS)
            assert_close(updates, expected)


# Parity.


@pytest.mark.parity
@given(seed=st.integers(0, 2**16), threshold=st.sampled_from([1e-3, 0.5, 30.0]))
def test_clips_are_torchs_and_keras(seed: int, threshold: float) -> None:
    import keras
    import torch

    rng = np.random.default_rng(seed)
    grads = [rng.normal(size=shape).astype(np.float32) for shape in ((3, 4), (5,))]

    def ours(tx: optax.GradientTransformation) -> Any:
        return tx.update(list(map(jnp.asarray, grads)), tx.init(None))[0]

    def theirs(clip: Any) -> Any:
        params = [torch.zeros(g.shape, requires_grad=True) for g in grads]
        for param, g in zip(params, grads, strict=True):
            param.grad = torch.tensor(g)
        clip(params, threshold)
        return [param.grad.numpy() for param in params if param.grad is not None]

    utils = torch.nn.utils
    by_norm, by_value = theirs(utils.clip_grad_norm_), theirs(utils.clip_grad_value_)
    norm = transforms.clip_by_norm(threshold)
    compare("transforms.clip_by_norm", "torch.nn.utils.clip_grad_norm_", ours(norm), by_norm)
    value = transforms.clip_by_value(threshold)
    compare("transforms.clip_by_value", "torch.nn.utils.clip_grad_value_", ours(value), by_value)
    for name, option, owner in (
        ("clip_by_leaf_norm", transforms.clip_by_leaf_norm(threshold), "clipnorm"),
        ("clip_by_norm", transforms.clip_by_norm(threshold, "optax"), "global_clipnorm"),
    ):
        optimizer = keras.optimizers.SGD(1.0, **{owner: threshold})
        variables = [keras.Variable(np.zeros_like(g)) for g in grads]
        optimizer.apply(list(map(jnp.asarray, grads)), variables)
        expected = [-np.asarray(variable) for variable in variables]
        compare(f"transforms.{name}", f"keras {owner}", ours(option), expected)


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_averages_are_torchs(dtype: str) -> None:
    import torch
    from torch.optim import swa_utils

    rng = np.random.default_rng(0)
    steps = rng.normal(size=(20, 4)).astype(dtype)
    for name, make, options, every in (
        ("ema", transforms.ema(0.9), {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.9)}, 1),
        ("swa", transforms.swa(), {}, 1),
        ("swa", transforms.swa(start=4, every=3), {}, 3),
    ):
        network = torch.nn.Linear(4, 1, bias=False, dtype=getattr(torch, dtype))
        start = network.weight.detach().numpy().copy()
        averaged = swa_utils.AveragedModel(network, **options)
        with jax.enable_x64(dtype == "float64"):
            w = jnp.asarray(start)
            state = make.init(w)
            for t, step in enumerate(steps):
                with torch.no_grad():
                    network.weight += torch.tensor(step)
                if every == 1 or (t >= 4 and (t - 4) % every == 0):
                    averaged.update_parameters(network)
                updates, state = make.update(jnp.asarray(step[None]), state, w)
                w = optax.apply_updates(w, updates)
            ours = optax.tree.get(state, "average")
        owner = "torch.optim.swa_utils.AveragedModel"
        expected = averaged.module.weight.detach().numpy()
        compare(f"transforms.{name}", owner, ours, expected, TWENTY_STEPS)


@pytest.mark.parametrize("average", [transforms.swa(), transforms.ema(0.99)])
def test_averages_of_half_precision_do_not_drift(average: Any) -> None:
    w = jnp.array([1.0, 0.9, 1.7, 100.0], jnp.bfloat16)
    state = jax.lax.fori_loop(
        0, 1000, lambda _, s: average.update(jnp.zeros_like(w), s, w)[1], average.init(w)
    )
    np.testing.assert_allclose(state.average, w.astype(jnp.float32), rtol=1e-4)


def test_adam_of_half_precision_moves() -> None:
    tx, g = transforms.scale_by_adam_hat(), jnp.ones(1, jnp.bfloat16)
    np.testing.assert_allclose(tx.update(g, tx.init(g))[0].astype(jnp.float32), 1, atol=0.01)


@pytest.mark.parametrize("convention", ["torch", "optax"])
def test_a_norm_beyond_half_precision_is_clipped(convention: str) -> None:
    """‖g‖ = 30,000 is a sum of squares of 9e8."""
    tx, g = transforms.clip_by_norm(1.0, convention), jnp.full((100, 100), 300.0, jnp.float16)
    clipped, _ = tx.update(g, tx.init(g))
    assert clipped.dtype == jnp.float16
    np.testing.assert_allclose(clipped.astype(jnp.float32), 0.01, rtol=1e-3)


def test_a_leaf_clipped_to_no_length() -> None:
    tx = transforms.clip_by_leaf_norm(0.0)
    for g in (jnp.zeros(2), jnp.ones(2)):
        assert not tx.update(g, tx.init(g))[0].any()


def test_before_swa_starts_the_average_is_the_weights() -> None:
    """So a run is judged by what it has learned, not by its first weights."""
    w, tx = jnp.zeros(2), transforms.swa(start=3)
    state = tx.init(w)
    for step in range(5):
        updates, state = tx.update(jnp.full(2, 1.0 + step), state, w)
        w = optax.apply_updates(w, updates)
        expected = w if step <= 3 else jnp.full(2, (10.0 + 15.0) / 2)
        np.testing.assert_array_equal(optax.tree.get(state, "average"), expected)


def test_sam_is_optaxs() -> None:
    """The same walk as optax's SAM, which takes its two gradients on two calls."""
    w = {"w": jnp.array([1.0, -2.0, 0.5])}

    def grad(w: Any) -> Any:
        return jax.grad(lambda w: jnp.sin(2 * w["w"]).sum())(w)

    _, _, ours = run_with(optax.chain(transforms.sam(0.3), optax.sgd(0.1)), w, grad)
    perturb = optax.chain(optax.contrib.normalize(), optax.sgd(0.3))
    theirs = optax.contrib.sam(optax.sgd(0.1), perturb, sync_period=2)
    state, params = theirs.init(w), w
    for _ in range(6):
        updates, state = theirs.update(grad(params), state, params)
        params = optax.apply_updates(params, updates)
    assert_close(ours, params, 1e-5)


def run_with(tx: Any, params: Any, grad: Any) -> Any:
    state, updates = tx.init(params), None
    for _ in range(3):
        updates, state = tx.update(grad(params), state, params, gradient=grad)
        params = optax.apply_updates(params, updates)
    return updates, state, params


# What they are for.


def test_proximal_steps_give_exact_zeros_where_the_loss_term_gives_none() -> None:
    """Lasso on scikit-learn's diabetes data: ISTA as a chain, against the L1 term in the loss."""
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Lasso

    x, y = load_diabetes(return_X_y=True)
    expected = Lasso(1.0, tol=1e-12, max_iter=100_000).fit(x, y).coef_
    with jax.enable_x64(True):
        x, y = jnp.asarray(x), jnp.asarray(y - y.mean())
        rate = float(len(y) / jnp.linalg.eigvalsh(x.T @ x)[-1])

        def loss(w: jax.Array) -> jax.Array:
            return jnp.square(x @ w - y).mean() / 2

        def descend(tx: optax.GradientTransformation) -> jax.Array:
            def step(carry: Any, _: Any) -> Any:
                w, state = carry
                updates, state = tx.update(jax.grad(loss)(w), state, w)
                return (optax.apply_updates(w, updates), state), None

            w = jnp.zeros(10)
            return jax.lax.scan(step, (w, tx.init(w)), length=4000)[0][0]

        step = optax.sgd(rate)
        exact = np.asarray(
            descend(optax.chain(step, transforms.proximal(penalties.prox_l1, 1.0, rate)))
        )
        by_loss = np.asarray(descend(optax.chain(transforms.add_penalty(penalties.l1, 1.0), step)))
    np.testing.assert_allclose(exact, expected, atol=1e-6)
    assert int((exact == 0).sum()) == 7
    assert int((by_loss == 0).sum()) == 0


def test_projected_steps_stay_inside() -> None:
    tx = optax.chain(
        optax.sgd(1.0),
        transforms.project(lambda w: penalties.project_max_norm(w, 0.7), mask="kernels"),
    )
    _, _, params = run(tx, PARAMS)
    lengths = jnp.linalg.norm(params["dense"]["kernel"], axis=0)
    assert (lengths <= 0.7 + 1e-6).all()


def test_sgd_with_penalty_is_coupled_decay_is_rescaled_decoupled_decay() -> None:
    rate = 0.1
    by_penalty = optax.chain(transforms.add_penalty(penalties.l2, 0.2), optax.sgd(rate))
    coupled = optax.chain(transforms.coupled_decay(0.4), optax.sgd(rate))
    decoupled = optax.chain(optax.sgd(rate), transforms.decoupled_decay(0.4, rate))
    independent = optax.chain(optax.sgd(rate), transforms.decoupled_decay(0.4 * rate))
    walks = [run(tx, PARAMS)[2] for tx in (by_penalty, coupled, decoupled, independent)]
    for other in walks[1:]:
        assert_close(other, walks[0], 1e-5)


def test_gradient_noise_has_its_variance_and_lets_it_fall() -> None:
    tx = transforms.gradient_noise(KEY, eta=4.0, gamma=1.0)
    zeros = jnp.zeros(20_000)
    state = tx.init(zeros)
    for expected in (4.0, 2.0, 4 / 3):
        noise, state = tx.update(zeros, state)
        assert float(noise.var()) == pytest.approx(expected, rel=0.05)


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(ValueError, match="'torch' or 'optax', got 'keras'"):
        transforms.clip_by_norm(1.0, "keras")
