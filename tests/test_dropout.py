"""Dropout against PyTorch given its mask, the shape of each mask, and the contract of all."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

from regjax import dropout as drop

from .contract import one_program
from .parity import compare

KEY = jax.random.key(0)
SHAPE = (4, 6, 6, 8)  # N, H, W, C; for variational dropout N, T, ...
# (key, x, rate) and how many draws decide over an array of SHAPE.
FAMILY: dict[str, tuple[Callable[[jax.Array, jax.Array, Any], jax.Array], int]] = {
    "dropout": (drop.dropout, 4 * 6 * 6 * 8),
    "spatial_dropout": (drop.spatial_dropout, 4 * 8),
    "variational_dropout": (drop.variational_dropout, 4 * 6 * 8),
    "stochastic_depth_row": (drop.stochastic_depth, 4),
    "stochastic_depth_batch": (lambda k, x, r: drop.stochastic_depth(k, x, r, "batch"), 1),
    "drop_connect": (drop.drop_connect, 4 * 6 * 6 * 8),
    "alpha_dropout": (drop.alpha_dropout, 4 * 6 * 6 * 8),
    "drop_block": (lambda k, x, r: drop.drop_block(k, x, r, 3), 4 * 8),
}
members = pytest.mark.parametrize("name", FAMILY)


@members
def test_contract(name: str) -> None:
    """Rates 0 and 1 exact, jit = eager, vmap over rates = loop, one program, finite gradients."""
    function = FAMILY[name][0]
    x, rates = jax.random.normal(jax.random.key(1), SHAPE), jnp.array([0.0, 0.3, 1.0])
    loop = one_program(lambda rate: function(KEY, x, rate), rates)
    np.testing.assert_array_equal(loop[0], x)
    np.testing.assert_array_equal(loop[2], 0)
    assert ((loop[1] == x) < 1).any()
    gradient = jax.jit(jax.grad(lambda x, rate: (function(KEY, x, rate) ** 2).sum(), (0, 1)))
    for rate in rates:
        assert all(jnp.isfinite(g).all() for g in gradient(x, rate))


@members
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_keeps_the_dtype(name: str, dtype: str) -> None:
    function = jax.jit(FAMILY[name][0])
    with jax.enable_x64(dtype == "float64"):
        x = jnp.ones((2, 3, 3, 4), dtype)
        y = function(KEY, x, jnp.float32(0.5))
        assert (y.dtype, y.shape) == (x.dtype, x.shape)
        np.testing.assert_array_equal(function(KEY, x, jnp.float32(0)), x)


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "alpha_dropout"])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_keeps_the_mean_and_drops_the_share(name: str, rate: float) -> None:
    """Over 400 keys, within five standard errors of as many draws."""
    function, draws = FAMILY[name]
    each = jax.jit(jax.vmap(lambda key: function(key, jnp.ones(SHAPE), rate)))
    y = each(jax.random.split(KEY, 400))
    error = np.sqrt(rate * (1 - rate) / (400 * draws))
    np.testing.assert_allclose(y.mean(), 1, atol=5 * error / (1 - rate))
    if name != "drop_block":  # its share and its scale have their own test
        np.testing.assert_allclose((y == 0).mean(), rate, atol=5 * error)
        np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6)


# PyTorch, given one mask: its own, put in the place of our uniform numbers.


def given_mask(kept: np.ndarray) -> Any:
    """Uniform numbers that keep exactly what `kept` says, whatever the rate in (0, 1)."""
    numbers = np.where(kept, 0, 1 - 2**-24).astype(np.float32)
    return mock.patch.object(jax.random, "uniform", lambda key, shape, dtype: jnp.asarray(numbers))


def torch_layer(name: str, rate: float, x: np.ndarray) -> np.ndarray:
    import torch

    layer = getattr(torch.nn, name)(rate)
    y = layer(torch.tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1))))
    return np.moveaxis(y.numpy(), 1, -1)


@pytest.mark.parity
@given(
    dtype=st.sampled_from(["float32", "float64"]),
    rate=st.sampled_from([0.1, 0.5, 0.9]),
    seed=st.integers(0, 2**16),
)
def test_values_are_torchs(dtype: str, rate: float, seed: int) -> None:
    import torch

    torch.manual_seed(seed)
    x = np.random.default_rng(seed).normal(size=(4, 5, 3, 8)).astype(dtype)
    with jax.enable_x64(dtype == "float64"):
        expected = torch_layer("Dropout", rate, x)
        with given_mask(expected != 0):
            ours = drop.dropout(KEY, jnp.asarray(x), rate)
        compare("dropout.dropout", "torch.nn.Dropout", ours, expected)
        expected = torch_layer("Dropout2d", rate, x)
        with given_mask((expected != 0).all((1, 2), keepdims=True)):
            ours = drop.spatial_dropout(KEY, jnp.asarray(x), rate)
        compare("dropout.spatial_dropout", "torch.nn.Dropout2d", ours, expected)
        expected = torch_layer("AlphaDropout", rate, x)
        # What is dropped has one value for all; no kept value occurs twice.
        values, counts = np.unique(expected, return_counts=True)
        dropped = (expected == values[counts.argmax()]) & (counts.max() > 1)
        with given_mask(~dropped):
            ours = drop.alpha_dropout(KEY, jnp.asarray(x), rate)
        compare("dropout.alpha_dropout", "torch.nn.AlphaDropout", ours, expected)


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_alpha_dropout_keeps_mean_and_variance_through_selu_layers(rate: float) -> None:
    weights = jax.random.normal(jax.random.key(1), (8, 400, 400)) / 20
    x = jax.random.normal(jax.random.key(2), (2000, 400))
    layer = jax.jit(lambda key, x, w: drop.alpha_dropout(key, jax.nn.selu(x @ w), rate))
    for i, w in enumerate(weights):
        x = layer(jax.random.key(i), x, w)
    assert abs(x.mean()) < 0.05
    assert abs(x.var() - 1) < 0.1


# Which values share one draw.


SHARED = {  # axis by axis, whether all along it are kept or dropped together
    "dropout": (False, False, False, False),
    "drop_connect": (False, False, False, False),
    "spatial_dropout": (False, True, True, False),
    "variational_dropout": (False, True, False, False),
    "stochastic_depth_row": (False, True, True, True),
    "stochastic_depth_batch": (True, True, True, True),
}


@pytest.mark.parametrize("name", SHARED)
def test_masks_are_shared_over_exactly_the_right_axes(name: str) -> None:
    kept = np.asarray(FAMILY[name][0](KEY, jnp.ones((16, 6, 6, 8)), 0.5) != 0)
    shared = tuple(bool((kept == kept.take([0], axis)).all()) for axis in range(4))
    assert shared == SHARED[name]


def test_spatial_is_variational_for_sequences() -> None:
    x = jnp.ones((3, 5, 7))
    np.testing.assert_array_equal(
        drop.spatial_dropout(KEY, x, 0.5), drop.variational_dropout(KEY, x, 0.5)
    )


def test_drop_connect_draws_by_path() -> None:
    """A new weight changes nobody else's mask, and what the mask leaves out stays."""
    weights = {"a": {"kernel": jnp.ones((8, 8)), "bias": jnp.ones(8)}}
    more = {**weights, "aa": {"kernel": jnp.ones((8, 8))}}
    first, second = (drop.drop_connect(KEY, w, 0.5, "kernels") for w in (weights, more))
    np.testing.assert_array_equal(first["a"]["kernel"], second["a"]["kernel"])
    np.testing.assert_array_equal(first["a"]["bias"], 1)
    assert (second["a"]["kernel"] != second["aa"]["kernel"]).any()


