"""The fast convolution equals lax's, forward and backward."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from regjax import convolution as conv
from regjax.by_patches import Padding, plain
from regjax.pooling import max_pool_2x2

NHWC = ("NHWC", "HWIO", "NHWC")


def example(shape: tuple[int, ...], seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def definition(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Shift by shift; jaxlib 0.10.2's own input gradient on CPU is wrong where the padding is
    wider than the window, e.g. padding ((0, 0), (2, 0)), window (1, 2).
    """
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    window = kernel.shape[:-2]
    sizes = [size - r + 1 for size, r in zip(x.shape[1:-1], window, strict=True)]
    return sum(
        x[(slice(None), *(slice(i, i + size) for i, size in zip(place, sizes, strict=True)))]
        @ kernel[place]
        for place in np.ndindex(*window)
    )


@partial(jax.jit, static_argnums=(0, 1))
def value_and_gradients(
    convolution: Callable[..., jax.Array], padding: Padding, x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, ...]:
    y, pull = jax.vjp(lambda x, kernel: convolution(x, kernel, padding), x, kernel)
    return y, *pull(example(y.shape, 2))


def ours(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    return conv.convolution(plain(padding), x, kernel)


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

    mine = value_and_gradients(ours, padding, x, kernel)
    expected = value_and_gradients(definition, padding, x, kernel)
    laxs = lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=NHWC)
    np.testing.assert_allclose(mine[0], laxs, atol=1e-4)
    for got, want in zip(mine, expected, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "window", "padding"),
    [
        ((8, 8), (3, 3), ((0, 0), (0, 0))),
        ((9, 10), (3, 3), ((1, 1), (1, 1))),
        ((11, 7), (3, 3), ((2, 0), (1, 3))),
        ((13, 9), (5, 4), ((2, 2), (0, 1))),
        ((9, 8), (1, 3), ((1, 0), (0, 0))),
        ((65,), (5,), ((3, 1),)),
        ((6, 5, 7), (3, 3, 3), ((1, 1), (1, 1), (0, 2))),
    ],
    ids=str,
)
def test_many_channels_take_winograds_way(
    size: tuple[int, ...], window: tuple[int, ...], padding: Padding
) -> None:
    x, kernel = example((2, *size, 32), 0), 0.1 * example((*window, 32, 8), 1)
    assert conv.winograd.pays(x, kernel, plain(padding))
    assert not conv.winograd.pays(x.astype(jnp.bfloat16), kernel, plain(padding))
    got = value_and_gradients(ours, padding, x, kernel)
    wanted = value_and_gradients(definition, padding, x, kernel)
    without = jax.jit(ours, static_argnums=2)(x, kernel, padding)  # no gradient asked for
    for mine, theirs in zip((*got, without), (*wanted, wanted[0]), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=3e-6 * float(jnp.abs(theirs).max()))


@pytest.mark.parametrize(("n", "r"), [(1, 1), (4, 2), (4, 3), (4, 4), (6, 3), (6, 4), (6, 5)])
def test_winograds_maps_are_exact(n: int, r: int) -> None:
    """A tile's outputs are those of the definition, in float64 to its rounding."""
    t, rng = conv.winograd.tile(n, r), np.random.default_rng(0)
    d, g = rng.normal(size=n), rng.normal(size=r)
    assert t.size == n and t.step == n - r + 1
    y = t.outputs @ ((t.kernel @ g) * (t.inputs @ d))
    np.testing.assert_allclose(y, np.correlate(d, g, "valid"), rtol=0, atol=1e-11)


