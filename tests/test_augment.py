"""Augmentation against SciPy and PyTorch, against its own linearity, and the laws of its draws."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from regjax import augment

from .parity import compare

KEY = jax.random.key(0)
N, SHAPE = 6, (6, 7, 9, 2)
dtypes = st.sampled_from(["float32", "float64"])
seeds = st.integers(0, 2**16)
fills = st.sampled_from([0.0, 0.7])


def images(seed: int = 0, dtype: str = "float32", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.3, 1, shape).astype(dtype)


def places(height: int, width: int) -> np.ndarray:
    """One image whose two channels are the row and the column of each pixel."""
    return np.stack(np.mgrid[:height, :width], axis=-1)[None].astype(np.float32)


def first(x: np.ndarray) -> np.ndarray:
    """Channels first, in float64, as the oracle PyTorch gets them."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1), np.float64)


# One program for all examples of a dtype: called as they are, each operation would be one.
sample, affine = jax.jit(augment.sample), jax.jit(augment.affine)
gaussian_filter, elastic = jax.jit(augment.gaussian_filter), jax.jit(augment.elastic)

# Resampling.


@pytest.mark.parity
@given(dtype=dtypes, seed=seeds, fill=fills)
def test_sample_is_scipys(dtype: str, seed: int, fill: float) -> None:
    x = images(seed, dtype)
    at = np.random.default_rng(seed + 1).uniform(-3, 11, (N, 5, 4, 2)).astype(dtype)
    expected = np.zeros((N, 5, 4, 2))
    for i, c in np.ndindex(N, 2):
        scipy.ndimage.map_coordinates(
            x[i, ..., c], np.moveaxis(at[i], -1, 0), expected[i, ..., c], 1, "grid-constant", fill
        )
    with jax.enable_x64(dtype == "float64"):
        ours = sample(jnp.asarray(x), jnp.asarray(at), fill)
    compare("augment.sample", "scipy.ndimage.map_coordinates", ours, expected)


@jax.jit
def sample_and_pull(x: jax.Array, at: jax.Array, cotangent: jax.Array) -> Any:
    y, pull = jax.vjp(augment.sample, x, at)
    return y, pull(cotangent)


@pytest.mark.parity
@given(dtype=dtypes, seed=seeds)
def test_sample_and_its_gradients_are_torchs(dtype: str, seed: int) -> None:
    import torch

    x = images(seed, dtype)
    at = np.random.default_rng(seed + 1).uniform(-3, 11, (N, 5, 4, 2)).astype(dtype)
    cotangent = images(seed + 2, dtype, (N, 5, 4, 2))
    # In units of half the size, about the centre, in the order x, y.
    half = np.array(SHAPE[1:3]) / 2
    grid = torch.tensor(((at.astype(np.float64) + 0.5) / half - 1)[..., ::-1].copy())
    image = torch.tensor(first(x))
    grid.requires_grad_()
    image.requires_grad_()
    read = torch.nn.functional.grid_sample(image, grid, align_corners=False)
    read.backward(torch.tensor(first(cotangent)))
    assert image.grad is not None
    assert grid.grad is not None
    with jax.enable_x64(dtype == "float64"):
        y, (dx, dat) = sample_and_pull(*map(jnp.asarray, (x, at, cotangent)))
    owner = "torch.nn.functional.grid_sample"
    compare("augment.sample", owner, y, np.moveaxis(read.detach().numpy(), 1, -1))
    compare("augment.sample", owner, dx, np.moveaxis(image.grad.numpy(), 1, -1))
    compare("augment.sample", owner, dat, grid.grad.numpy()[..., ::-1] / half)


