"""Penalties: one contract for all, and the map between penalty and decay."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from regjax import penalties, trees

NAMES = [name for name in penalties.PENALTIES if name != "none"]
PARAMS = {
    "dense": {
        "kernel": jnp.array([[1.0, -2.0], [0.0, 3.0]]),
        "bias": jnp.array([0.5, -0.5]),
    }
}


@pytest.mark.parametrize("name", penalties.PENALTIES)
def test_contract(name: str) -> None:
    """A scalar of float32, 0 at 0, never negative, even, finite gradient at 0, jit = no jit."""
    penalty = penalties.PENALTIES[name]
    value = penalty(PARAMS)
    assert (value.shape, value.dtype) == ((), jnp.float32)
    assert value >= 0
    assert penalty(jax.tree.map(jnp.negative, PARAMS)) == value
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    assert penalty(zeros) == 0
    assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(jax.grad(penalty)(zeros)))
    assert jax.jit(penalty)(PARAMS) == value
    assert penalty(jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)).dtype == jnp.float32
    assert penalty([]) == 0
    many = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), PARAMS)
    np.testing.assert_allclose(jax.vmap(penalty)(many)[0], value)


@pytest.mark.parametrize("name", NAMES)
def test_grows_with_the_weights(name: str) -> None:
    penalty = penalties.PENALTIES[name]
    assert penalty(jax.tree.map(lambda x: 2 * x, PARAMS)) > penalty(PARAMS) > 0


def test_closed_forms() -> None:
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(PARAMS)])
    assert penalties.l1(PARAMS) == np.linalg.norm(flat, 1)
    np.testing.assert_allclose(penalties.l2(PARAMS), np.linalg.norm(flat) ** 2)
    mean = (penalties.l1(PARAMS) + penalties.l2(PARAMS)) / 2
    assert penalties.elastic_net(PARAMS) == mean
    assert penalties.elastic_net(PARAMS, 1.0) == penalties.l1(PARAMS)


def test_mask_covers_kernels_or_all() -> None:
    assert penalties.l1(trees.select(PARAMS, "kernels")) == 6
    assert penalties.l1(trees.select(PARAMS, "all")) == 7


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