LAYOUTS = {
    1: ("NWC", "WIO", "NWC"),
    2: NHWC,
    3: ("NDHWC", "DHWIO", "NDHWC"),
}


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "SAME"},
        {"padding": ((1, 2), (0, 1), (1, 1))},
        {"window_strides": (2, 1, 3), "padding": "SAME"},
        {"rhs_dilation": (2, 2, 1), "padding": "SAME"},
        {"lhs_dilation": (2, 1, 2), "padding": ((1, 1), (0, 0), (1, 0))},
        {"feature_group_count": 2, "window_strides": (1, 2, 1)},
        {"feature_group_count": 4},
        {"feature_group_count": 4, "window_strides": (2, 1, 2), "padding": "SAME"},
        {"feature_group_count": 4, "rhs_dilation": (2, 1, 1), "padding": ((1, 2), (0, 1), (1, 1))},
        {"feature_group_count": 4, "lhs_dilation": (2, 2, 1), "padding": ((1, 0), (2, 1), (0, 0))},
        {"precision": lax.Precision.HIGHEST},
        {"preferred_element_type": jnp.float32},
        {"dimension_numbers": [("NCW", "OIW", "NCW"), ("NCHW", "OIHW", "NHWC"), None]},
    ],
    ids=str,
)
def test_drop_in_for_every_option(dimensions: int, options: dict) -> None:
    """Value and gradients of every option, inside a loop, as lax has them outside of it."""
    numbers = options.get("dimension_numbers", [LAYOUTS[d] for d in (1, 2, 3)])[dimensions - 1]
    spec = lax.conv_dimension_numbers(*[(1,) * (dimensions + 2)] * 2, numbers)
    groups = options.get("feature_group_count", 1)
    x = placed(example((2, 4, *(5, 7, 4)[:dimensions]), 0), spec.lhs_spec)
    kernel = placed(example((8, 4 // groups, *(3, 3, 2)[:dimensions]), 1), spec.rhs_spec)
    arguments = {"window_strides": (1, 1, 1), "padding": "VALID", **options}
    for name in ("window_strides", "padding", "lhs_dilation", "rhs_dilation"):
        if not isinstance(arguments.get(name, ""), str):
            arguments[name] = arguments[name][:dimensions]
    arguments["dimension_numbers"] = numbers

    def derivatives(convolution: Callable[..., jax.Array], scale: jax.Array) -> Any:
        def value(x: jax.Array, kernel: jax.Array) -> Any:
            y = convolution(scale * x, kernel, **arguments)
            return jnp.sin(y).sum(), y

        return jax.grad(value, (0, 1), has_aux=True)(x, kernel)

    want = jax.jit(partial(derivatives, lax.conv_general_dilated))(jnp.ones(()))
    got = lax.map(partial(derivatives, conv.conv_general_dilated), jnp.ones(1))
    got = jax.tree.map(lambda a: a[0], got)
    for mine, laxs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert mine.shape == laxs.shape
        np.testing.assert_allclose(mine, laxs, atol=1e-5 * float(jnp.abs(laxs).max()))


@pytest.mark.parametrize(("groups", "channels", "out"), [(8, 4, 4), (3, 2, 5), (2, 16, 16)])
def test_groups_taken_together_do_not_see_each_other(groups: int, channels: int, out: int) -> None:
    geometry = plain(((1, 1), (0, 2)))._replace(groups=groups)
    x = example((2, 8, 8, groups * channels), 0)
    kernel = example((3, 3, channels, groups * out), 1)
    mine, pull = jax.vjp(partial(conv.convolution, geometry), x, kernel)
    wanted, expected = jax.vjp(geometry.lax, x, kernel)
    for got, want in zip((mine, *pull(mine)), (wanted, *expected(wanted)), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5 * float(jnp.abs(want).max()))


def test_a_window_larger_than_the_input_has_no_place() -> None:
    def value(x: jax.Array, kernel: jax.Array) -> jax.Array:
        options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        return conv.conv_general_dilated(x, kernel, (1, 1), "VALID", **options).sum()

    x, kernel = jnp.ones((2, 3, 3, 4)), jnp.ones((5, 5, 4, 2))
    for gradient, like in zip(jax.grad(value, (0, 1))(x, kernel), (x, kernel), strict=True):
        np.testing.assert_array_equal(gradient, jnp.zeros_like(like))


@pytest.mark.parametrize(("size", "channels"), [((5, 7), 4), ((12, 12), 32)], ids=str)
def test_negative_padding_cuts_off(size: tuple[int, int], channels: int) -> None:
    """Against a cut of its own: jaxlib 0.10.2's convolution reads past the end of x on a CPU."""
    geometry = plain(((-1, 1), (0, -2)))
    x, kernel = example((2, *size, channels), 0), example((3, 3, channels, 8), 1)

    def cut(x: jax.Array) -> jax.Array:
        return jnp.pad(x[:, 1:, :-2], ((0, 0), (0, 1), (0, 0), (0, 0)))

    for function in (conv.convolution, conv.many_kernels.convolution):
        mine, pull = jax.vjp(partial(function, geometry), x, kernel)
        wanted, expected = jax.vjp(lambda x, kernel: ours(cut(x), kernel, ((0, 0),) * 2), x, kernel)
        np.testing.assert_allclose(function(geometry, x, kernel), wanted, atol=1e-4)
        for got, want in zip((mine, *pull(mine)), (wanted, *expected(wanted)), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-4 * float(jnp.abs(want).max()))


def placed(array: jax.Array, spec: tuple[int, ...]) -> jax.Array:
    """An array whose axes are in the order of a spec, as the spec's layout has them."""
    return array.transpose(sorted(range(array.ndim), key=spec.__getitem__))


def test_gradients_of_gradients_are_the_definitions() -> None:
    padding = ((1, 0), (2, 1))
    x, kernel = example((2, 5, 6, 8), 0), example((3, 2, 8, 4), 1)

    def lengths(convolution: Callable[..., jax.Array]) -> Any:
        def of_gradients(x: jax.Array, kernel: jax.Array) -> jax.Array:
            value = lambda *p: jnp.sin(convolution(*p, padding)).sum()  # noqa: E731
            return optax.tree.norm(jax.grad(value, (0, 1))(x, kernel), squared=True)

        return jax.jit(jax.grad(of_gradients, (0, 1)))(x, kernel)

    for mine, theirs in zip(lengths(ours), lengths(definition), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5 * float(jnp.abs(theirs).max()))


def test_under_vmap_is_a_loop() -> None:
    xs, kernels = example((3, 2, 6, 6, 2), 0), example((3, 3, 3, 2, 4), 1)

    @jax.jit
    def gradient(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.grad(lambda k: jnp.sin(conv.convolution(plain(((1, 1), (1, 1))), x, k)).sum())(
            kernel
        )

    together = jax.jit(jax.vmap(gradient))(xs, kernels)
    for i in range(3):
        np.testing.assert_allclose(together[i], gradient(xs[i], kernels[i]), atol=1e-4)


@pytest.mark.parametrize("channels", [1, 6])
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)], ids=str)
def test_many_kernels_are_one_after_another(channels: int, axes: tuple[int | None, ...]) -> None:
    padding = ((1, 0), (2, 1))
    x, kernel = example((3, 2, 6, 7, channels), 0), example((3, 3, 2, channels, 4), 1)
    pair = [a if axis == 0 else a[0] for a, axis in zip((x, kernel), axes, strict=True)]

    def laxs(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=NHWC)

    def derivatives(convolution: Callable[..., jax.Array]) -> Any:
        """The value, the gradients, and the gradients of a length of the gradients."""

        def of_gradients(*pair: jax.Array) -> Any:
            gradients = jax.grad(lambda *p: jnp.sin(convolution(*p)).sum(), (0, 1))(*pair)
            return optax.tree.norm(gradients, squared=True), gradients

        def each(*pair: jax.Array) -> Any:
            return convolution(*pair), jax.grad(of_gradients, (0, 1), has_aux=True)(*pair)

        return jax.jit(jax.vmap(each, axes))(*pair)

    both = derivatives(partial(conv.many_kernels.convolution, plain(padding))), derivatives(laxs)
    for got, want in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5 * float(jnp.abs(want).max()))