def matrices(seed: int, dtype: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    linear = np.eye(2) + rng.uniform(-0.7, 0.7, (N, 2, 2))
    return np.concatenate([linear, rng.uniform(-3, 3, (N, 2, 1))], axis=2).astype(dtype)


@pytest.mark.parity
@given(dtype=dtypes, seed=seeds, fill=fills)
def test_affine_is_scipys(dtype: str, seed: int, fill: float) -> None:
    x, maps = images(seed, dtype), matrices(seed, dtype)
    centre = (np.array(SHAPE[1:3]) - 1) / 2
    expected = np.zeros(SHAPE)
    for i, c in np.ndindex(N, 2):
        a, b = maps[i, :, :2].astype(np.float64), maps[i, :, 2]
        scipy.ndimage.affine_transform(
            x[i, ..., c].astype(np.float64),
            a,
            centre + b - a @ centre,
            output=expected[i, ..., c],
            order=1,
            mode="grid-constant",
            cval=fill,
        )
    with jax.enable_x64(dtype == "float64"):
        ours = affine(jnp.asarray(x), jnp.asarray(maps), fill)
    compare("augment.affine", "scipy.ndimage.affine_transform", ours, expected)


@pytest.mark.parity
@given(dtype=dtypes, seed=seeds)
def test_affine_is_torchs(dtype: str, seed: int) -> None:
    import torch

    x, maps = images(seed, dtype), matrices(seed, dtype).astype(np.float64)
    half = np.array(SHAPE[1:3]) / 2
    theta = maps.copy()
    theta[..., :2] *= half[None, None, :] / half[None, :, None]
    theta[..., 2] /= half
    theta = np.concatenate([theta[..., 1::-1], theta[..., 2:]], axis=2)[:, ::-1].copy()
    grid = torch.nn.functional.affine_grid(torch.tensor(theta), [N, 2, 7, 9], align_corners=False)
    read = torch.nn.functional.grid_sample(torch.tensor(first(x)), grid, align_corners=False)
    with jax.enable_x64(dtype == "float64"):
        ours = affine(jnp.asarray(x), jnp.asarray(maps.astype(dtype)))
    owner = "torch.nn.functional.affine_grid, grid_sample"
    compare("augment.affine", owner, ours, np.moveaxis(read.numpy(), 1, -1))


@pytest.mark.parity
@given(dtype=dtypes, seed=seeds, sigma=st.sampled_from([0.0, 0.3, 1.0, 4.0, 30.0]))
def test_gaussian_filter_is_scipys(dtype: str, seed: int, sigma: float) -> None:
    fields = images(seed, dtype, (3, 2, 8, 11))
    expected = scipy.ndimage.gaussian_filter(
        fields.astype(np.float64), sigma, mode="constant", axes=(2, 3), radius=(7, 10)
    )
    with jax.enable_x64(dtype == "float64"):
        ours = gaussian_filter(jnp.asarray(fields), sigma)
    compare("augment.gaussian_filter", "scipy.ndimage.gaussian_filter", ours, expected)


def test_affine_matrices_invert_the_maps_one_after_another() -> None:
    rng = np.random.default_rng(0)
    degrees, shear = rng.uniform(-180, 180, N), rng.uniform(-60, 60, N)
    shifts, scale = rng.uniform(-5, 5, (N, 2)), rng.uniform(0.5, 2, N)
    ours = jax.jit(augment.affine_matrices)(*map(jnp.float32, (degrees, shifts, scale, shear)))
    for i in range(N):
        # np.rot90 takes the direction of the columns to that of the rows, upwards.
        angle, slope = np.radians(degrees[i]), np.tan(np.radians(shear[i]))
        rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        forward = np.eye(3)
        forward[:2, :2] = scale[i] * rotate @ np.array([[1, 0], [slope, 1]])
        forward[:2, 2] = shifts[i]
        np.testing.assert_allclose(ours[i], np.linalg.inv(forward)[:2], rtol=1e-4, atol=1e-5)


def test_affine_turns_and_moves_as_numpy_does() -> None:
    x = images(shape=(1, 6, 6, 2))
    zero = jnp.zeros(1)
    for quarter in (1, 2, 3):
        turn = augment.affine_matrices(zero + 90 * quarter, jnp.zeros((1, 2)), zero + 1, zero)
        turned = affine(jnp.asarray(x), turn)
        np.testing.assert_allclose(turned, np.rot90(x, quarter, (1, 2)), atol=1e-5)
    move = augment.affine_matrices(zero, jnp.array([[2.0, -1.0]]), zero + 1, zero)
    moved = affine(jnp.asarray(x), move, fill=0.5)
    padded = np.pad(x, ((0, 0), (2, 0), (0, 1), (0, 0)), constant_values=0.5)
    np.testing.assert_array_equal(moved, padded[:, :6, 1:])


def test_random_affine_draws_each_parameter_uniformly() -> None:
    """Read back from images of the rows and columns: what is read is the place it was read at."""
    n, size, centre = 400, 15, 7
    ranges = {"degrees": 25.0, "translate": 0.1, "scale": 0.2, "shear": 15.0}
    where = jnp.broadcast_to(places(size, size), (n, size, size, 2))
    read = np.asarray(jax.jit(augment.random_affine)(KEY, where, **ranges), np.float64)
    middle = read[:, centre, centre]
    down, right = read[:, centre + 1, centre], read[:, centre, centre + 1]
    forward = np.linalg.inv(np.stack([down - middle, right - middle], axis=-1))
    shift = -np.einsum("nij,nj->ni", forward, middle - centre)
    scale = np.linalg.norm(forward[:, :, 1], axis=1)  # a shear leaves the rows' direction
    angle = np.arctan2(-forward[:, 0, 1], forward[:, 1, 1])
    upright = np.einsum("nji,nj->ni", forward, forward[:, :, 1]) / scale[:, None] ** 2
    found = {
        "degrees": np.degrees(angle) / ranges["degrees"],
        "down": shift[:, 0] / size / ranges["translate"],
        "right": shift[:, 1] / size / ranges["translate"],
        "scale": (scale - 1) / ranges["scale"],
        "shear": np.degrees(np.arctan(upright[:, 0])) / ranges["shear"],
    }
    for name, values in found.items():
        assert scipy.stats.kstest(values, "uniform", (-1, 2)).pvalue > 0.01, name
    correlation = np.corrcoef(list(found.values())) - np.eye(5)
    assert abs(correlation).max() < 4 / np.sqrt(n)


def test_elastic_smooths_the_noise_that_it_has_with_sigma_0() -> None:
    where = jnp.broadcast_to(places(24, 24), (3, 24, 24, 2))
    inner = np.s_[:, 8:-8, 8:-8]

    def displacement(alpha: float, sigma: float) -> np.ndarray:
        return np.asarray(elastic(KEY, where, alpha, sigma) - where)

    noise = displacement(0.9, 0.0) / 0.9
    noise[:, [0, -1]] = noise[:, :, [0, -1]] = 0  # they may have read the fill
    smooth = scipy.ndimage.gaussian_filter(noise, 0.8, mode="constant", axes=(1, 2))
    np.testing.assert_allclose(displacement(2.0, 0.8)[inner], 2 * smooth[inner], atol=1e-3)
    assert scipy.stats.kstest(noise[:, 1:-1, 1:-1].ravel(), "uniform", (-1, 2)).pvalue > 0.01


def test_elastic_displaces_by_the_stated_standard_deviation() -> None:
    where = jnp.broadcast_to(places(20, 20), (400, 20, 20, 2))
    moved = (elastic(KEY, where, 8.0, 1.5) - where)[:, 6:-6, 6:-6]
    assert float(moved.std()) == pytest.approx(8 / (1.5 * np.sqrt(12 * np.pi)), rel=0.05)


# Mixing. With targets 1 for each example's own row, the mixed targets are the mixing itself.


@given(
    seed=seeds,
    alpha=st.sampled_from([0.0, 0.2, 1.0, 8.0]),
    per_example=st.booleans(),
    count=st.sampled_from([None, 1, 4]),
)
def test_mixing_does_to_targets_what_it_does_to_images(
    seed: int, alpha: float, per_example: bool, count: int | None
) -> None:
    """As matrices; for CutMix with one channel an example, whose share of pixels is its target."""
    key = jax.random.key(seed)
    mask = None if count is None else jnp.asarray(np.arange(N) < count)
    x, targets = jnp.asarray(images(seed)), jnp.eye(N)
    mixed, shares = augment.mixup(key, x, targets, alpha, mask, per_example)
    np.testing.assert_allclose(mixed, np.tensordot(shares, x, 1), atol=1e-5)
    owned = jnp.broadcast_to(targets[:, None, None, :], (N, 7, 9, N))
    cut, cut_shares = augment.cutmix(key, owned, targets, alpha, mask, per_example)
    np.testing.assert_allclose(cut.mean((1, 2)), cut_shares, atol=1e-6)
    assert set(np.unique(cut)) <= {0, 1}
    for matrix in (shares, cut_shares):
        np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)
        # A permutation: each example gives as much in all as it takes, if λ is the same for all.
        if not per_example:
            np.testing.assert_allclose(matrix.sum(0), 1, atol=1e-6)
            assert len(np.unique(np.round(np.diag(matrix), 5))) <= 2
        if count is not None:
            np.testing.assert_allclose(matrix[count:, count:], np.eye(N - count), atol=1e-6)
            assert not matrix[:count, count:].any()


