"""Norms against PyTorch, Flax and Keras, forward and backward, and the equalities between them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from regjax import normalization as norm
from regjax.normalization import core
from regjax.normalization.standardize import summed
from regjax.pooling import max_pool_2x2

from .contract import one_program
from .parity import compare

SHAPES = {"1d": (6, 8), "2d": (6, 5, 4, 8), "3d": (6, 3, 2, 4, 8)}
CHANNELS = 8
dtypes = st.sampled_from(["float32", "float64"])
shapes = st.sampled_from(list(SHAPES.values()))
spatial = st.sampled_from([SHAPES["2d"], SHAPES["3d"], (6, 7, 8)])
seeds = st.integers(0, 2**16)


def values(seed: int, dtype: str, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0.5, 2, shape).astype(dtype) for shape in shapes]


def example(shape: tuple[int, ...], seed: int = 0) -> list[jax.Array]:
    return [jnp.asarray(a) for a in values(seed, "float32", shape, shape[-1:], shape[-1:])]


def first(x: np.ndarray) -> np.ndarray:
    """Channels first, as PyTorch has them."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


def last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 1, -1)


def same_as_torch(
    block: str,
    owner: str,
    ours: Callable[..., jax.Array],
    theirs: Callable[..., Any],
    inputs: list[np.ndarray],
    seed: int,
    image: bool = True,
) -> None:
    """Values, and the gradients of every input for one cotangent, drawn by the seed.

    Images go to PyTorch with their channels first; the other inputs as they are.
    """
    import torch

    layout, back = (first, last) if image else (np.asarray, np.asarray)
    tensors = [torch.tensor(layout(x) if i == 0 else x) for i, x in enumerate(inputs)]
    for tensor in tensors:
        tensor.requires_grad_()
    expected = theirs(*tensors)
    (weights,) = values(seed + 1, str(inputs[0].dtype), tuple(expected.shape))
    expected.backward(torch.tensor(weights))

    @jax.jit
    def both(weights: jax.Array, *inputs: jax.Array) -> Any:
        y, pull = jax.vjp(ours, *inputs)
        return y, pull(weights)

    with jax.enable_x64(inputs[0].dtype == np.float64):
        y, gradients = both(jnp.asarray(back(weights)), *map(jnp.asarray, inputs))
        compare(block, owner, y, back(expected.detach().numpy()))
    for i, (mine, tensor) in enumerate(zip(gradients, tensors, strict=True)):
        assert tensor.grad is not None
        grad = tensor.grad.numpy()
        compare(block, owner, mine, back(grad) if i == 0 else grad)


@pytest.mark.parity
@given(shape=shapes, dtype=dtypes, seed=seeds)
def test_batch_norm_is_torchs(shape: tuple[int, ...], dtype: str, seed: int) -> None:
    import torch

    inputs = values(seed, dtype, shape, (CHANNELS,), (CHANNELS,))

    def theirs(x: Any, scale: Any, bias: Any) -> Any:
        return torch.nn.functional.batch_norm(x, None, None, scale, bias, training=True)

    def ours(*inputs: Any) -> jax.Array:
        return norm.batch_norm(*inputs)[0]

    owner = "torch.nn.functional.batch_norm"
    same_as_torch("normalization.batch_norm", owner, ours, theirs, inputs, seed)


@pytest.mark.parity
@given(shape=spatial, dtype=dtypes, seed=seeds, groups=st.sampled_from([1, 2, 4]))
def test_group_norm_is_torchs(shape: tuple[int, ...], dtype: str, seed: int, groups: int) -> None:
    import torch

    inputs = values(seed, dtype, shape, (CHANNELS,), (CHANNELS,))
    same_as_torch(
        "normalization.group_norm",
        "torch.nn.functional.group_norm",
        lambda x, *affine: norm.group_norm(x, groups, *affine),
        lambda x, *affine: torch.nn.functional.group_norm(x, groups, *affine),
        inputs,
        seed,
    )


