"""A convolution that stays fast inside `lax.scan` on CPU.

XLA's CPU backend lowers the weight gradient of a convolution inside a loop to a naive loop nest:
an epoch of a small CNN under `scan` then takes over ten times as long as in PyTorch. Written as
patches × matrix, both gradients become matrix products; windows of 3 to 5 over many channels take
Winograd's way instead (`regjax.winograd`), and channels in groups their own (`regjax.depthwise`,
`regjax.grouped`). The README says why. On other backends `lax` is used as it is, but for lanes
of a kernel each (`regjax.many_kernels`).
"""

from collections.abc import Sequence
from functools import partial, wraps
from typing import Any

import jax
from jax import lax

from regjax import by_patches, depthwise, grouped, many_kernels, winograd
from regjax.by_patches import Geometry, Pull
from regjax.compiling import materialized


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def convolution(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Cross-correlation for loops on a CPU, differentiable once in reverse mode.

    Args:
      geometry: where the window goes.
      x: `(N, *spatial, I)`.
      kernel: `(*window, I / groups, O)`.

    Returns:
      `(N, *spatial', O)`, equal to `lax.conv_general_dilated` up to rounding. Without a gradient it
      is that function where none of ours is faster.

    >>> import jax.numpy as jnp
    >>> window = by_patches.plain(((0, 0), (0, 0)))
    >>> convolution(window, jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1))).ravel()
    Array([9.], dtype=float32)
    """
    if _own(x, kernel, geometry):
        return _forward(geometry, x, kernel)[0]
    return geometry.lax(x, kernel)


def _own(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> bool:
    """Whether a way of ours is faster than `lax` without a gradient too."""
    few = by_patches.few_terms(kernel, geometry)
    return few or geometry.groups > 1 or winograd.pays(x, kernel, geometry)


def _forward(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Pull]:
    """The output and what pulls a gradient back, by the way that is fastest."""
    if winograd.pays(x, kernel, geometry):
        return winograd.forward(x, kernel, geometry)
    if depthwise.pays(kernel, geometry):
        return depthwise.forward(x, kernel, geometry)
    if geometry.groups > 1:
        return jax.vjp(partial(grouped.convolution, convolution, geometry), x, kernel)
    return by_patches.forward(x, kernel, geometry)


def _backward(geometry: Geometry, pull: Pull, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    del geometry
    return pull(dy)


convolution.defvjp(_forward, _backward)


def unmaterialized(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    **options: Any,
) -> jax.Array:
    """`conv_general_dilated` for who adds something, such as a bias, in the same loop on a CPU.

    And then calls `compiling.materialized`, for it to be computed once.

    >>> import jax.numpy as jnp
    >>> x, w = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
    >>> unmaterialized(x, w, (1, 1), "SAME", dimension_numbers=by_patches.channels_last(2)).shape
    (1, 4, 4, 1)
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    dimensions = lhs.ndim - 2
    ours = 1 <= dimensions <= 3 and all(value in (None, 1) for value in options.values())
    if not ours or (isinstance(padding, str) and {*(lhs_dilation or ())} - {1}):  # has no meaning
        spreads = lhs_dilation, rhs_dilation
        return lax.conv_general_dilated(
            lhs, rhs, window_strides, padding, *spreads, numbers, feature_group_count, **options
        )
    x = lhs.transpose(numbers.lhs_spec[0], *numbers.lhs_spec[2:], numbers.lhs_spec[1])
    kernel = rhs.transpose(*numbers.rhs_spec[2:], *numbers.rhs_spec[1::-1])
    spread, dilation = (tuple(s or (1,) * dimensions) for s in (lhs_dilation, rhs_dilation))
    geometry = Geometry(
        tuple(window_strides),
        _padding(padding, x, kernel, window_strides, dilation),
        spread,
        dilation,
        feature_group_count,
    )
    on_cpu = jax.default_backend() == "cpu"
    function: Any = convolution if on_cpu else many_kernels.convolution
    y = function(geometry, x, kernel)
    places = (numbers.out_spec[0], *numbers.out_spec[2:], numbers.out_spec[1])
    return y.transpose(sorted(range(y.ndim), key=places.__getitem__))


@wraps(unmaterialized, assigned=())
def conv_general_dilated(*arguments: Any, **options: Any) -> jax.Array:
    """Drop-in for `lax.conv_general_dilated`, for Flax's `Conv(conv_general_dilated=...)`.

    In one to three spatial dimensions, of any layout, with default `options`, it is `convolution`
    on a CPU and `many_kernels.convolution` elsewhere; otherwise `lax`.

    >>> import jax.numpy as jnp
    >>> x, w = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
    >>> layout = by_patches.channels_last(2)
    >>> conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=layout).shape
    (1, 2, 2, 1)
    """
    return materialized(unmaterialized(*arguments, **options))


def _padding(
    padding: str | Sequence[tuple[int, int]],
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    dilation: tuple[int, ...],
) -> by_patches.Padding:
    """In numbers."""
    if isinstance(padding, str):
        window = [(k - 1) * d + 1 for k, d in zip(kernel.shape[:-2], dilation, strict=True)]
        padding = lax.padtype_to_pads(x.shape[1:-1], window, strides, padding)
    return tuple((int(before), int(after)) for before, after in padding)