@pytest.mark.parametrize("mixing", [augment.mixup, augment.cutmix])
@pytest.mark.parametrize("kind", [bool, np.float32])
def test_padding_rows_leak_nothing_even_if_nan(mixing: Any, kind: Any) -> None:
    x = jnp.asarray(images()).at[4:].set(jnp.nan)
    targets = jnp.eye(N).at[4:].set(jnp.nan)
    mask = jnp.asarray(np.arange(N) < 4, kind)
    for key in jax.random.split(KEY, 5):
        for values in mixing(key, x, targets, 1.0, mask):
            assert jnp.isfinite(values[:4]).all()
            assert jnp.isnan(values[4:]).any()


@pytest.mark.parametrize("alpha", [0.4, 1.0, 6.0])
def test_lambda_is_beta(alpha: float) -> None:
    n = 600
    shares = augment.mixup(KEY, jnp.zeros(n), jnp.eye(n), alpha, per_example=True)[1]
    # A row that is its own partner hides its λ.
    lam = np.diag(shares)[np.count_nonzero(shares, axis=1) == 2]
    assert scipy.stats.kstest(lam, scipy.stats.beta(alpha, alpha).cdf).pvalue > 0.01


@pytest.mark.parametrize("mask", [None, jnp.array([True, False, True, True])])
def test_partners_are_a_uniform_permutation_of_the_rows_that_count(mask: Any) -> None:
    draw = jax.jit(jax.vmap(lambda key: augment.partners(key, 4, mask)))
    orders = draw(jax.random.split(KEY, 2400))
    found, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(found) == (24 if mask is None else 6)
    assert mask is None or (found[:, 1] == 1).all()
    assert scipy.stats.chisquare(counts).pvalue > 0.01