@pytest.mark.parity
@given(shape=spatial, dtype=dtypes, seed=seeds)
def test_instance_norm_is_torchs(shape: tuple[int, ...], dtype: str, seed: int) -> None:
    import torch

    inputs = values(seed, dtype, shape, (CHANNELS,), (CHANNELS,))

    def theirs(x: Any, scale: Any, bias: Any) -> Any:
        return torch.nn.functional.instance_norm(x, weight=scale, bias=bias)

    owner = "torch.nn.functional.instance_norm"
    same_as_torch("normalization.instance_norm", owner, norm.instance_norm, theirs, inputs, seed)


@pytest.mark.parity
@given(shape=st.sampled_from([(6, 8), (4, 5, 8)]), dtype=dtypes, seed=seeds, last=st.booleans())
def test_layer_norm_is_torchs(shape: tuple[int, ...], dtype: str, seed: int, last: bool) -> None:
    """Over the last axis as `LayerNorm(C)`, over all of a sample as `LayerNorm((T, C))`."""
    import torch

    axes, features = ((-1,), shape[-1:]) if last else (None, shape[1:])
    weights = [] if not last else values(seed + 2, dtype, features, features)
    same_as_torch(
        "normalization.layer_norm",
        "torch.nn.functional.layer_norm",
        lambda x, *affine: norm.layer_norm(x, *affine, axes=axes),
        lambda x, *affine: torch.nn.functional.layer_norm(x, features, *affine),
        [*values(seed, dtype, shape), *weights],
        seed,
        image=False,
    )


@pytest.mark.parity
@given(shape=shapes, dtype=dtypes, seed=seeds, epsilon=st.sampled_from([None, 1e-6]))
def test_rms_norm_is_torchs(
    shape: tuple[int, ...], dtype: str, seed: int, epsilon: float | None
) -> None:
    import torch

    same_as_torch(
        "normalization.rms_norm",
        "torch.nn.functional.rms_norm",
        lambda x, scale: norm.rms_norm(x, scale, epsilon),
        lambda x, scale: torch.nn.functional.rms_norm(x, (CHANNELS,), scale, epsilon),
        values(seed, dtype, shape, (CHANNELS,)),
        seed,
        image=False,
    )


KERNELS = st.sampled_from([(7, 5), (3, 3, 4, 6), (2, 3, 2, 4, 5)])


def torch_kernel(kernel: np.ndarray) -> np.ndarray:
    """`(*window, in, out)` as PyTorch's `(out, in, *window)`."""
    return np.ascontiguousarray(np.moveaxis(kernel, (-1, -2), (0, 1)))


def our_kernel(kernel: Any) -> np.ndarray:
    return np.moveaxis(kernel.detach().numpy(), (0, 1), (-1, -2))


@pytest.mark.parity
@given(shape=KERNELS, dtype=dtypes, seed=seeds)
def test_weight_norms_are_torchs(shape: tuple[int, ...], dtype: str, seed: int) -> None:
    import torch

    kernel, magnitude, cotangent = values(seed, dtype, shape, shape[-1:], shape)
    theirs = torch.tensor(torch_kernel(kernel), requires_grad=True)
    lengths = torch.tensor(magnitude.reshape(-1, *(1,) * (len(shape) - 1)), requires_grad=True)
    w = torch._weight_norm(theirs, lengths, 0)
    w.backward(torch.tensor(torch_kernel(cotangent)))
    assert theirs.grad is not None
    assert lengths.grad is not None
    with jax.enable_x64(dtype == "float64"):
        y, pull = jax.vjp(norm.weight_norm, jnp.asarray(kernel), jnp.asarray(magnitude))
        owner = "torch.nn.utils.parametrizations.weight_norm"
        compare("normalization.weight_norm", owner, y, our_kernel(w))
        dv, dg = pull(jnp.asarray(cotangent))
        compare("normalization.weight_norm", owner, dv, our_kernel(theirs.grad))
        compare("normalization.weight_norm", owner, dg, lengths.grad.numpy().ravel())
        standard = norm.weight_standardization(jnp.asarray(kernel), 1e-5)
    flat = torch.tensor(torch_kernel(kernel))
    expected = torch.nn.functional.layer_norm(flat, flat.shape[1:], eps=1e-5)
    compare(
        "normalization.weight_standardization",
        "torch.nn.functional.layer_norm over each unit",
        standard,
        our_kernel(expected),
    )


