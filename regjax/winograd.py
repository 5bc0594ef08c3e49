"""A convolution of few multiplications: Winograd's minimal filtering.

F(m, r) makes m outputs of a window of r from n = m + r − 1 inputs by n products, not m·r (Lavin &
Gray, 2016). Outputs are coefficients of a product of polynomials, which is determined by its values
at n − 1 points and at infinity (Toom and Cook): for inputs d and a kernel g along one axis,

    y = A [(G g) ⊙ (B d)]

with B, G and A of the points alone; along several axes the same one after the other. The products,
over channels, are of matrices, one a place of the tile. The gradients are the transposed maps, with
the transformed input kept.
"""

import itertools
import math
from collections.abc import Sequence
from functools import cache, partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import Partial

from regjax.by_patches import Geometry, Padding, Pull, Sizes
from regjax.compiling import materialized

Places = list[jax.Array]  # one array for each place of a tile, the last axis fastest

# By n. The numbers in the maps are the less apart the nearer the points are to ±1: at ±1 and ±2
# rounding would be thrice as large.
POINTS = {1: (), 4: (0.0, 1.0, -1.0), 6: (0.0, 0.5**0.5, -(0.5**0.5), 2.0**0.5, -(2.0**0.5))}
LARGEST = 5  # window
PLACES = 64  # of a tile: with more, what they save is less than what they take to compile


class Tile(NamedTuple):
    """F(m, r) along one axis.

    Attributes:
      inputs: B, `(n, n)`.
      kernel: G, `(n, r)`.
      outputs: A, `(m, n)`.
    """

    inputs: np.ndarray
    kernel: np.ndarray
    outputs: np.ndarray

    @property
    def step(self) -> int:
        """m, from one tile to the next."""
        return len(self.outputs)

    @property
    def size(self) -> int:
        """n, the inputs of a tile."""
        return len(self.inputs)


Tiles = tuple[Tile, ...]  # one for each axis


@cache
def tile(n: int, r: int) -> Tile:
    """The maps of n inputs and a window of r.

    >>> tile(4, 3).outputs
    array([[ 1.,  1.,  1.,  0.],
           [ 0.,  1., -1.,  1.]])
    """
    points = np.array(POINTS[n])
    inputs, kernel, outputs = np.zeros((n, n)), np.zeros((n, r)), np.zeros((n - r + 1, n))
    for i, point in enumerate(points):
        others = np.delete(points, i)
        inputs[i, :-1] = np.poly(others)[::-1]
        kernel[i] = point ** np.arange(r) / np.prod(point - others)
        outputs[:, i] = point ** np.arange(n - r + 1)
    inputs[-1] = np.atleast_1d(np.poly(points))[::-1]
    kernel[-1, -1] = outputs[-1, -1] = 1
    return Tile(*(m.round(12) for m in (inputs, kernel, outputs)))  # 0 where it is 0