def test_mix_is_exact_at_both_ends() -> None:
    x, partner = jnp.asarray(images(0)), jnp.asarray(images(1))
    bad = partner.at[0].set(jnp.inf)
    for dtype in (jnp.float32, jnp.bfloat16):
        a, b = x.astype(dtype), bad.astype(dtype)
        np.testing.assert_array_equal(augment.mix(a, b, 1.0), a)
        np.testing.assert_array_equal(augment.mix(b, a, 0.0), a)
    low = augment.mix(x.astype(jnp.bfloat16), partner.astype(jnp.bfloat16), 0.3)
    exact = augment.mix(x, partner, 0.3)
    np.testing.assert_allclose(low.astype(jnp.float32), exact, atol=0.03)


# Morphology.


@pytest.mark.parity
@given(dtype=dtypes, seed=seeds)
def test_dilation_and_erosion_are_scipys_and_torchs(dtype: str, seed: int) -> None:
    import torch

    x = images(seed, dtype)
    larger = torch.nn.functional.max_pool2d(torch.tensor(first(x)), 3, 1, 1)
    with jax.enable_x64(dtype == "float64"):
        dilated, eroded = augment.dilate(jnp.asarray(x)), augment.erode(jnp.asarray(x))
    size = (1, 3, 3, 1)
    for name, ours, scipys in (
        ("dilate", dilated, scipy.ndimage.grey_dilation),
        ("erode", eroded, scipy.ndimage.grey_erosion),
    ):
        compare(f"augment.{name}", f"scipy.ndimage.{scipys.__name__}", ours, scipys(x, size))
    owner = "torch.nn.functional.max_pool2d"
    compare("augment.dilate", owner, dilated, np.moveaxis(larger.numpy(), 1, -1))


