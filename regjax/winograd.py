"""A 3×3 convolution by Winograd's minimal filtering: 2.25 times fewer multiplications.

Each 2×2 tile of the output is made from a 4×4 tile of the input: F(2×2, 3×3) of Lavin & Gray
(2016). In one dimension, for inputs d₀ … d₃ and a kernel g₀ g₁ g₂,

    y = Aᵀ [(G g) ⊙ (Bᵀ d)],   Bᵀ d = (d₀ − d₂, d₁ + d₂, d₂ − d₁, d₁ − d₃),
    G g = (g₀, ½(g₀ + g₁ + g₂), ½(g₀ − g₁ + g₂), g₂),   Aᵀ m = (m₀ + m₁ + m₂, m₁ − m₂ − m₃),

in two dimensions the same along both axes. The products over channels are 16 products of matrices,
one a place of the tile. The gradients are the transposed maps, with the transformed input kept.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from regjax.by_patches import Geometry, Padding, Pull
from regjax.compiling import materialized

Places = list[jax.Array]  # one array for each place of a tile, row by row
Map = Callable[[Sequence[jax.Array]], Places]


def _input_map(d: Sequence[jax.Array]) -> Places:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _input_map_transposed(v: Sequence[jax.Array]) -> Places:
    return [v[0], v[1] - v[2] + v[3], v[1] + v[2] - v[0], -v[3]]


def _kernel_map(g: Sequence[jax.Array]) -> Places:
    ends = g[0] + g[2]
    return [g[0], 0.5 * (ends + g[1]), 0.5 * (ends - g[1]), g[2]]


def _kernel_map_transposed(u: Sequence[jax.Array]) -> Places:
    middle = 0.5 * (u[1] + u[2])
    return [u[0] + middle, 0.5 * (u[1] - u[2]), middle + u[3]]


def _output_map(m: Sequence[jax.Array]) -> Places:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _output_map_transposed(y: Sequence[jax.Array]) -> Places:
    return [y[0], y[0] + y[1], y[0] - y[1], -y[1]]


def _both_ways(along: Map, places: Sequence[jax.Array]) -> Places:
    """A map of lines applied to the columns of a square of places, then to its rows."""
    side = round(len(places) ** 0.5)
    columns = [along(places[j::side]) for j in range(side)]
    rows = zip(*columns, strict=True)
    return [place for row in rows for place in along(row)]


def pays(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> bool:
    """Whether training is faster so than by patches, by measurement on a CPU.

    Few channels or positions make small products, beside which the maps are most of the work; and
    half precision would lose too much in the maps.

    >>> from regjax.by_patches import plain
    >>> window = plain(((0, 0), (0, 0)))
    >>> pays(jnp.ones((32, 14, 14, 32)), jnp.ones((3, 3, 32, 64)), window)
    True
    """
    channels, cut_off = x.shape[-1], min(map(min, geometry.padding)) < 0
    if not geometry.plain or cut_off or kernel.shape[:-2] != (3, 3):
        return False
    if channels < 16 or jnp.finfo(x.dtype).bits < 32:
        return False
    height, width = _output_size(x, geometry.padding)
    return min(height, width) >= 4 and height * width * channels >= 1024


def forward(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> tuple[jax.Array, Pull]:
    """2-D cross-correlation with a 3×3 kernel, and what pulls its gradient back.

    Args:
      x: `(N, H, W, I)`.
      kernel: `(3, 3, I, O)`.
      geometry: a plain one, of which the padding is looked at.

    Returns:
      `(N, H', W', O)`, equal to `lax.conv_general_dilated` up to rounding (in float32 some 1e-6 of
      the largest value), and what pulls back, with the transformed input and kernel.

    >>> from regjax.by_patches import plain
    >>> window = plain(((0, 0), (0, 0)))
    >>> y, pull = forward(jnp.ones((1, 3, 3, 1)), jnp.full((3, 3, 1, 1), 2.0), window)
    >>> y.ravel(), pull(jnp.ones_like(y))[0].sum()
    (Array([18.], dtype=float32), Array(18., dtype=float32))
    """
    n, channels, out = x.shape[0], x.shape[-1], kernel.shape[-1]
    height, width = _output_size(x, geometry.padding)
    rows, columns = -(-height // 2), -(-width // 2)  # tiles
    (top, bottom), (left, right) = geometry.padding
    whole = ((top, bottom + 2 * rows - height), (left, right + 2 * columns - width))
    x = jnp.pad(materialized(x), ((0, 0), *whole, (0, 0)))
    tiles = [x[:, i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2] for i, j in _square(4)]
    inputs = [v.reshape(-1, channels) for v in _both_ways(_input_map, tiles)]
    kernels = _both_ways(_kernel_map, [kernel[i, j] for i, j in _square(3)])
    products = [v @ u for v, u in zip(inputs, kernels, strict=True)]
    places = _both_ways(_output_map, products)
    y = _interleaved([p.reshape(n, rows, columns, out) for p in places])
    return y[:, :height, :width], Partial(partial(_pull, geometry.padding), inputs, kernels)


def _pull(
    padding: Padding, inputs: Places, kernels: Places, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    n, height, width, out = dy.shape
    rows, columns = -(-height // 2), -(-width // 2)
    dy = jnp.pad(
        materialized(dy), ((0, 0), (0, 2 * rows - height), (0, 2 * columns - width), (0, 0))
    )
    places = [dy[:, i::2, j::2] for i, j in _square(2)]
    products = [m.reshape(-1, out) for m in _both_ways(_output_map_transposed, places)]
    # (mᵀ v)ᵀ: faster than vᵀ m.
    dkernels = [(m.T @ v).T for m, v in zip(products, inputs, strict=True)]
    dkernel = jnp.stack(_both_ways(_kernel_map_transposed, dkernels))
    dinputs = [
        (m @ u.T).reshape(n, rows, columns, -1) for m, u in zip(products, kernels, strict=True)
    ]
    tiles = materialized(_both_ways(_input_map_transposed, dinputs))
    dtiles = dict(zip(_square(4), tiles, strict=True))
    # The tiles overlap: a place of the input is in one or two of them along each axis.
    dx = _interleaved(
        [
            reduce(
                jnp.add,
                (
                    jnp.pad(dtiles[i + 2 * a, j + 2 * b], ((0, 0), (a, 1 - a), (b, 1 - b), (0, 0)))
                    for a, b in _square(2)
                ),
            )
            for i, j in _square(2)
        ]
    )
    (top, bottom), (left, right) = padding
    dx = dx[:, top : height + 2 - bottom, left : width + 2 - right]
    return materialized(dx), dkernel.reshape(3, 3, *dkernel.shape[1:])


def _output_size(x: jax.Array, padding: Padding) -> list[int]:
    return [x.shape[1 + i] + sum(padding[i]) - 2 for i in (0, 1)]


def _square(side: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(side) for j in range(side)]


def _interleaved(places: Sequence[jax.Array]) -> jax.Array:
    """The four places of 2×2 tiles, each `(N, rows, columns, C)`, laid out as an image."""
    n, rows, columns, channels = places[0].shape
    halves = [jnp.stack(places[i : i + 2], axis=3) for i in (0, 2)]
    return jnp.stack(halves, axis=2).reshape(n, 2 * rows, 2 * columns, channels)