@pytest.mark.parity
@given(shape=KERNELS, dtype=dtypes, seed=seeds)
def test_spectral_norm_is_torchs(shape: tuple[int, ...], dtype: str, seed: int) -> None:
    import torch

    kernel, cotangent = values(seed, dtype, shape, shape)
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.tensor(torch_kernel(kernel)))
    torch.manual_seed(seed)
    torch.nn.utils.parametrizations.spectral_norm(module)
    power: Any = module.parametrizations.weight[0]
    # PyTorch's right vector lies along (in, *window), ours along (*window, in).
    inside = torch_kernel(kernel).shape[1:]

    def right() -> np.ndarray:
        return np.moveaxis(power._v.numpy().reshape(inside), 0, -1).ravel()

    with jax.enable_x64(dtype == "float64"):
        vectors = norm.SingularVectors(jnp.array(power._u.numpy()), jnp.array(right()))
        w = module.weight
        w.backward(torch.tensor(torch_kernel(cotangent)))
        (y, vectors), pull = jax.vjp(lambda k: norm.spectral_norm(k, vectors), jnp.asarray(kernel))
        owner = "torch.nn.utils.parametrizations.spectral_norm"
        compare("normalization.spectral_norm", owner, y, our_kernel(w))
        compare("normalization.spectral_norm", owner, vectors, (power._u.numpy(), right()))
        (gradient,) = pull((jnp.asarray(cotangent), jax.tree.map(jnp.zeros_like, vectors)))
        original: Any = module.parametrizations.weight.original
        compare("normalization.spectral_norm", owner, gradient, our_kernel(original.grad))


def test_spectral_norm_converges_to_the_largest_singular_value() -> None:
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 4, 8))
    start = norm.SingularVectors(jnp.ones(8) / np.sqrt(8), jnp.ones(36) / 6)
    y, vectors = norm.spectral_norm(kernel, start, iterations=100)
    values = jnp.linalg.svd(y.reshape(36, 8), compute_uv=False)
    assert float(values[0]) == pytest.approx(1, rel=1e-5)
    again, same = norm.spectral_norm(kernel, vectors, iterations=0)
    np.testing.assert_allclose(again, y, rtol=1e-6)
    np.testing.assert_array_equal(same.left, vectors.left)


# The layers with their running statistics, by preset, against each owner's layer.


def after_three_batches(layer: Any, shape: tuple[int, ...], dtype: str) -> tuple[list[Any], Any]:
    """Outputs of training on three batches and of inference, and the running statistics."""
    xs = [x for seed in range(4) for x in values(seed, dtype, shape)]
    with jax.enable_x64(dtype == "float64"):
        variables = layer.init(jax.random.key(0), jnp.asarray(xs[0]), train=False)
        variables = jax.tree.map(lambda leaf: leaf.astype(dtype), variables)
        train = jax.jit(partial(layer.apply, train=True, mutable=["batch_stats"]))
        outputs = []
        for x in xs[:3]:
            y, updates = train(variables, jnp.asarray(x))
            variables = {**variables, **updates}
            outputs.append(y)
        outputs.append(layer.apply(variables, jnp.asarray(xs[3]), train=False))
        return outputs, variables["batch_stats"]


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_batch_norm_layer_is_torchs(shape: tuple[int, ...], dtype: str) -> None:
    import torch

    kind = {2: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}[len(shape)]
    theirs = kind(CHANNELS, dtype=getattr(torch, dtype))
    xs = [torch.tensor(first(x)) for seed in range(4) for x in values(seed, dtype, shape)]
    expected = [last(theirs(x).detach().numpy()) for x in xs[:3]]
    theirs.eval()
    expected.append(last(theirs(xs[3]).detach().numpy()))
    outputs, running = after_three_batches(norm.BatchNorm(), shape, dtype)
    block, owner = "normalization.BatchNorm", "torch.nn.BatchNorm1d to 3d"
    compare(block, owner, outputs, expected)
    assert theirs.running_mean is not None
    assert theirs.running_var is not None
    state = [theirs.running_mean.numpy(), theirs.running_var.numpy()]
    compare(block, owner, [running["mean"], running["variance"]], state)