def test_random_thickness_goes_uniformly_both_ways() -> None:
    """One bright pixel and one dark one: a neighbour of each tells how far and which way."""
    n = 400
    x = np.zeros((n, 3, 9, 1), np.float32)
    x[:, 1, 1], x[:, 1, 5] = 1, -1
    y = np.asarray(jax.jit(augment.random_thickness)(KEY, x, 0.6))
    thicker, thinner = y[:, 1, 2, 0], y[:, 1, 4, 0]
    assert (np.minimum(thicker, -thinner) == 0).all()
    assert scipy.stats.kstest((thicker + thinner) / 0.6, "uniform", (-1, 2)).pvalue > 0.01


# Moving and erasing.


def candidates(x: np.ndarray, padding: int) -> np.ndarray:
    """`(crops, H, W, C)`: every crop of one padded image."""
    height, width, _ = x.shape
    padded = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
    starts = np.ndindex(2 * padding + 1, 2 * padding + 1)
    return np.stack([padded[i : i + height, j : j + width] for i, j in starts])


def counts(results: jax.Array, options: np.ndarray) -> np.ndarray:
    """How often each option came out; every result has to be one of them."""
    same = (np.asarray(results)[:, None] == options[None]).all((2, 3, 4))
    assert (same.sum(1) == 1).all()
    return same.sum(0)


def test_random_shift_is_uniform_over_the_crops_of_the_padded_image() -> None:
    x = images(shape=(4, 5, 1))
    batch = jnp.broadcast_to(x[None], (1500, 4, 5, 1))
    found = counts(jax.jit(augment.random_shift)(KEY, batch, 2), candidates(x, 2))
    assert scipy.stats.chisquare(found).pvalue > 0.01


def test_random_crop_flip_is_uniform_over_the_crops_and_their_mirror_images() -> None:
    x = images(shape=(4, 5, 1))
    batch = jnp.broadcast_to(x[None], (1500, 4, 5, 1))
    crops = candidates(x, 1)
    options = np.concatenate([crops, crops[:, :, ::-1]])
    found = counts(augment.random_crop_flip(KEY, batch, 1, 0.25), options)
    expected = np.repeat([0.75, 0.25], 9) / 9 * 1500
    assert scipy.stats.chisquare(found, expected).pvalue > 0.01


def test_random_flip_twice_is_the_identity() -> None:
    x = jnp.asarray(images())
    once = augment.random_flip(KEY, x)
    assert not (once == x).all()
    np.testing.assert_array_equal(augment.random_flip(KEY, once), x)
    np.testing.assert_array_equal(augment.random_flip(KEY, x, 1.0), x[:, :, ::-1])