def pays(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> bool:
    """Whether it is faster so than by patches, by measurement on a CPU.

    Few channels or positions make small products, beside which the maps are most of the work; and
    half precision would lose too much in the maps.

    >>> from regjax.by_patches import plain
    >>> window = plain(((0, 0), (0, 0)))
    >>> pays(jnp.ones((32, 14, 14, 32)), jnp.ones((3, 3, 32, 64)), window)
    True
    """
    *window, channels, _ = kernel.shape
    if not geometry.plain or min(map(min, geometry.padding)) < 0:
        return False
    if jnp.finfo(x.dtype).bits < 32 or not 3 <= max(window) <= LARGEST:
        return False
    sizes = _output_sizes(x, kernel, geometry.padding)
    along = [size for size, r in zip(sizes, window, strict=True) if r > 1]
    return channels >= 8 and min(along) >= 4 and math.prod(sizes) * channels >= 1024


def tiles_for(x: jax.Array, kernel: jax.Array, padding: Padding) -> Tiles:
    """The tiles, one along each axis, that are the least work.

    >>> x, kernel = jnp.ones((8, 14, 1, 32)), jnp.ones((3, 1, 32, 64))
    >>> [t.size for t in tiles_for(x, kernel, ((0, 0), (0, 0)))]
    [6, 1]
    """
    *window, channels, out = kernel.shape
    sizes = _output_sizes(x, kernel, padding)

    def work(tiles: Tiles) -> float:
        """Numbers read and written; a core multiplies some 32 times while it reads one."""
        rows = len(x) * math.prod(_counts(sizes, tiles))
        each = channels * out * (1 + rows / 32) + rows * (channels + out)
        return math.prod(t.size for t in tiles) * each

    choices = [[tile(n, r) for n in POINTS if n >= r and (n == 1) == (r == 1)] for r in window]
    able = [c for c in itertools.product(*choices) if math.prod(t.size for t in c) <= PLACES]
    return min(able, key=work)


def forward(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> tuple[jax.Array, Pull]:
    """Cross-correlation, and what pulls its gradient back.

    Args:
      x: `(N, *spatial, I)`.
      kernel: `(*window, I, O)`, at most 5 along each axis.
      geometry: a plain one, of which the padding is looked at.

    Returns:
      `(N, *spatial', O)`, equal to `lax.conv_general_dilated` up to rounding (in float32 some 1e-6
      of the largest value), and what pulls back, with the transformed input and kernel.

    >>> from regjax.by_patches import plain
    >>> window = plain(((0, 0), (0, 0)))
    >>> y, pull = forward(jnp.ones((1, 3, 3, 1)), jnp.full((3, 3, 1, 1), 2.0), window)
    >>> y.ravel().round(4), pull(jnp.ones_like(y))[0].sum().round(4)
    (Array([18.], dtype=float32), Array(18., dtype=float32))
    """
    tiles = tiles_for(x, kernel, geometry.padding)
    sizes = _output_sizes(x, kernel, geometry.padding)
    inputs = _taken_apart(_filled(x, geometry.padding, sizes, tiles), tiles, "inputs")
    kernels = _mapped(kernel, tiles)
    places = [_times(v, u) for v, u in zip(inputs, kernels, strict=True)]
    y = _put_together(places, tiles, "outputs")[_within([0] * len(sizes), sizes)]
    return y, Partial(partial(_pull, geometry.padding, x.shape[1:-1], tiles), inputs, kernels)


def _pull(
    padding: Padding, spatial: Sizes, tiles: Tiles, inputs: Places, kernels: Places, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    sizes = dy.shape[1:-1]
    places = _taken_apart(_filled(dy, ((0, 0),) * len(sizes), sizes, tiles), tiles, "outputs")
    # (mᵀ v)ᵀ: faster than vᵀ m.
    dkernels = [(_rows(m).T @ _rows(v)).T for m, v in zip(places, inputs, strict=True)]
    dinputs = [_times(m, u.T) for m, u in zip(places, kernels, strict=True)]
    dx = _put_together(dinputs, tiles, "inputs")[_within([a for a, _ in padding], spatial)]
    return materialized(dx), _mapped_back(dkernels, tiles)


def _filled(x: jax.Array, padding: Padding, sizes: Sequence[int], tiles: Tiles) -> jax.Array:
    """The input with its zeros, up to where the last tile ends."""
    counts = _counts(sizes, tiles)
    more = [n * t.step - size for n, t, size in zip(counts, tiles, sizes, strict=True)]
    edges = [(a, b + c) for (a, b), c in zip(padding, more, strict=True)]
    return jnp.pad(materialized(x), ((0, 0), *edges, (0, 0)))


def _counts(sizes: Sequence[int], tiles: Tiles) -> list[int]:
    """How many tiles there are along each axis."""
    return [-(-size // t.step) for size, t in zip(sizes, tiles, strict=True)]


def _within(starts: Sequence[int], sizes: Sequence[int]) -> tuple[slice, ...]:
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    return slice(None), *map(slice, starts, ends)


def _output_sizes(x: jax.Array, kernel: jax.Array, padding: Padding) -> list[int]:
    window = kernel.shape[:-2]
    return [
        size + before + after - r + 1
        for size, (before, after), r in zip(x.shape[1:-1], padding, window, strict=True)
    ]


def _rows(x: jax.Array) -> jax.Array:
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _times(x: jax.Array, matrix: jax.Array) -> jax.Array:
    return (_rows(x) @ matrix).reshape(*x.shape[:-1], matrix.shape[-1])


def _combined(matrix: np.ndarray, terms: Sequence[jax.Array]) -> Places:
    """The matrix times a vector of arrays."""

    # By `lax`: of jnp's each is a call of a jitted function, which doubles the time of tracing.
    def scaled(factor: float, x: jax.Array) -> jax.Array:
        if abs(factor) == 1:
            return x if factor == 1 else lax.neg(x)
        return lax.mul(x, x.dtype.type(factor))

    def row(factors: list[float]) -> jax.Array:
        return reduce(lax.add, [scaled(f, x) for f, x in zip(factors, terms, strict=True) if f])

    return [row(factors) for factors in matrix.tolist()]


def _taken_apart(x: jax.Array, tiles: Tiles, what: str) -> Places:
    """The places of all tiles, mapped along one axis after the other: `(N, *tiles, C)` each.

    Of `inputs` a tile reaches into the next; of the gradient of `outputs` it does not.
    """
    places = [x]
    for axis, t in enumerate(tiles, start=1):
        matrix = t.inputs if what == "inputs" else t.outputs.T
        length = matrix.shape[1]
        last = x.shape[axis] - length + 1  # where the last tile begins, and one on
        places = [
            mapped
            for whole in materialized(places)
            for mapped in _combined(
                matrix,
                [lax.slice_in_dim(whole, i, i + last, t.step, axis) for i in range(length)],
            )
        ]
    return places


def _put_together(places: Places, tiles: Tiles, what: str) -> jax.Array:
    """What the places of all tiles, mapped along one axis after the other, are as an image."""
    for axis, t in reversed(list(enumerate(tiles, start=1))):
        matrix = t.outputs if what == "outputs" else t.inputs.T
        lines = [places[i : i + t.size] for i in range(0, len(places), t.size)]
        places = materialized([_laid(_combined(matrix, line), axis, t.step) for line in lines])
    return places[0]


def _laid(places: Places, axis: int, step: int) -> jax.Array:
    """Tiles side by side along an axis: places beyond a step are added to the tiles that follow."""
    beyond = (len(places) - 1) // step

    def moved(place: jax.Array, tiles: int) -> jax.Array:
        edges = [(0, 0)] * place.ndim
        edges[axis] = (tiles, beyond - tiles)
        return jnp.pad(place, edges)

    sums = [
        reduce(lax.add, [moved(place, k) for k, place in enumerate(places[i::step])])
        for i in range(step)
    ]
    shape = list(sums[0].shape)
    shape[axis] *= step
    return jnp.stack(sums, axis + 1).reshape(shape)


def _mapped(kernel: jax.Array, tiles: Tiles) -> Places:
    """The kernel for each place, `(I, O)`.

    What one axis makes is computed before the next begins: then the loops of all its lines are the
    same, which XLA sees, and has n to compile for each axis in place of n².
    """
    places = [kernel]
    for t in tiles:
        wholes = materialized(places)
        places = [mapped for whole in wholes for mapped in _combined(t.kernel, list(whole))]
    return places


def _mapped_back(places: Places, tiles: Tiles) -> jax.Array:
    for t in reversed(tiles):
        lines = [places[i : i + t.size] for i in range(0, len(places), t.size)]
        places = materialized([jnp.stack(_combined(t.kernel.T, line)) for line in lines])
    return places[0]