@pytest.mark.parity
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_batch_norm_layer_is_flaxs(shape: tuple[int, ...]) -> None:
    theirs = nn.BatchNorm(use_fast_variance=False)
    xs = [jnp.asarray(x) for seed in range(4) for x in values(seed, "float32", shape)]
    variables: Any = theirs.init(jax.random.key(0), xs[0], use_running_average=True)
    expected = []
    for x in xs[:3]:
        y, updates = theirs.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
        variables = variables | updates
        expected.append(y)
    expected.append(theirs.apply(variables, xs[3], use_running_average=True))
    outputs, running = after_three_batches(norm.BatchNorm(preset="flax"), shape, "float32")
    compare("normalization.BatchNorm", "flax.linen.BatchNorm", outputs, expected)
    state = [variables["batch_stats"]["mean"], variables["batch_stats"]["var"]]
    ours = [running["mean"], running["variance"]]
    compare("normalization.BatchNorm", "flax.linen.BatchNorm", ours, state)


@pytest.mark.parity
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_batch_norm_layer_is_keras(shape: tuple[int, ...]) -> None:
    """On data of mean 0: Keras takes the variance as E[x²] − E[x]²."""
    import keras

    theirs = keras.layers.BatchNormalization()
    xs = [x for seed in range(4) for x in values(seed, "float32", shape)]
    expected = [np.asarray(theirs(x, training=True)) for x in xs[:3]]
    expected.append(np.asarray(theirs(xs[3], training=False)))
    outputs, running = after_three_batches(norm.BatchNorm(preset="keras"), shape, "float32")
    compare("normalization.BatchNorm", "keras.layers.BatchNormalization", outputs, expected)
    state = [np.asarray(theirs.moving_mean), np.asarray(theirs.moving_variance)]
    ours = [running["mean"], running["variance"]]
    compare("normalization.BatchNorm", "keras.layers.BatchNormalization", ours, state)


LAYERS = [
    (norm.LayerNorm(preset="torch", axes=(-1,)), "torch.nn.LayerNorm"),
    (norm.LayerNorm(preset="flax", axes=(-1,)), "flax.linen.LayerNorm"),
    (norm.LayerNorm(preset="keras", axes=(-1,)), "keras.layers.LayerNormalization"),
    (norm.GroupNorm(preset="torch", groups=4), "torch.nn.GroupNorm"),
    (norm.GroupNorm(preset="flax", groups=4), "flax.linen.GroupNorm"),
    (norm.GroupNorm(preset="keras", groups=4), "keras.layers.GroupNormalization"),
    (norm.InstanceNorm(preset="torch"), "torch.nn.InstanceNorm2d"),
    (norm.InstanceNorm(preset="flax"), "flax.linen.InstanceNorm"),
    (norm.InstanceNorm(preset="keras"), "keras.layers.GroupNormalization"),
    (norm.RMSNorm(preset="torch"), "torch.nn.RMSNorm"),
    (norm.RMSNorm(preset="flax"), "flax.linen.RMSNorm"),
    (norm.RMSNorm(preset="keras"), "keras.layers.RMSNormalization"),
]


