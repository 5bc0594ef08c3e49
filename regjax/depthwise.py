"""A depthwise convolution as sums over the window, with its gradients.

Each output channel sees one channel of the input, so that a product of matrices has nothing to
multiply: a sum of shifted images, a term for each place of the window, does all the work there is.
For where `lax` is slow with it: in a loop on a CPU.
"""

from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from regjax import by_patches
from regjax.by_patches import Geometry, Pull
from regjax.compiling import in_blocks, materialized


def pays(kernel: jax.Array, geometry: Geometry) -> bool:
    """Whether a convolution is of this kind.

    >>> pays(jnp.ones((3, 1, 8)), by_patches.plain(((0, 0),))._replace(groups=4))
    True
    """
    return geometry.groups > 1 and kernel.shape[-2] == 1


def forward(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> tuple[jax.Array, Pull]:
    """`(N, *spatial, I)` convolved with `(*window, 1, O)`, and what pulls its gradient back.

    >>> geometry = by_patches.plain(((0, 0),))._replace(groups=2)
    >>> y, pull = forward(jnp.ones((1, 3, 2)), jnp.ones((3, 1, 2)), geometry)
    >>> y, [gradient.sum() for gradient in pull(y)]
    (Array([[[3., 3.]]], dtype=float32), [Array(18., dtype=float32), Array(18., dtype=float32)])
    """
    per = kernel.reshape(*kernel.shape[:-2], geometry.groups, -1)  # (*window, I, O / I)
    parts = [_one(x, per[..., i], geometry) for i in range(per.shape[-1])]
    y = parts[0] if len(parts) == 1 else jnp.stack(parts, -1)
    return y.reshape(*y.shape[: x.ndim - 1], -1), Partial(partial(_pull, geometry), x, kernel)


def _one(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """With one kernel a channel, `(*window, I)`: no axis but the input's, or XLA's loop is slow."""
    *window, channels = kernel.shape
    x, within = _edged(x, geometry)
    terms = by_patches.shifted(x, window, within)
    weights = kernel.reshape(-1, *(1,) * (x.ndim - 1), channels)
    return reduce(jnp.add, [seen * w for seen, w in zip(terms, weights, strict=True)])


def _edged(x: jax.Array, geometry: Geometry) -> tuple[jax.Array, Geometry]:
    """The input with its zeros, computed once for all places of the window."""
    ones, none = (1,) * len(geometry.padding), ((0, 0),) * len(geometry.padding)
    return materialized(geometry.padded(x)), geometry._replace(padding=none, spread=ones)


def _pull(
    geometry: Geometry, x: jax.Array, kernel: jax.Array, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    window = list(kernel.shape[:-2])
    each = dy.reshape(*dy.shape[:-1], geometry.groups, -1)  # of each input channel
    parts = [each[..., i] for i in range(each.shape[-1])]
    edged, within = _edged(x, geometry)
    places = by_patches.shifted(edged, window, within)
    spatial = tuple(range(x.ndim - 1))
    sums = [[in_blocks(seen * part, 1).sum(spatial) for part in parts] for seen in places]
    dkernel = jnp.stack([jnp.stack(of_place, -1) for of_place in sums]).reshape(kernel.shape)
    turned = jnp.flip(kernel, range(len(window))).reshape(*window, geometry.groups, -1)
    back = _back(geometry, x, window, dy)
    dx = [_one(part, turned[..., i], back) for i, part in enumerate(parts)]
    return reduce(jnp.add, dx), dkernel


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
