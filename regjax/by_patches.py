"""A convolution as a product of matrices: patches × kernel, in any number of spatial dimensions.

Inputs are `(N, *spatial, I)`, kernels `(*window, I / groups, O)`, outputs `(N, *spatial', O)`.
Equal to `lax.conv_general_dilated` up to rounding, written for where that is slow: in a loop on a
CPU, and with many kernels at once (under `vmap`) on an accelerator.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import Partial

Padding = tuple[tuple[int, int], ...]
Sizes = tuple[int, ...]
Pull = Callable[[jax.Array], tuple[jax.Array, jax.Array]]  # y's gradient to those of x and kernel

TERMS = 27  # of a sum on a CPU: a 3×3 window over red, green and blue
FEW = 4  # input channels of a group, up to which a sum of shifted images is less work


class Geometry(NamedTuple):
    """Where a window goes; one entry for each spatial dimension.

    Attributes:
      strides: of the window.
      padding: zeros before and after; negative: cut off.
      spread: of the input, zeros between its places (`lhs_dilation`).
      dilation: of the kernel (`rhs_dilation`).
      groups: of channels, each with kernels of its own (`feature_group_count`).
    """

    strides: Sizes
    padding: Padding
    spread: Sizes
    dilation: Sizes
    groups: int = 1

    @property
    def plain(self) -> bool:
        """Whether the window goes place by place, over all channels."""
        return self.groups == 1 and {*self.strides, *self.spread, *self.dilation} <= {1}

    def lax(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """The convolution as JAX has it."""
        where, numbers = self, channels_last(x.ndim - 2)
        if min(map(min, self.padding)) < 0:  # jaxlib 0.10 reads past the end of x on a CPU
            x, where = self.padded(x), plain(((0, 0),) * len(self.padding))
        return lax.conv_general_dilated(
            x,
            kernel,
            self.strides,
            where.padding,
            where.spread,
            self.dilation,
            numbers,
            self.groups,
        )

    def padded(self, x: jax.Array) -> jax.Array:
        """The input with its zeros, as the window meets it."""
        edges = [(*pad, gap - 1) for pad, gap in zip(self.padding, self.spread, strict=True)]
        return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def plain(padding: Padding) -> Geometry:
    """A window that goes place by place.

    >>> plain(((1, 1),)).strides
    (1,)
    """
    ones = (1,) * len(padding)
    return Geometry(ones, padding, ones, ones)


def channels_last(dimensions: int) -> tuple[str, str, str]:
    """The layout of inputs, kernels and outputs, as `lax` names it.

    >>> channels_last(2)
    ('NDHC', 'DHIO', 'NDHC')
    """
    spatial = "DHWXYZ"[:dimensions]
    return f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"


def shifted(x: jax.Array, window: Sequence[int], geometry: Geometry) -> list[jax.Array]:
    """What each place of the window sees, `(N, *spatial', I)` each.

    >>> [seen.shape for seen in shifted(jnp.ones((1, 3, 3, 2)), (1, 2), plain(((0, 0), (0, 0))))]
    [(1, 3, 2, 2), (1, 3, 2, 2)]
    """
    x = geometry.padded(x)
    n, *sizes, channels = x.shape
    reach = [(k - 1) * d for k, d in zip(window, geometry.dilation, strict=True)]
    last = [s - r for s, r in zip(sizes, reach, strict=True)]  # past the window's first place

    def seen(place: tuple[int, ...]) -> jax.Array:
        steps = zip(place, geometry.dilation, sizes, strict=True)
        start = [min(k * d, size) for k, d, size in steps]  # a window may be larger than all of x
        stop = [a + max(0, b) for a, b in zip(start, last, strict=True)]
        return lax.slice(x, (0, *start, 0), (n, *stop, channels), (1, *geometry.strides, 1))

    return [seen(place) for place in itertools.product(*map(range, window))]


def patches(x: jax.Array, window: Sequence[int], geometry: Geometry) -> jax.Array:
    """What the window sees at each place, `(N, *spatial', groups, window · I / groups)`.

    >>> patches(jnp.ones((1, 3, 3, 2)), (2, 2), plain(((0, 0), (0, 0)))).shape
    (1, 2, 2, 1, 8)
    """
    groups = (geometry.groups, x.shape[-1] // geometry.groups)
    parts = [seen.reshape(*seen.shape[:-1], *groups) for seen in shifted(x, window, geometry)]
    return jnp.concatenate(parts, axis=-1)


def product(seen: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution of patches.

    >>> seen = patches(jnp.ones((1, 3, 3, 2)), (3, 3), plain(((0, 0), (0, 0))))
    >>> product(seen, jnp.ones((3, 3, 2, 1)))
    Array([[[[18.]]]], dtype=float32)
    """
    *places, groups, length = seen.shape
    weights = kernel.reshape(length, groups, -1)
    if groups == 1:
        y = seen.reshape(-1, length) @ weights[:, 0]
    else:
        y = jnp.einsum("mgk,kgo->mgo", seen.reshape(-1, groups, length), weights)
    return y.reshape(*places, kernel.shape[-1])