def owners_default(owner: str, x: np.ndarray, ours: Any) -> np.ndarray:
    """What the owner's layer, as it is by default, makes of x."""
    kind = owner.rsplit(".", 1)[1]
    if owner.startswith("torch"):
        import torch

        layer = getattr(torch.nn, kind)
        if "GroupNorm" in kind:
            return last(layer(4, CHANNELS)(torch.tensor(first(x))).detach().numpy())
        if "Instance" in kind:
            return last(layer(CHANNELS)(torch.tensor(first(x))).detach().numpy())
        return layer(CHANNELS)(torch.tensor(x)).detach().numpy()
    if owner.startswith("flax"):
        options = {} if kind == "RMSNorm" else {"use_fast_variance": False}
        options |= {"num_groups": 4} if kind == "GroupNorm" else {}
        return np.asarray(getattr(nn, kind)(**options).init_with_output(jax.random.key(0), x)[0])
    import keras

    options = {}
    if kind == "GroupNormalization":
        options = {"groups": -1 if isinstance(ours, norm.InstanceNorm) else 4}
    with jax.numpy_rank_promotion("allow"):
        return np.asarray(getattr(keras.layers, kind)(**options)(x))


@pytest.mark.parity
@pytest.mark.parametrize(("layer", "owner"), LAYERS, ids=lambda x: x if isinstance(x, str) else "")
def test_layer_presets_are_their_owners_defaults(layer: Any, owner: str) -> None:
    (x,) = values(0, "float32", SHAPES["2d"])
    y, variables = layer.init_with_output(jax.random.key(0), jnp.asarray(x))
    compare(f"normalization.{type(layer).__name__}", owner, y, owners_default(owner, x, layer))
    assert set(variables.get("params", {})) == (
        set()
        if "InstanceNorm2d" in owner
        else {"scale"}
        if isinstance(layer, norm.RMSNorm)
        else {"scale", "bias"}
    )


# Equalities.


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_equalities(shape: tuple[int, ...]) -> None:
    x, scale, bias = example(shape)
    affine = (scale, bias)
    batch, stats = norm.batch_norm(x, *affine)
    one_group = norm.group_norm(x, 1, *affine)
    np.testing.assert_allclose(norm.layer_norm(x, *affine), one_group, atol=1e-5)
    if len(shape) > 2:
        instance = norm.instance_norm(x, *affine)
        np.testing.assert_allclose(instance, norm.group_norm(x, CHANNELS, *affine), atol=1e-5)
    ghost, pooled = norm.ghost_batch_norm(x, 1, *affine)
    np.testing.assert_allclose(ghost, batch, atol=1e-5)
    np.testing.assert_allclose(pooled.variance, stats.variance, rtol=1e-5)
    two, _ = norm.ghost_batch_norm(x, 2, *affine)
    halves = [norm.batch_norm(half, *affine)[0] for half in (x[:3], x[3:])]
    np.testing.assert_allclose(two, jnp.concatenate(halves), atol=1e-5)
    running = (jnp.full(CHANNELS, 0.7), jnp.full(CHANNELS, 2.0))
    bound, _ = norm.batch_renorm(x, *running, *affine, r_max=1.0, d_max=0.0)
    np.testing.assert_allclose(bound, batch, atol=1e-5)
    free, _ = norm.batch_renorm(x, *running, *affine, r_max=jnp.inf, d_max=jnp.inf)
    inference = norm.normalize(
        x, jnp.full((1,) * x.ndim, 0.7), jnp.full((1,) * x.ndim, 2.0), *affine
    )
    np.testing.assert_allclose(free, inference, atol=1e-4)