@pytest.mark.parametrize("shape", [(64, 9, 4), (64, 7, 8, 4), (8, 6, 5, 7, 4)], ids=len)
@pytest.mark.parametrize("block", [1, 2, 3])
def test_drop_block_drops_blocks(shape: tuple[int, ...], block: int) -> None:
    """Unions of blocks, of the share that the paper's γ gives, and the rest sums to the whole."""
    y = np.asarray(jax.jit(drop.drop_block, static_argnums=3)(KEY, jnp.ones(shape), 0.2, block))
    dropped = y == 0
    cube = np.ones((1, *[block] * (len(shape) - 2), 1))
    opened = scipy.ndimage.binary_opening(dropped, cube)
    np.testing.assert_array_equal(opened, dropped)
    np.testing.assert_allclose(y.mean(), 1, rtol=1e-5)
    # γ · (positions where a block fits) · bˢ = rate · positions; a position survives them all.
    sizes = shape[1:-1]
    fits = [size - block + 1 for size in sizes]
    gamma = 0.2 * np.prod(sizes) / (np.prod(fits) * block ** len(sizes))
    reach = np.ones(())
    for size, fit in zip(sizes, fits, strict=True):
        reach = np.multiply.outer(reach, np.convolve(np.ones(fit), np.ones(block)))
        assert reach.shape[-1] == size
    expected = (1 - (1 - gamma) ** reach).mean()
    error = np.sqrt(0.2 / (shape[0] * shape[-1] * np.prod(fits)))
    np.testing.assert_allclose(dropped.mean(), expected, atol=5 * error)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: drop.spatial_dropout(KEY, x[0, 0], 0.5), r"needs an axis between.*\(6, 8\)"),
        (lambda x: drop.variational_dropout(KEY, x[0, 0], 0.5), "needs an axis between"),
        (lambda x: drop.drop_block(KEY, x[0, 0], 0.5, 1), "needs an axis between"),
        (lambda x: drop.drop_block(KEY, x, 0.5, 7), r"from 1 to the smallest of \(6, 6\), got 7"),
        (lambda x: drop.stochastic_depth(KEY, x, 0.5, "rows"), "'row' or 'batch', got 'rows'"),
    ],
)
def test_bad_arguments(call: Callable[[jax.Array], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(jnp.ones(SHAPE))
