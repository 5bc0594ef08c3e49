"""Losses against PyTorch, metrics, and the properties of dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regjax import losses, metrics
from regjax.dropout import dropout


@pytest.mark.parity
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_is_torchs(smoothing: float) -> None:
    import torch

    rng = np.random.default_rng(0)
    logits = (10 * rng.normal(size=(50, 7))).astype(np.float32)
    labels = rng.integers(0, 7, 50)
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(logits), torch.tensor(labels), reduction="none", label_smoothing=smoothing
    )
    ours = losses.cross_entropy(jnp.asarray(logits), jnp.asarray(labels), smoothing)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-5)


def test_cross_entropy_of_huge_and_bfloat16_logits_is_finite() -> None:
    logits = jnp.array([[1e4, -1e4]], jnp.bfloat16)
    value = losses.cross_entropy(logits, jnp.array([1]), 0.1)
    assert value.dtype == jnp.float32
    assert jnp.isfinite(value).all()


def test_a_diverged_network_gets_nothing_right() -> None:
    assert metrics.correct(jnp.full((3, 4), jnp.nan), jnp.zeros(3, int)).sum() == 0


@settings(max_examples=20, deadline=None)
@given(values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=8))
def test_masked_mean_is_the_mean_of_what_counts(values: list[float]) -> None:
    x = jnp.array([*values, jnp.nan, jnp.inf])
    mask = jnp.array([1.0] * len(values) + [0.0] * 2)
    np.testing.assert_allclose(metrics.masked_mean(x, mask), np.mean(values), atol=1e-3)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_the_share(rate: float) -> None:
    y = dropout(jax.random.key(0), jnp.ones(200_000), rate)
    np.testing.assert_allclose((y == 0).mean(), rate, atol=0.005)
    np.testing.assert_allclose(y.mean(), 1, atol=0.03)
    kept = y[y > 0]
    np.testing.assert_allclose(kept, 1 / (1 - rate), rtol=1e-6)


def test_dropout_rates_0_and_1_are_exact_even_traced_and_their_gradient_is_finite() -> None:
    x = jnp.array([1.5, -2.0, 3.0])
    many = jax.jit(jax.vmap(lambda rate: dropout(jax.random.key(0), x, rate)))
    got = many(jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(got, [x, jnp.zeros(3)])
    for rate in (0.0, 1.0):
        grad = jax.grad(lambda x, r: dropout(jax.random.key(0), x, r).sum())(x, rate)
        np.testing.assert_array_equal(grad, 1 - rate)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_dropout_keeps_the_dtype(dtype: jnp.dtype) -> None:
    assert dropout(jax.random.key(0), jnp.ones(3, dtype), jnp.float32(0.5)).dtype == dtype