@pytest.mark.parametrize("counts", [[4] * 8, [4, 1, 0, 2, 4, 3, 1, 4]], ids=["even", "uneven"])
def test_batch_norm_over_8_devices_is_batch_norm_of_the_whole(counts: list[int]) -> None:
    x, scale, bias = example((32, 5, 8))
    mask = jnp.asarray(np.arange(4) < np.array(counts)[:, None]).reshape(32)

    def loss(x: jax.Array, mask: jax.Array, axis_name: str | None) -> Any:
        y, stats = norm.batch_norm(x, scale, bias, mask, axis_name=axis_name)
        return jnp.where(mask[:, None, None], jnp.sin(y), 0), stats

    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    data = PartitionSpec("data")
    together = jax.jit(
        jax.shard_map(
            partial(loss, axis_name="data"),
            mesh=mesh,
            in_specs=(data, data),
            out_specs=(data, PartitionSpec()),
        )
    )
    expected, whole = loss(x, mask, None)
    y, stats = together(x, mask)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    for ours, theirs in zip(stats, whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    np.testing.assert_allclose(
        jax.jit(jax.grad(lambda x: together(x, mask)[0].sum()))(x),
        jax.jit(jax.grad(lambda x: loss(x, mask, None)[0].sum()))(x),
        atol=1e-5,
    )
    mapped = jax.jit(jax.vmap(partial(loss, axis_name="lanes"), axis_name="lanes"))
    y, _ = mapped(x.reshape(8, 4, 5, 8), mask.reshape(8, 4))
    np.testing.assert_allclose(y.reshape(x.shape), expected, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_padding_rows_do_not_count_even_if_nan(shape: tuple[int, ...]) -> None:
    x, scale, bias = example(shape)
    padded = jnp.concatenate([x, jnp.full((2, *shape[1:]), jnp.nan)])
    mask = jnp.array([1.0] * len(x) + [0.0] * 2)
    whole, expected = norm.batch_norm(x, scale, bias)
    part, stats = norm.batch_norm(padded, scale, bias, mask)
    np.testing.assert_allclose(part[: len(x)], whole, atol=1e-5)
    for ours, theirs in zip(stats, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    _, ghosts = norm.ghost_batch_norm(padded, 2, scale, bias, mask)
    assert all(jnp.isfinite(leaf).all() for leaf in ghosts)


def test_gradient_through_padding_is_finite_and_that_of_the_rows() -> None:
    x, scale, bias = example((6, 8))
    mask = jnp.array([1.0] * 6 + [0.0] * 2)

    def loss(x: jax.Array, mask: jax.Array | None) -> jax.Array:
        return jnp.sin(norm.batch_norm(x, scale, bias, mask)[0][:6]).sum()

    expected = jax.grad(loss)(x, None)
    padded = jnp.concatenate([x, jnp.ones((2, 8))])
    np.testing.assert_allclose(jax.grad(loss)(padded, mask)[:6], expected, atol=1e-5)


POOLED = {
    "batch": norm.BatchNorm(),
    "ghost": norm.GhostBatchNorm(groups=2),
    "renorm": norm.BatchRenorm(),
    "layer": norm.LayerNorm(),
    "layer of channels": norm.LayerNorm(axes=(-1,)),
    "group": norm.GroupNorm(groups=2),
    "instance": norm.InstanceNorm(affine=True),
    "instance without scale": norm.InstanceNorm(affine=False),
    "rms": norm.RMSNorm(),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("train", [True, False], ids=["train", "inference"])
@pytest.mark.parametrize("name", POOLED)
def test_pooling_inside_a_norm_is_pooling_after_it(name: str, train: bool, dtype: str) -> None:
    """Scales of both signs, uneven sizes, rows of padding; values, gradients, theirs in turn.

    In bfloat16 no gradients: what rounds to the same output is the same after the norm alone.
    """
    layer: Any = POOLED[name]
    x, scale, bias = (a.astype(dtype) for a in example((6, 5, 6, 8)))
    mask = jnp.array([1.0, 1, 1, 1, 1, 0])
    variables = layer.init(jax.random.key(0), x, train=False)
    given = {"scale": scale, "bias": bias}
    params = {name: given[name] for name in variables.pop("params", {})}

    def output(inside: bool, params: Any, x: jax.Array) -> Any:
        pool = max_pool_2x2 if inside else None
        y, updated = layer.apply(
            {"params": params, **variables},
            *(x, train, mask),
            pool=pool,
            mutable=["batch_stats"] if train else [],
        )
        return y if inside else max_pool_2x2(y), updated

    def loss(inside: bool, params: Any, x: jax.Array) -> jax.Array:
        return jnp.sin(output(inside, params, x)[0].astype("float32")).sum()

    def steepness(inside: bool, params: Any, x: jax.Array) -> jax.Array:
        gradients = jax.grad(loss, (1, 2))(inside, params, x)
        return optax.tree.norm(gradients, squared=True)

    rounding = 1e-5 if dtype == "float32" else 0.02
    gradients = (jax.grad(loss, (1, 2)), jax.grad(steepness, (1, 2)))
    for function in (output, *(gradients if dtype == "float32" else ())):
        ours, theirs = (jax.jit(function, static_argnums=0)(i, params, x) for i in (True, False))
        for got, want in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
            assert got.dtype == want.dtype
            got, want = got.astype("float32"), want.astype("float32")
            np.testing.assert_allclose(got, want, atol=rounding * float(1 + abs(want).max()))


# Hard numbers.

FAMILY: dict[str, Callable[[jax.Array], jax.Array]] = {
    "batch_norm": lambda x: norm.batch_norm(x)[0],
    "ghost_batch_norm": lambda x: norm.ghost_batch_norm(x, 2)[0],
    "batch_renorm": lambda x: norm.batch_renorm(x, x.mean((0, 1)), x.var((0, 1)))[0],
    "layer_norm": norm.layer_norm,
    "group_norm": lambda x: norm.group_norm(x, 2),
    "instance_norm": norm.instance_norm,
    "rms_norm": norm.rms_norm,
    "weight_standardization": norm.weight_standardization,
    "weight_norm": lambda x: norm.weight_norm(x, jnp.ones(x.shape[-1])),
}


@pytest.mark.parametrize("name", sorted(set(FAMILY) - {"rms_norm", "weight_norm"}))
def test_large_means_cost_no_accuracy(name: str) -> None:
    """Mean 1e4, deviation 1: the output's variance is 1 ± 1e-3."""
    x = jnp.asarray(1e4 + np.random.default_rng(0).normal(size=(64, 64, 8)).astype(np.float32))
    assert float(FAMILY[name](x).var()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 3), (1, 2), (1, 3)])
@pytest.mark.parametrize("value", [None, 0.1])
@pytest.mark.parametrize("total", [core.total, summed])
def test_sums_of_many_numbers_are_accurate(
    total: Any, value: float | None, axes: tuple[int, ...]
) -> None:
    """Within 5e-7, 25,088 in a row that are alike too, as in the background of images."""
    shape, rng = (32, 28, 28, 8), np.random.default_rng(0)
    x = rng.uniform(size=shape) if value is None else np.full(shape, value)
    x = x.astype(np.float32)
    exact = x.sum(axes, dtype=np.float64, keepdims=True)
    np.testing.assert_allclose(jax.jit(total, static_argnums=1)(x, axes), exact, rtol=5e-7)


@pytest.mark.parametrize("name", FAMILY)
def test_contract(name: str) -> None:
    """dtype kept and computed in float32, finite on constants, jit = eager, vmap = loop."""
    function = FAMILY[name]
    x = example((6, 16, 8))[0]
    y = function(x)
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    np.testing.assert_allclose(jax.jit(function)(x), y, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(function)(jnp.stack([x, 2 * x]))[0], y, atol=1e-5)
    for dtype in (jnp.bfloat16, jnp.float16):
        low = function(x.astype(dtype))
        assert low.dtype == dtype
        exact = function(x.astype(dtype).astype(jnp.float32))
        np.testing.assert_allclose(low.astype(jnp.float32), exact, atol=0.02)
    constant = jnp.full((6, 16, 8), 0.1)
    assert jnp.isfinite(function(constant)).all()
    assert jnp.isfinite(jax.grad(lambda x: function(x).sum())(constant)).all()


def test_epsilon_is_traced() -> None:
    x = example((6, 8))[0]
    small, large = one_program(
        lambda epsilon: norm.layer_norm(x, epsilon=epsilon), jnp.array([0.1, 1.0]), 1e-5, 1e-6
    )
    assert not np.allclose(small, large)


@pytest.mark.parametrize("pool", [None, lambda x: x.max((1, 2), keepdims=True)])
@pytest.mark.parametrize("name", ["batch_norm", "layer_norm", "group_norm", "instance_norm"])
def test_the_gradient_of_epsilon_is_that_of_differences(name: str, pool: Any) -> None:
    options: dict[str, Any] = {"groups": 2} if name == "group_norm" else {}
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 3, 6)))
        scale = jnp.arange(1.0, 7.0)

        def value(epsilon: jax.Array | float) -> jax.Array:
            y = getattr(norm, name)(x, scale=scale, epsilon=epsilon, pool=pool, **options)
            return ((y[0] if name == "batch_norm" else y) ** 3).sum()

        slope = (value(0.1 + 1e-6) - value(0.1 - 1e-6)) / 2e-6
        assert jax.grad(value)(0.1) == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rms_norm_by_its_default_epsilon_is_torchs(dtype: str) -> None:
    import torch

    given = torch.full((1, 4), 0.01).to(getattr(torch, dtype))
    expected = torch.nn.RMSNorm(4).to(given.dtype)(given).detach().float().numpy()
    ours = norm.rms_norm(jnp.full((1, 4), 0.01, dtype))
    np.testing.assert_allclose(ours.astype(jnp.float32), expected, rtol=1e-2)


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm", "rms_norm", "ghost_batch_norm"])
def test_whole_numbers_are_refused(name: str) -> None:
    with pytest.raises(TypeError, match="floating numbers, got int32"):
        FAMILY[name](jnp.ones((6, 16, 8), jnp.int32))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: norm.group_norm(x, 3), "groups must divide the 8 channels, got 3"),
        (lambda x: norm.ghost_batch_norm(x, 4), "groups must divide the batch of 6, got 4"),
        (lambda x: norm.ghost_batch_norm(x, 6), "more than one value per channel.* in 6 groups"),
        (lambda x: norm.batch_norm(x[:1]), r"more than one value per channel, got shape \(1, 8\)"),
        (lambda x: norm.batch_renorm(x[:1], x[0], x[0]), "more than one value per channel"),
        (norm.instance_norm, "more than one position per channel"),
    ],
)
def test_bad_shapes(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(example((6, 8))[0])


@pytest.mark.parametrize(
    "layer", [norm.GhostBatchNorm(groups=2), norm.BatchRenorm(), norm.BatchRenorm(r_max=1, d_max=0)]
)
def test_layers_with_running_statistics_reach_those_of_the_data(layer: Any) -> None:
    x = example((64, 8))[0]
    variables = layer.init(jax.random.key(0), x, train=False)
    train = jax.jit(partial(layer.apply, train=True, mutable=["batch_stats"]))
    for _ in range(200):
        y, updates = train(variables, x)
        variables = {**variables, **updates}
    running = variables["batch_stats"]
    np.testing.assert_allclose(running["mean"], x.mean(0), rtol=1e-3)
    spread = running["variance"] / x.var(0)
    assert (abs(spread - 1) < (0.1 if isinstance(layer, norm.GhostBatchNorm) else 0.02)).all()
    assert y.shape == x.shape


def test_instance_norm_removes_each_samples_contrast() -> None:
    x = example((6, 5, 4, 8))[0]
    np.testing.assert_allclose(norm.instance_norm(3 * x + 2), norm.instance_norm(x), atol=1e-3)


def test_statistics_count_axes_from_the_end_too() -> None:
    """And rows that a mask leaves out may hold anything."""
    (x,) = values(3, "float32", (6, 5, 4))
    mask = np.array([1, 1, 0, 1, 0, 1], np.float32)
    kept = x[mask > 0]
    x[mask == 0] = np.nan
    stats = norm.statistics(jnp.asarray(x), (0, -2), jnp.asarray(mask))
    np.testing.assert_allclose(stats.mean[0, 0], kept.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(stats.variance[0, 0], kept.var((0, 1)), rtol=1e-5)
    assert stats.count == kept[..., 0].size
