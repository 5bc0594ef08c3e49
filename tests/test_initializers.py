"""Initializers: fans, distributions and layer defaults as PyTorch's, JAX's and Keras's."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from regjax import initializers

from .parity import compare

SHAPES = {"dense": (200, 300), "conv": (3, 3, 20, 40), "conv1d": (5, 30, 40)}
KEY = jax.random.key(0)


def torch_layout(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[-1], shape[-2], *shape[:-2])


@pytest.mark.parity
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_fans_are_torchs(shape: tuple[int, ...]) -> None:
    import torch

    expected = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(torch_layout(shape)))
    assert initializers.fans(shape) == expected


@pytest.mark.parity
@pytest.mark.parametrize("groups", [1, 2, 8], ids=["full", "grouped", "depthwise"])
def test_fans_of_grouped_convolutions(groups: int) -> None:
    """fan_in as torch counts it; fan_out, which torch counts over all groups, by what is fed."""
    import torch

    layer = torch.nn.Conv2d(8, 16, 3, groups=groups, padding=1, bias=False)
    fan_in, fan_out = initializers.fans((3, 3, 8 // groups, 16), groups)
    theirs = torch.nn.init._calculate_fan_in_and_fan_out(layer.weight)
    assert (fan_in, fan_out * groups) == theirs
    torch.nn.init.ones_(layer.weight)
    x = torch.ones(1, 8, 5, 5, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert x.grad is not None
    assert (y[0, 0, 2, 2].item(), x.grad[0, 0, 2, 2].item()) == (fan_in, fan_out)


@pytest.mark.parity
def test_fans_of_transposed_convolutions_as_torch_counts_them() -> None:
    import torch

    layer = torch.nn.ConvTranspose2d(8, 16, 3)
    theirs = torch.nn.init._calculate_fan_in_and_fan_out(layer.weight)
    assert initializers.fans((3, 3, 8, 16), transposed=True) == theirs


@pytest.mark.parity
@pytest.mark.parametrize("name", ["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"])
def test_gains_are_torchs(name: str) -> None:
    import torch

    assert initializers.gain(name) == pytest.approx(torch.nn.init.calculate_gain(name), rel=1e-15)


TORCH = {
    "xavier_uniform": (initializers.xavier_uniform(2.0), "xavier_uniform_", {"gain": 2.0}),
    "xavier_normal": (initializers.xavier_normal(2.0), "xavier_normal_", {"gain": 2.0}),
    "he_uniform": (initializers.he_uniform(0.3), "kaiming_uniform_", {"a": 0.3}),
    "he_normal": (initializers.he_normal(0.3), "kaiming_normal_", {"a": 0.3}),
    "he_normal fan_out": (
        initializers.he_normal(mode="fan_out"),
        "kaiming_normal_",
        {"mode": "fan_out"},
    ),
    "he_uniform fan_out": (
        initializers.he_uniform(mode="fan_out"),
        "kaiming_uniform_",
        {"mode": "fan_out"},
    ),
    "uniform": (initializers.uniform(-1, 3), "uniform_", {"a": -1, "b": 3}),
    "normal": (initializers.normal(1.0, 0.5), "normal_", {"mean": 1.0, "std": 0.5}),
    "truncated_normal": (
        initializers.truncated_normal(0.1, 1.0, -0.5, 2.0),
        "trunc_normal_",
        {"mean": 0.1, "std": 1.0, "a": -0.5, "b": 2.0},
    ),
}


@pytest.mark.parity
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", TORCH)
def test_same_distribution_as_torch(name: str, shape: tuple[int, ...]) -> None:
    import torch

    torch.manual_seed(0)
    theirs = torch.empty(torch_layout(shape))
    init, torch_name, options = TORCH[name]
    getattr(torch.nn.init, torch_name)(theirs, **options)
    ours, theirs = np.asarray(init(KEY, shape)).ravel(), theirs.numpy().ravel()
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3
    assert np.isclose(ours.std(), theirs.std(), rtol=0.03)
    if "uniform" in name or "truncated" in name:
        np.testing.assert_allclose([ours.min(), ours.max()], [theirs.min(), theirs.max()], 0.02)


@pytest.mark.parity
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (initializers.xavier_normal(truncated=True), "glorot_normal"),
        (initializers.he_normal(truncated=True), "he_normal"),
        (initializers.lecun_normal(truncated=True), "lecun_normal"),
        (initializers.xavier_uniform(), "glorot_uniform"),
        (initializers.he_uniform(), "he_uniform"),
        (initializers.lecun_uniform(), "lecun_uniform"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_jaxs_and_keras_form(ours: Any, theirs: str, shape: tuple[int, ...]) -> None:
    """JAX's number by number from the same key; Keras's in distribution."""
    import keras

    mine = ours(KEY, shape)
    name = theirs.replace("glorot", "xavier")
    reference = getattr(jax.nn.initializers, theirs)()(KEY, shape, jnp.float32)
    compare(f"initializers.{name}", f"jax.nn.initializers.{theirs}", mine, reference)
    kerass = np.asarray(getattr(keras.initializers, theirs)(seed=1)(shape)).ravel()
    assert stats.ks_2samp(np.asarray(mine).ravel(), kerass).pvalue > 1e-3


@pytest.mark.parity
def test_torch_default_is_what_torch_layers_start_from() -> None:
    import torch

    torch.manual_seed(0)
    layer = torch.nn.Conv2d(20, 4000, 3)
    scheme = initializers.SCHEMES["torch_default"]
    kernel = scheme.kernel(KEY, (3, 3, 20, 4000))
    bias = scheme.bias(9 * 20)(jax.random.key(1), (4000,))
    assert layer.bias is not None
    for ours, theirs in ((kernel, layer.weight), (bias, layer.bias)):
        theirs = theirs.detach().numpy().ravel()
        assert stats.ks_2samp(np.asarray(ours).ravel(), theirs).pvalue > 1e-3
        assert np.isclose(abs(np.asarray(ours)).max(), abs(theirs).max(), rtol=1e-2)


@pytest.mark.parametrize("shape", [(20, 10), (10, 20), (3, 3, 4, 8), (3, 3, 2, 30)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    kernel = initializers.orthogonal(2.0)(KEY, shape).reshape(-1, shape[-1])
    small = kernel.T @ kernel if kernel.shape[0] >= kernel.shape[1] else kernel @ kernel.T
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-5)


def test_orthogonal_under_vmap_is_each_alone() -> None:
    """Bit by bit; and it ends: batches of QR at a time, as many as threads, never did on a CPU."""

    def four(key: jax.Array) -> jax.Array:
        return jnp.stack(
            [initializers.orthogonal(2.0)(k, (64, 64)) for k in jax.random.split(key, 4)]
        )

    roots = jax.random.split(jax.random.key(0), 10)
    assert (jax.jit(jax.vmap(four))(roots) == jnp.stack([four(root) for root in roots])).all()


def test_orthogonal_is_uniform_over_the_rotations() -> None:
    """By Haar measure every entry of a 3 × 3 rotation or reflection is U(−1, 1)."""
    keys = jax.random.split(KEY, 3000)
    entries = jax.vmap(lambda key: initializers.orthogonal()(key, (3, 3)))(keys)
    for i, j in np.ndindex(3, 3):
        assert stats.kstest(np.asarray(entries[:, i, j]), stats.uniform(-1, 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(3, 4, 8), (3, 3, 8, 8), (3, 3, 3, 2, 5)])
def test_delta_orthogonal_keeps_the_norm_of_what_passes_through(shape: tuple[int, ...]) -> None:
    kernel = initializers.delta_orthogonal()(KEY, shape)
    x = jax.random.normal(jax.random.key(1), (2, *(5,) * (len(shape) - 2), shape[-2]))
    y = nn.Conv(shape[-1], shape[:-2], use_bias=False).apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(jnp.linalg.norm(y), jnp.linalg.norm(x), rtol=1e-5)  # pyright: ignore


@pytest.mark.parity
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("shape", [(3, 3, 4, 8), (3, 8, 4), (2, 3, 4, 5, 6)])
def test_identity_is_torchs_dirac(shape: tuple[int, ...], groups: int) -> None:
    import torch

    theirs = torch.nn.init.dirac_(torch.empty(torch_layout(shape)), groups).numpy()
    ours = initializers.identity(groups=groups)(KEY, shape)
    compare(
        "initializers.identity",
        "torch.nn.init.dirac_",
        ours,
        np.moveaxis(theirs, (0, 1), (-1, -2)),
    )


@pytest.mark.parity
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.35, 1.0])
def test_sparse_counts_zeros_as_torch(sparsity: float) -> None:
    import torch

    theirs = torch.nn.init.sparse_(torch.empty(30, 20), sparsity).numpy()
    ours = np.asarray(initializers.sparse(sparsity, axis=1)(KEY, (20, 30)))
    np.testing.assert_array_equal((ours == 0).sum(1), (theirs == 0).sum(0))
    incoming = np.asarray(initializers.sparse(sparsity)(KEY, (20, 30)))
    assert len(set((incoming == 0).sum(0))) == 1


@pytest.mark.parametrize(
    ("shape", "kept"), [((1, 8), 1), ((3, 3, 1, 8), 1), ((10, 8), 1), ((25, 8), 2)]
)
def test_the_sparse_scheme_leaves_no_unit_without_weights(
    shape: tuple[int, ...], kept: int
) -> None:
    kernel = initializers.scheme("sparse").kernel(KEY, shape)
    np.testing.assert_array_equal((kernel != 0).sum(range(len(shape) - 1)), kept)


FAMILY = {
    **{name: scheme.kernel for name, scheme in initializers.SCHEMES.items()},
    "ones": initializers.ones,
    "constant": initializers.constant(0.5),
    "uniform": initializers.uniform(),
    "normal": initializers.normal(),
    "truncated_normal": initializers.truncated_normal(),
    "delta_orthogonal": initializers.delta_orthogonal(),
    "identity": initializers.identity(),
}
WITHOUT_RANDOMNESS = {"zeros", "ones", "constant", "identity"}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", FAMILY)
def test_contract(name: str, dtype: Any) -> None:
    """Shape and dtype as asked, by key alone, the same under jit and vmap."""
    init, shape = FAMILY[name], (3, 3, 4, 8)
    kernel = init(KEY, shape, dtype)
    assert (kernel.shape, kernel.dtype) == (shape, dtype)
    again = jax.jit(lambda key: init(key, shape, dtype))(KEY)
    np.testing.assert_allclose(kernel.astype(float), again.astype(float), atol=1e-6)
    keys = jax.random.split(jax.random.key(1), 2)
    two = jax.vmap(lambda key: init(key, shape, dtype))(keys)
    np.testing.assert_allclose(
        two[0].astype(float), init(keys[0], shape, dtype).astype(float), atol=1e-6
    )
    assert np.array_equal(two[0], two[1]) == (name in WITHOUT_RANDOMNESS)


def test_strengths_are_traced() -> None:
    traces = []

    @jax.jit
    def values(std: jax.Array) -> jax.Array:
        traces.append(std)
        families = [
            initializers.normal(0.0, std),
            initializers.constant(std),
            initializers.uniform(-std, std),
            initializers.truncated_normal(0.0, std),
            initializers.sparse(std),
        ]
        return jnp.stack([init(KEY, (4, 4)) for init in families])

    assert not np.array_equal(values(jnp.float32(0.1)), values(jnp.float32(0.9)))
    assert len(traces) == 1


class Small(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(4, (3, 3), name="conv")(x))
        x = nn.LayerNorm(name="norm")(x)
        x = nn.relu(nn.Dense(16, name="dense_0")(x.reshape(len(x), -1)))
        return nn.Dense(3, name="head")(x)


IMAGES = jax.random.normal(KEY, (32, 5, 5, 1))


def small() -> Any:
    return Small().init(KEY, IMAGES)["params"]


def test_reinitialize_by_path_and_layer_type() -> None:
    rules = [
        ("head/*", initializers.SCHEMES["zeros"]),
        (initializers.is_dense, initializers.orthogonal()),
        (initializers.is_convolution, initializers.identity()),
        ("*/bias", initializers.constant(0.01)),
        ("*/scale", initializers.ones),
    ]
    new = initializers.reinitialize(small(), KEY, rules)
    assert not new["head"]["kernel"].any()
    assert not new["head"]["bias"].any()
    np.testing.assert_allclose(
        new["dense_0"]["kernel"].T @ new["dense_0"]["kernel"], np.eye(16), atol=1e-5
    )
    assert new["conv"]["kernel"].sum() == 1
    assert (new["dense_0"]["bias"] == jnp.float32(0.01)).all()
    rules[0] = ("head/*", initializers.normal())
    again = initializers.reinitialize(small(), KEY, rules)
    np.testing.assert_array_equal(again["dense_0"]["kernel"], new["dense_0"]["kernel"])


def test_reinitialize_with_a_scheme_reaches_biases_by_their_kernels_fan() -> None:
    rules = [("norm/*", initializers.ones), ("*", initializers.SCHEMES["torch_default"])]
    new = initializers.reinitialize(small(), KEY, rules)
    assert 0.5 / 10 < abs(new["dense_0"]["bias"]).max() <= 1 / 10  # 5 · 5 · 4 inputs
    assert 0.5 / 3 < abs(new["conv"]["bias"]).max() <= 1 / 3


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([("*/kernel", initializers.ones)], "no rule covers conv/bias, dense_0/bias"),
        ([("*", initializers.ones), ("head/*", initializers.zeros)], "'head/.*' decides no param"),
        ([("*", initializers.SCHEMES["he_normal"])], "nothing for norm/bias"),
    ],
)
def test_reinitialize_covers_everything_or_says_what_not(rules: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        initializers.reinitialize(small(), KEY, rules)


def test_lsuv_gives_every_layer_unit_variance() -> None:
    def outputs(params: Any) -> dict[str, jax.Array]:
        _, kept = Small().apply({"params": params}, IMAGES, capture_intermediates=True)  # pyright: ignore
        inside = kept["intermediates"]
        names = ("conv", "dense_0", "head")
        return {f"{name}/kernel": inside[name]["__call__"][0] for name in names}

    start = jax.tree.map(lambda w: 5 * w, small())
    new = jax.jit(partial(initializers.lsuv, outputs))(start)
    for name, y in outputs(new).items():
        assert abs(y.var() - 1) <= 0.01, name
    np.testing.assert_array_equal(new["norm"]["scale"], start["norm"]["scale"])
    with pytest.raises(ValueError, match="no parameter"):
        initializers.lsuv(lambda params: {"nowhere": IMAGES}, start)
    dead = initializers.lsuv(lambda params: {"head/kernel": 0 * IMAGES}, start)
    np.testing.assert_array_equal(dead["head"]["kernel"], start["head"]["kernel"])


def test_fixup_starts_a_residual_net_at_the_identity() -> None:
    """Any depth: the branches add nothing at first, and the output's update has one size."""

    def forward(params: Any, x: jax.Array) -> jax.Array:
        for i in range(len(params) - 1):
            inner = nn.relu(x @ params[f"b{i}"]["first"]["kernel"])
            x = x + inner @ params[f"b{i}"]["last"]["kernel"]
        return x @ params["head"]["kernel"]

    def update(depth: int) -> float:
        block = {"first": {"kernel": jnp.zeros((64, 64))}, "last": {"kernel": jnp.zeros((64, 64))}}
        params = {f"b{i}": block for i in range(depth)} | {"head": {"kernel": jnp.zeros((64, 1))}}
        params = initializers.reinitialize(params, KEY, [("*", initializers.he_normal())])
        branches = [[f"b{i}/first/kernel", f"b{i}/last/kernel"] for i in range(depth)]
        params = initializers.fixup(params, branches, "head/kernel")
        x = jax.random.normal(KEY, (16, 64))
        assert not forward(params, x).any()
        params["head"]["kernel"] = jnp.ones((64, 1)) / 8
        before, grads = forward(params, x), jax.grad(lambda p: forward(p, x).sum())(params)
        after = forward(jax.tree.map(lambda w, g: w + 1e-4 * g, params, grads), x)
        return float(jnp.linalg.norm(after - before))

    assert update(64) / update(4) == pytest.approx(1, rel=0.3)
    with pytest.raises(ValueError, match="'nowhere' is no parameter"):
        initializers.fixup(small(), [], "nowhere")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: initializers.fans((3,)), "at least two dimensions"),
        (lambda: initializers.fans((3, 3), groups=2), "groups must divide the 3 outputs"),
        (lambda: initializers.gain("softmax"), "no gain is known for 'softmax'"),
        (lambda: initializers.he_normal(mode="fan"), "'fan_in' or 'fan_out', got 'fan'"),
        (lambda: initializers.sparse(0.5)(KEY, (3, 3, 3)), "is a matrix"),
        (lambda: initializers.identity(groups=3)(KEY, (3, 4)), "groups must divide"),
    ],
)
def test_bad_arguments(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