@pytest.mark.parametrize("size", [1, 4, 5])
def test_cutout_is_uniform_over_the_squares_cut_off_at_the_border(size: int) -> None:
    height, width = 6, 5
    options = np.ones((height * width, height, width, 1))
    for box, (i, j) in zip(options, np.ndindex(height, width), strict=True):
        low = np.maximum(np.array([i, j]) - size // 2, 0)
        high = np.array([i, j]) - size // 2 + size
        box[low[0] : high[0], low[1] : high[1]] = 0
    found = counts(jax.jit(augment.cutout)(KEY, jnp.ones((1500, height, width, 1)), size), options)
    assert scipy.stats.chisquare(found).pvalue > 0.01


@pytest.mark.parametrize("axes", [1, 4])
def test_a_fill_may_be_traced_and_differ_by_channel(axes: int) -> None:
    """By channel, as `(C,)` or as data are scaled, `(1, 1, 1, C)`."""
    x, fill = jnp.ones(SHAPE), jnp.array([0.25, 0.75], ndmin=axes)
    for function in (
        partial(augment.cutout, KEY, x, 100),
        partial(augment.random_shift, jax.random.key(1), x, 1000),
        partial(augment.affine, x, jnp.zeros((N, 2, 3)).at[..., 2].set(50)),
    ):
        y = jax.jit(function)(fill=fill)
        # The last pixel of each image: a shift by 1000 leaves none of the image, nor does a
        # square of 100 unless it is the first row or column; here neither happens.
        np.testing.assert_array_equal(y, jnp.broadcast_to(fill, SHAPE))


# What holds for all.

Augmentation = Callable[[jax.Array, jax.Array, Any], jax.Array]


def labelled(mixing: Any) -> Augmentation:
    return lambda key, x, alpha: mixing(key, x, jnp.ones((len(x), 1)), alpha, per_example=True)[0]


FAMILY: dict[str, tuple[Augmentation, float]] = {
    "mixup": (labelled(augment.mixup), 1.0),
    "cutmix": (labelled(augment.cutmix), 1.0),
    "cutout": (lambda key, x, size: augment.cutout(key, x, size, 0.5), 3.0),
    "shift": (lambda key, x, m: augment.random_shift(key, x, m, 0.5), 3.0),
    "flip": (augment.random_flip, 0.5),
    "crop_flip": (lambda key, x, m: augment.random_crop_flip(key, x, m, m / 6, 0.5), 3.0),
    "rotate": (lambda key, x, s: augment.random_affine(key, x, degrees=s, fill=0.5), 30.0),
    "translate": (lambda key, x, s: augment.random_affine(key, x, translate=s, fill=0.5), 0.2),
    "scale": (lambda key, x, s: augment.random_affine(key, x, scale=s, fill=0.5), 0.3),
    "shear": (lambda key, x, s: augment.random_affine(key, x, shear=s, fill=0.5), 20.0),
    "elastic": (lambda key, x, alpha: augment.elastic(key, x, alpha, 1.0, 0.5), 4.0),
    "thickness": (augment.random_thickness, 0.8),
}
LINEAR = [name for name in FAMILY if name != "thickness"]


def compiling(name: str, function: Any) -> Any:
    """As one program, but for what draws from Beta, which alone is compiled once for all."""
    return function if name in ("mixup", "cutmix") else jax.jit(function)


@pytest.mark.parametrize("name", FAMILY)
def test_contract(name: str) -> None:
    """One compiled program for all strengths, 0 exact, vmap = loop, and constants stay constant."""
    function, strength = FAMILY[name]
    traces = []

    @jax.jit
    def compiled(key: jax.Array, x: jax.Array, strength: Any) -> jax.Array:
        traces.append(strength)
        return function(key, x, strength)

    x = jnp.asarray(images())
    y = compiled(KEY, x, strength)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    np.testing.assert_array_equal(compiled(KEY, x, 0.0), x)
    np.testing.assert_allclose(function(KEY, x, strength), y, atol=2e-5)
    assert not np.allclose(compiled(jax.random.key(1), x, strength), y)
    np.testing.assert_allclose(
        compiled(KEY, jnp.full(SHAPE, 0.5, jnp.float32), strength), 0.5, atol=1e-6
    )
    same = compiled(KEY, jnp.broadcast_to(x[:1], SHAPE), strength)
    if name not in ("mixup", "cutmix"):
        assert len(np.unique(np.asarray(same).reshape(N, -1), axis=0)) > (
            1 if name == "flip" else 3
        )
    assert len(traces) == 1
    many = compiling(name, jax.vmap(function, (None, None, 0)))(
        KEY, x, jnp.array([0.0, strength / 2, strength])
    )
    np.testing.assert_array_equal(many[0], x)
    np.testing.assert_allclose(many[1], compiled(KEY, x, strength / 2), atol=2e-5)
    np.testing.assert_allclose(many[2], y, atol=2e-5)


@pytest.mark.parametrize("name", FAMILY)
def test_every_dtype_is_kept_and_draws_the_same(name: str) -> None:
    function, strength = FAMILY[name]
    function = compiling(name, function)
    x = jnp.asarray(images()).astype(jnp.bfloat16)
    y = function(KEY, x.astype(jnp.float32), strength)
    low = function(KEY, x, strength)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(jnp.float32), y, atol=0.02)
    with jax.enable_x64(True):
        high = function(KEY, jnp.asarray(x, jnp.float64), strength)
    assert high.dtype == jnp.float64
    np.testing.assert_allclose(high, y, atol=2e-5)