def kernel_gradient(seen: jax.Array, dy: jax.Array, window: Sequence[int]) -> jax.Array:
    """What the output's gradient is for the kernel, with the input's patches.

    >>> seen = patches(jnp.ones((1, 3, 3, 1)), (3, 3), plain(((0, 0), (0, 0))))
    >>> kernel_gradient(seen, jnp.ones((1, 1, 1, 1)), (3, 3)).sum()
    Array(9., dtype=float32)
    """
    *_, groups, length = seen.shape
    out = dy.shape[-1]
    if groups == 1:
        # (dyᵀ · patches)ᵀ: on a CPU the transposed product runs faster than patchesᵀ · dy.
        weights = (dy.reshape(-1, out).T @ seen.reshape(-1, length)).T
    else:
        each = seen.reshape(-1, groups, length), dy.reshape(-1, groups, out // groups)
        weights = jnp.einsum("mgk,mgo->kgo", *each)
    return weights.reshape(*window, -1, out)


def shifted_sum(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """The convolution as a sum over the window, which compilers fuse with what is around it.

    >>> shifted_sum(jnp.ones((1, 3, 3, 2)), jnp.ones((3, 3, 2, 1)), plain(((0, 0), (0, 0))))
    Array([[[[18.]]]], dtype=float32)
    """
    *window, channels, out = kernel.shape
    weights = kernel.reshape(-1, channels, geometry.groups, out // geometry.groups)
    terms = []
    for seen, w in zip(shifted(x, window, geometry), weights, strict=True):
        grouped = seen.reshape(*seen.shape[:-1], geometry.groups, channels)
        terms += [jnp.expand_dims(grouped[..., c], -1) * _like(w[c], seen) for c in range(channels)]
    y = reduce(jnp.add, terms)
    return y.reshape(*y.shape[:-2], out)


def _like(weights: jax.Array, seen: jax.Array) -> jax.Array:
    """`(groups, O / groups)` with an axis for each of the input's before its channels."""
    return weights.reshape(*(1,) * (seen.ndim - 1), *weights.shape)


def outer_sum(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """The same without groups, for a CPU: an outer product a term, which it makes one loop of.

    Written as products, and not broadcast, XLA knows that it is the places that devices divide; and
    an axis of groups would make the loop slow.

    >>> outer_sum(jnp.ones((1, 3, 3, 2)), jnp.ones((3, 3, 2, 1)), plain(((0, 0), (0, 0))))
    Array([[[[18.]]]], dtype=float32)
    """
    *window, channels, out = kernel.shape
    weights = kernel.reshape(-1, channels, out)
    places = zip(shifted(x, window, geometry), weights, strict=True)
    terms = [seen[..., c : c + 1] @ w[c : c + 1] for seen, w in places for c in range(channels)]
    return reduce(jnp.add, terms)


def convolution(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """By patches, or of few channels by shifts.

    >>> convolution(jnp.ones((1, 5, 8)), jnp.ones((3, 8, 1)), plain(((0, 0),))).ravel()
    Array([24., 24., 24.], dtype=float32)
    """
    if kernel.shape[-2] <= FEW:
        return shifted_sum(x, kernel, geometry)
    return product(patches(x, kernel.shape[:-2], geometry), kernel)


def few_terms(kernel: jax.Array, geometry: Geometry) -> bool:
    """Whether a loop over places and output channels is less work than to lay the patches out.

    >>> few_terms(jnp.ones((3, 3, 3, 16)), plain(((0, 0), (0, 0))))
    True
    """
    *window, channels, _ = kernel.shape
    return geometry.groups == 1 and (channels == 1 or math.prod(window) * channels <= TERMS)


def forward(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> tuple[jax.Array, Pull]:
    """The convolution, and what pulls its gradient back by patches.

    >>> y, pull = forward(jnp.ones((1, 3, 8)), jnp.ones((3, 8, 1)), plain(((0, 0),)))
    >>> y, [gradient.sum() for gradient in pull(y)]
    (Array([[[24.]]], dtype=float32), [Array(576., dtype=float32), Array(576., dtype=float32)])
    """
    seen = patches(x, kernel.shape[:-2], geometry)
    y = outer_sum(x, kernel, geometry) if few_terms(kernel, geometry) else product(seen, kernel)
    return y, Partial(partial(_pull, geometry, x.shape), seen, kernel)


def _pull(
    geometry: Geometry, shape: Sizes, seen: jax.Array, kernel: jax.Array, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    window = kernel.shape[:-2]

    def again(x: jax.Array) -> jax.Array:
        return product(patches(x, window, geometry), kernel)

    (dx,) = jax.linear_transpose(again, jax.ShapeDtypeStruct(shape, dy.dtype))(dy)
    return dx, kernel_gradient(seen, dy, window)