def test_many_kernels_are_not_a_grouped_convolution() -> None:
    x, kernel = example((5, 2, 6, 6, 8), 0), example((5, 3, 3, 8, 4), 1)

    def gradients(x: jax.Array, kernel: jax.Array) -> Any:
        function = partial(conv.many_kernels.convolution, plain(((0, 0), (0, 0))))
        return jax.grad(lambda *p: jnp.sin(function(*p)).sum(), (0, 1))(x, kernel)

    assert "conv_general_dilated" in str(jax.make_jaxpr(gradients)(x[0], kernel[0]))
    assert "conv_general_dilated" not in str(jax.make_jaxpr(jax.vmap(gradients))(x, kernel))


@pytest.mark.parity
@pytest.mark.parametrize("size", [(6, 8), (7, 9)])
def test_max_pool_is_torchs(size: tuple[int, int]) -> None:
    import torch

    x = example((2, *size, 3), 0)
    theirs = torch.tensor(np.moveaxis(np.asarray(x), -1, 1), requires_grad=True)
    pooled = torch.nn.functional.max_pool2d(theirs, 2)
    pooled.pow(2).sum().backward()
    assert theirs.grad is not None
    np.testing.assert_array_equal(max_pool_2x2(x), np.moveaxis(pooled.detach().numpy(), 1, -1))
    ours = jax.grad(lambda x: (max_pool_2x2(x) ** 2).sum())(x)
    np.testing.assert_allclose(ours, np.moveaxis(theirs.grad.numpy(), 1, -1), atol=1e-6)
