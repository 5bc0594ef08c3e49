"""A depthwise convolution as sums over the window, with its gradients.

Each output channel sees one channel of the input, so that a product of matrices has nothing to
multiply: a sum of shifted images, a term for each place of the window, does all the work there is.
For where `lax` is slow with it: in a loop on a CPU.
"""

from typing import Any

import jax
import jax.numpy as jnp

from regjax import by_patches
from regjax.by_patches import Geometry


def pays(kernel: jax.Array, geometry: Geometry) -> bool:
    """Whether a convolution is of this kind.

    >>> pays(jnp.ones((3, 1, 8)), by_patches.plain(((0, 0),))._replace(groups=4))
    True
    """
    return geometry.groups > 1 and kernel.shape[-2] == 1


def forward(
    x: jax.Array, kernel: jax.Array, geometry: Geometry
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """The convolution of `(N, *spatial, I)` with `(*window, 1, O)`, and what `backward` needs.

    >>> geometry = by_patches.plain(((0, 0),))._replace(groups=2)
    >>> forward(jnp.ones((1, 3, 2)), jnp.ones((3, 1, 2)), geometry)[0]
    Array([[[3., 3.]]], dtype=float32)
    """
    return by_patches.shifted_sum(x, kernel, geometry), (x, kernel)


def backward(geometry: Geometry, kept: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The gradients of input and kernel.

    >>> geometry = by_patches.plain(((0, 0),))._replace(groups=2)
    >>> y, kept = forward(jnp.ones((1, 3, 2)), jnp.ones((3, 1, 2)), geometry)
    >>> [gradient.sum() for gradient in backward(geometry, kept, y)]
    [Array(18., dtype=float32), Array(18., dtype=float32)]
    """
    x, kernel = kept
    *window, _, _ = kernel.shape
    each = dy.reshape(*dy.shape[:-1], geometry.groups, -1)  # of each input channel
    spatial = tuple(range(x.ndim - 1))
    dkernel = jnp.stack(
        [
            (jnp.expand_dims(seen, -1) * each).sum(spatial)
            for seen in by_patches.shifted(x, window, geometry)
        ]
    ).reshape(kernel.shape)
    turned = jnp.flip(kernel, range(len(window))).reshape(*window, 1, geometry.groups, -1)
    back = _back(geometry, x, window, dy)
    parts = [
        by_patches.shifted_sum(each[..., i], turned[..., i], back) for i in range(each.shape[-1])
    ]
    return sum(parts[1:], start=parts[0]), dkernel


def _back(geometry: Geometry, x: jax.Array, window: list[int], dy: jax.Array) -> Geometry:
    """Where the turned window goes over the output's gradient to give the input's."""
    padding = []
    sizes = zip(window, x.shape[1:-1], dy.shape[1:-1], strict=True)
    for (k, size, seen), stride, pad, spread, dilation in zip(sizes, *geometry[:4], strict=True):
        reach = (k - 1) * dilation
        before = reach - pad[0]
        padding.append((before, (size - 1) * spread + reach - (seen - 1) * stride - before))
    return Geometry(
        geometry.spread, tuple(padding), geometry.strides, geometry.dilation, geometry.groups
    )