@pytest.mark.parametrize("name", LINEAR)
def test_gradients_are_those_of_a_linear_map_of_the_images(name: str) -> None:
    """But for the fill: ⟨∂⟨y, c⟩/∂x, v⟩ = ⟨A(x + v) − A(x), c⟩, finite at strength 0 too."""
    function, strength = FAMILY[name]
    x, v, c = (jnp.asarray(images(seed)) for seed in range(3))

    @partial(compiling, name)
    def both(s: Any) -> tuple[jax.Array, jax.Array]:
        y, pull = jax.vjp(lambda x: function(KEY, x, s), x)
        change = jnp.vdot(function(KEY, x + v, s) - y, c)
        return jnp.vdot(pull(c)[0], v), change

    for s in (strength, 0.0):
        product, change = both(s)
        assert float(product) == pytest.approx(float(change), rel=1e-3, abs=1e-3)


def test_gradients_of_thickness_are_its_slopes() -> None:
    """It is linear but where two neighbours are equal."""
    with jax.enable_x64(True):
        x = jnp.asarray(images(dtype="float64"))
        thickness = jax.jit(lambda x: augment.random_thickness(KEY, x, 0.8))
        check_grads(thickness, (x,), order=1, modes=["rev"])


IMAGES = jnp.zeros((4, 5, 5, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: augment.mixup(KEY, IMAGES, jnp.zeros(4, int), 1.0), "jax.nn.one_hot"),
        (lambda: augment.mixup(KEY, IMAGES.astype(int), jnp.eye(4), 1.0), "x must be floating"),
        (lambda: augment.cutmix(KEY, IMAGES, jnp.eye(3), 1.0), "as many rows, got 4 and 3"),
        (lambda: augment.cutmix(KEY, IMAGES[0], jnp.eye(5), 1.0), r"\(N, H, W, C\).*\(5, 5, 1\)"),
        (lambda: augment.mixup(KEY, IMAGES, jnp.eye(4), 1.0, jnp.ones(3)), r"\(4,\).*\(3,\)"),
        (lambda: augment.cutout(KEY, IMAGES[..., 0], 3), "images must be"),
        (lambda: augment.random_thickness(KEY, IMAGES[0], 1), "images must be"),
        (lambda: augment.random_shift(KEY, IMAGES.astype(jnp.uint8), 3), "floating.* of uint8"),
        (
            lambda: augment.sample(IMAGES, jnp.zeros((3, 5, 5, 2))),
            r"\(4, H, W, 2\).*\(3, 5, 5, 2\)",
        ),
        (lambda: augment.affine(IMAGES, jnp.zeros((2, 3))), r"\(4, 2, 3\), got \(2, 3\)"),
    ],
)
def test_bad_input(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_coordinates_far_outside_read_the_fill_and_nan_is_not_hidden() -> None:
    at = jnp.array([[[[-1e30, 2.0]], [[2.0, 1e30]], [[jnp.nan, 2.0]]]])
    read = sample(jnp.ones((1, 5, 5, 1)), at, fill=0.5).ravel()
    np.testing.assert_array_equal(read, [0.5, 0.5, np.nan])


def test_negative_alpha_is_not_hidden() -> None:
    assert jnp.isnan(augment.mixup(KEY, IMAGES, jnp.eye(4), -1.0)[1]).any()
