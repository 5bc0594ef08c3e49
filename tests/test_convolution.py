"""The fast convolution equals lax's, forward and backward."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from regjax import convolution as conv


def example(shape: tuple[int, ...], seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def definition(x: jax.Array, kernel: jax.Array, padding: conv.Padding) -> jax.Array:
    """Shift by shift; jaxlib 0.10.2's own input gradient on CPU is wrong where the padding is
    wider than the window, e.g. padding ((0, 0), (2, 0)), window (1, 2).
    """
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows, columns = x.shape[1] - kernel.shape[0] + 1, x.shape[2] - kernel.shape[1] + 1
    return sum(
        x[:, i : i + rows, j : j + columns] @ kernel[i, j]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    )


@partial(jax.jit, static_argnums=(0, 1))
def value_and_gradients(
    convolution: Callable[..., jax.Array], padding: conv.Padding, x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, ...]:
    y, pull = jax.vjp(lambda x, kernel: convolution(x, kernel, padding), x, kernel)
    return y, *pull(example(y.shape, 2))


@given(
    n=st.integers(1, 3),
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
)
def test_value_and_gradients_are_the_definitions(
    n: int,
    size: tuple[int, int],
    window: tuple[int, int],
    channels: tuple[int, int],
    pads: tuple[int, int, int, int],
) -> None:
    padding = (pads[:2], pads[2:])
    x, kernel = example((n, *size, channels[0]), 0), example((*window, *channels), 1)

    mine = value_and_gradients(conv.conv2d, padding, x, kernel)
    expected = value_and_gradients(definition, padding, x, kernel)
    laxs = lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=conv.NHWC)
    np.testing.assert_allclose(mine[0], laxs, atol=1e-4)
    for got, want in zip(mine, expected, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "padding"),
    [((8, 8), ((0, 0), (0, 0))), ((9, 10), ((1, 1), (1, 1))), ((11, 7), ((2, 0), (1, 3)))],
    ids=str,
)
def test_many_channels_take_winograds_way(size: tuple[int, int], padding: conv.Padding) -> None:
    x, kernel = example((2, *size, 32), 0), 0.1 * example((3, 3, 32, 8), 1)
    assert conv.winograd.pays(x, kernel, padding)
    assert not conv.winograd.pays(x.astype(jnp.bfloat16), kernel, padding)
    got = value_and_gradients(conv.conv2d, padding, x, kernel)
    wanted = value_and_gradients(definition, padding, x, kernel)
    for ours, theirs in zip(got, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=3e-6 * float(jnp.abs(theirs).max()))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "SAME"},
        {"padding": ((1, 2), (0, 1))},
        {"window_strides": (2, 1)},
        {"rhs_dilation": (2, 2)},
        {"lhs_dilation": (2, 1), "padding": ((1, 1), (0, 0))},
        {"feature_group_count": 2},
        {"precision": lax.Precision.HIGHEST},
        {"preferred_element_type": jnp.float32},
        {"dimension_numbers": ("NCHW", "OIHW", "NCHW")},
    ],
    ids=str,
)
def test_drop_in_for_every_option(options: dict) -> None:
    numbers = options.get("dimension_numbers", conv.NHWC)
    groups = options.get("feature_group_count", 1)
    x = example((2, 6, 6, 4) if numbers == conv.NHWC else (2, 4, 6, 6), 0)
    kernel = example((3, 3, 4 // groups, 8) if numbers == conv.NHWC else (8, 4, 3, 3), 1)
    arguments = {"window_strides": (1, 1), "padding": "VALID", "dimension_numbers": numbers}
    arguments |= options
    got, want = (
        jax.jit(jax.grad(lambda k, f=f: jnp.sin(f(x, k, **arguments)).sum()))(kernel)
        for f in (conv.conv_general_dilated, lax.conv_general_dilated)
    )
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_under_vmap_is_a_loop() -> None:
    xs, kernels = example((3, 2, 6, 6, 2), 0), example((3, 3, 3, 2, 4), 1)

    @jax.jit
    def gradient(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.grad(lambda k: jnp.sin(conv.conv2d(x, k, ((1, 1), (1, 1)))).sum())(kernel)

    together = jax.jit(jax.vmap(gradient))(xs, kernels)
    for i in range(3):
        np.testing.assert_allclose(together[i], gradient(xs[i], kernels[i]), atol=1e-4)


@pytest.mark.parity
@pytest.mark.parametrize("size", [(6, 8), (7, 9)])
def test_max_pool_is_torchs(size: tuple[int, int]) -> None:
    import torch

    x = example((2, *size, 3), 0)
    theirs = torch.tensor(np.moveaxis(np.asarray(x), -1, 1), requires_grad=True)
    pooled = torch.nn.functional.max_pool2d(theirs, 2)
    pooled.pow(2).sum().backward()
    assert theirs.grad is not None
    np.testing.assert_array_equal(conv.max_pool_2x2(x), np.moveaxis(pooled.detach().numpy(), 1, -1))
    ours = jax.grad(lambda x: (conv.max_pool_2x2(x) ** 2).sum())(x)
    np.testing.assert_allclose(ours, np.moveaxis(theirs.grad.numpy(), 1, -1), atol=1e-6)
