"""The networks: against PyTorch, the contract that all keep, and what a config may ask for."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regjax import dropout, models, trees
from regjax.activations import ACTIVATIONS
from regjax.config import Config, ModelConfig, check
from regjax.errors import InputError
from regjax.initializers import SCHEMES
from regjax.normalization import BatchNorm, GroupNorm

from .parity import compare

dtypes = st.sampled_from(["float32", "float64"])
seeds = st.integers(0, 2**16)


def values(seed: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(dtype)


def tensor_of(x: Any) -> Any:
    import torch

    return torch.tensor(np.asarray(x))


def fill(module: Any, seed: int, dtype: str) -> None:
    """Gives a PyTorch module parameters drawn by the seed."""
    import torch

    module.to(getattr(torch, dtype))
    for i, parameter in enumerate(module.parameters()):
        drawn = 0.5 * values(seed + i, dtype, tuple(parameter.shape))
        parameter.data = torch.tensor(drawn + (0.5 if parameter.ndim == 1 else 0))


@partial(jax.jit, static_argnums=0)
def value_and_pull(
    model: Any, params: Any, statistics: Any, x: jax.Array, weights: jax.Array
) -> tuple[jax.Array, Any]:
    """What a network makes of x in training, and the gradients of (parameters, x)."""

    def forward(params: Any, x: jax.Array) -> jax.Array:
        variables = {"params": params, **statistics}
        return model.apply(variables, x, train=True, mutable=list(statistics))[0]

    y, pull = jax.vjp(forward, params, x)
    return y, pull(weights)


def same_as_torch(
    block: str,
    owner: str,
    model: Any,
    module: Any,
    theirs: Callable[[Any], Any],
    translate: Callable[[Callable[[str], np.ndarray]], Any],
    x: np.ndarray,
    layout: Callable[[np.ndarray], np.ndarray] = np.asarray,
    back: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> None:
    """Values, and the gradients of the input and of every parameter for one cotangent.

    `translate` makes our parameters from a reader of the module's arrays by name; it reads the
    module's values first, its gradients later. PyTorch computes in float64, on the same values: its
    own rounding in float32, which over several layers comes up to the bar's half, is none of ours.
    """
    module.double()
    read = dict(module.named_parameters())
    tensor = tensor_of(layout(x)).double().requires_grad_()
    expected = theirs(tensor)
    weights = values(7, str(x.dtype), tuple(expected.shape))
    expected.backward(tensor_of(weights).double())
    with jax.enable_x64(x.dtype == np.float64):
        params = translate(lambda name: read[name].detach().numpy().astype(x.dtype))
        shapes = jax.eval_shape(model.init, jax.random.key(0), x)
        statistics = {k: v for k, v in shapes.items() if k != "params"}
        statistics = jax.tree.map(lambda leaf: np.zeros(leaf.shape, x.dtype), statistics)
        y, (for_params, for_x) = value_and_pull(model, params, statistics, x, back(weights))
    compare(block, owner, y, back(expected.detach().numpy()))
    compare(block, owner, for_x, back(tensor.grad.numpy()))
    compare(block, owner, for_params, translate(lambda name: read[name].grad.numpy()))


CELLS = {
    "elman": (models.elman(), "RNN", {"nonlinearity": "tanh"}),
    "elman relu": (models.elman(jax.nn.relu), "RNN", {"nonlinearity": "relu"}),
    "gru": (models.gru(), "GRU", {}),
    "lstm": (models.lstm(), "LSTM", {}),
}


@pytest.mark.parity
@pytest.mark.parametrize("name", CELLS)
@given(shape=st.sampled_from([(2, 5, 3, 4), (1, 1, 2, 3)]), dtype=dtypes, seed=seeds)
def test_recurrent_layer_is_torchs(
    name: str, shape: tuple[int, ...], dtype: str, seed: int
) -> None:
    import torch

    cell, kind, options = CELLS[name]
    rows, steps, features, width = shape
    module = getattr(torch.nn, kind)(features, width, batch_first=True, **options)
    fill(module, seed, dtype)

    def translate(read: Callable[[str], np.ndarray]) -> Any:
        return {
            part: {"kernel": read(f"weight_{end}_l0").T, "bias": read(f"bias_{end}_l0")}
            for part, end in (("input", "ih"), ("recurrent", "hh"))
        }

    same_as_torch(
        f"models.rnn {name.split()[0]}",
        f"torch.nn.{kind}",
        models.Recurrent(width, cell),
        module,
        lambda x: module(x)[0],
        translate,
        values(seed, dtype, (rows, steps, features)),
    )


@pytest.mark.parity
@given(heads=st.sampled_from([1, 2]), dtype=dtypes, seed=seeds)
def test_encoder_block_is_torchs(heads: int, dtype: str, seed: int) -> None:
    import torch

    width, hidden = 4, 6
    module = torch.nn.TransformerEncoderLayer(
        width, heads, hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    fill(module, seed, dtype)

    def translate(read: Callable[[str], np.ndarray]) -> Any:
        def dense(name: str, joint: str = ".") -> Any:
            return {"kernel": read(f"{name}{joint}weight").T, "bias": read(f"{name}{joint}bias")}

        return {
            "norm_0": {"scale": read("norm1.weight"), "bias": read("norm1.bias")},
            "qkv": dense("self_attn.in_proj", "_"),
            "out": dense("self_attn.out_proj"),
            "norm_1": {"scale": read("norm2.weight"), "bias": read("norm2.bias")},
            "dense_0": dense("linear1"),
            "dense_1": dense("linear2"),
        }

    same_as_torch(
        "models.vit EncoderBlock",
        "torch.nn.TransformerEncoderLayer",
        models.EncoderBlock(heads, hidden),
        module,
        module,
        translate,
        values(seed, dtype, (2, 5, width)),
    )


def torch_block(module: Any, x: Any, stride: int, preactivation: bool, projection: bool) -> Any:
    """A residual block put together from PyTorch's layers."""
    relu, y = module["act"], x
    if preactivation:
        y = relu(module["norm_in"](x))
    if projection:
        shortcut = module["projection"](y)
        shortcut = shortcut if preactivation else module["projection_norm"](shortcut)
    else:
        shortcut = x[:, :, ::stride, ::stride]
        padding = module["conv_0"].out_channels - x.shape[1]
        shortcut = module["pad"](shortcut.movedim(1, -1), (0, padding)).movedim(-1, 1)
    y = module["conv_1"](relu(module["norm_0"](module["conv_0"](y))))
    return y + shortcut if preactivation else relu(module["norm_1"](y) + shortcut)


@pytest.mark.parity
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_torchs(name: str) -> None:
    """Where they bend, too."""
    import torch

    x = np.array([-1e4, -3.0, -0.5, -0.0, 0.0, 0.5, 3.0, 1e4], np.float32)
    theirs = torch.tensor(x, requires_grad=True)
    y = getattr(torch.nn.functional, name)(theirs)
    y.sum().backward()
    assert theirs.grad is not None
    slope = jax.vmap(jax.grad(ACTIVATIONS[name]))(jnp.asarray(x))
    ours = ACTIVATIONS[name](jnp.asarray(x)), slope
    compare(
        f"activations.{name}",
        "torch.nn.functional",
        ours,
        (y.detach().numpy(), theirs.grad.numpy()),
        {"float32": 1e-6},
    )


@pytest.mark.parity
@pytest.mark.parametrize("preactivation", [False, True], ids=["v1", "v2"])
@pytest.mark.parametrize(("stride", "projection"), [(1, False), (2, False), (2, True)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_residual_block_is_that_of_torchs_layers(
    stride: int, projection: bool, preactivation: bool, dtype: str
) -> None:
    import torch
    from torch import nn

    channels, features = 3, 5
    projects = {"projection": nn.Conv2d(channels, features, 1, stride, bias=False)}
    if not preactivation:
        projects["projection_norm"] = nn.BatchNorm2d(features)
    layers = nn.ModuleDict(
        {
            "conv_0": nn.Conv2d(channels, features, 3, stride, padding=1, bias=False),
            "norm_0": nn.BatchNorm2d(features),
            "conv_1": nn.Conv2d(features, features, 3, padding=1, bias=False),
            ("norm_in" if preactivation else "norm_1"): nn.BatchNorm2d(
                channels if preactivation else features
            ),
            **(projects if projection else {}),
        }
    )
    fill(layers, 0, dtype)
    called = {**dict(layers.items()), "act": torch.relu, "pad": torch.nn.functional.pad}

    def translate(read: Callable[[str], np.ndarray]) -> Any:
        params = {}
        for name in layers:
            weight = read(f"{name}.weight")
            if weight.ndim == 1:
                params[name] = {"scale": weight, "bias": read(f"{name}.bias")}
            else:
                params[name] = {"kernel": weight.transpose(2, 3, 1, 0)}
        return params

    same_as_torch(
        "models.resnet Block",
        "torch.nn.Conv2d, BatchNorm2d",
        models.Block(
            features, stride, norm=BatchNorm, projection=projection, preactivation=preactivation
        ),
        layers,
        lambda x: torch_block(called, x, stride, preactivation, projection),
        translate,
        values(1, dtype, (3, 4, 4, channels)),
        layout=lambda x: np.ascontiguousarray(np.moveaxis(x, -1, 1)),
        back=lambda x: np.moveaxis(x, 1, -1),
    )


# Known sizes.


@pytest.mark.parametrize(
    ("depth", "count"), [(20, 269_722), (32, 464_154), (56, 853_018), (110, 1_727_962)]
)
def test_resnets_have_the_papers_sizes(depth: int, count: int) -> None:
    """Table 6 of He et al. (2015): 0.27M, 0.46M, 0.85M, 1.7M."""
    model = models.build(ModelConfig("resnet", depth=depth, norm="batch"), (32, 32, 3), 10)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert trees.count(shapes["params"]) == count


def test_vit_has_the_papers_size() -> None:
    """Table 1 of Dosovitskiy et al. (2021): ViT-Base, 86M parameters."""
    model = models.ViT(1000, patch_size=16, width=768, depth=12, heads=12)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    assert trees.count(shapes["params"]) == 86_567_656


# The contract of every network, with every norm.

SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"widths": (6, 5)},
    "cnn": {},
    "resnet": {"depth": 6, "channels": (4, 6)},
    "resnet v2": {
        "depth": 6,
        "channels": (4, 6),
        "preactivation": True,
        "shortcut": "projection",
    },
    "rnn elman": {"cell": "elman", "widths": (6,), "activation": "tanh"},
    "rnn gru": {"cell": "gru", "widths": (6, 5)},
    "rnn lstm": {"cell": "lstm", "widths": (6,), "forget_bias": 1.0},
    "vit": {"token_width": 8, "heads": 2, "depth": 1, "mlp_ratio": 2, "activation": "gelu"},
    "vit mean": {"token_width": 8, "heads": 2, "depth": 1, "mlp_ratio": 2, "pooling": "mean"},
}
NORMS = ("none", "batch", "layer")
VARIANTS = ("resnet v2", "rnn elman", "rnn lstm", "vit mean")
CLASSES = 3
CASES = [
    (name, norm) for name in SMALL for norm in NORMS if name not in VARIANTS or norm == "layer"
]
each = pytest.mark.parametrize(("name", "norm"), CASES, ids=lambda x: x)
EMBEDDINGS = ("position_embedding", "class_token")


def small(name: str, norm: str, **changes: Any) -> tuple[ModelConfig, Any, jax.Array]:
    """A config, its network and five images."""
    kind = name.split()[0]
    config = ModelConfig(kind, norm=norm, **{**SMALL[name], **changes})
    shape = (16, 16, 1) if kind == "cnn" else (8, 8, 1)
    x = jnp.asarray(values(0, "float32", (5, *shape)))
    return config, models.build(config, shape, CLASSES), x


def start(model: Any, x: jax.Array) -> Any:
    """Variables drawn without the initializers: no parameter at a special value."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    rng = np.random.default_rng(0)

    def draw(leaf: Any) -> jax.Array:
        scale = 1 / np.sqrt(max(1, np.prod(leaf.shape[:-1])))
        return jnp.asarray(rng.normal(0, scale, leaf.shape), jnp.float32)

    params = jax.tree.map(draw, shapes["params"])
    rest = {
        k: jax.tree.map(lambda leaf: jnp.asarray(np.ones(leaf.shape), jnp.float32), v)
        for k, v in shapes.items()
    }
    return {**rest, "params": params}


@each
def test_contract(name: str, norm: str) -> None:
    """Logits, jit = eager, rows of padding, gradients."""
    _, model, x = small(name, norm)
    variables = start(model, x)
    padded = jnp.concatenate([x, jnp.full((2, *x.shape[1:]), 9.0)])
    mask = jnp.array([1.0] * 5 + [0.0] * 2)

    def apply(params: Any, x: jax.Array, mask: jax.Array | None) -> Any:
        return model.apply(
            {**variables, "params": params}, x, train=True, mask=mask, mutable=["batch_stats"]
        )

    def loss(params: Any) -> Any:
        logits, statistics = apply(params, padded, mask)
        logits = logits[:5]
        return jnp.sin(2 * logits + jnp.arange(3.0)[None]).sum(), (logits, statistics)

    @jax.jit
    def everything(params: Any) -> Any:
        return apply(params, x, None), jax.grad(loss, has_aux=True)(params)

    made = everything(variables["params"])
    (logits, statistics), (grads, with_padding) = jax.device_get(made)
    assert (logits.shape, logits.dtype) == ((5, CLASSES), jnp.float32)
    assert bool(statistics) == (norm == "batch")
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, with_padding, (logits, statistics))
    if name == "mlp":
        jax.tree.map(close, apply(variables["params"], x, None), (logits, statistics))
    largest = max(float(abs(grad).max()) for grad in jax.tree.leaves(grads))
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        path = trees.path_name(path)
        assert np.isfinite(grad).all(), path
        if not (norm == "batch" and path in TAKEN_OUT.get(name, ())):
            assert float(abs(grad).max()) > 1e-5 * largest, path


# Batch norm takes out what the layer before it adds to a channel.
TAKEN_OUT = {
    "mlp": ("dense_0/bias", "dense_1/bias"),
    "cnn": ("conv_0/bias", "conv_1/bias", "conv_2/bias", "dense/bias"),
    "vit": ("block_0/dense_1/bias", "block_0/out/bias"),
}


@each
def test_initializer_names_are_what_the_parameters_do(name: str, norm: str) -> None:
    """`regjax show`'s column, against the parameters of eight seeds: init under vmap."""
    options: dict[str, Any] = {} if norm == "none" else {"initializer": "he_uniform"}
    options |= {"zero_init": True} if (name, norm) == ("resnet", "layer") else {}
    options |= {"recurrent_initializer": "identity"} if name == "rnn elman" else {}
    config, model, x = small(name, norm, **options)
    keys = jax.random.split(jax.random.key(0), 8)
    params = jax.jit(jax.vmap(lambda key: model.init(key, x)["params"]))(keys)
    leaves = {
        trees.path_name(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    told = {path: models.initializer_name(path, config) for path in leaves}
    for path, leaf in leaves.items():
        if told[path] in ("zeros", "ones"):
            assert (leaf == (told[path] == "ones")).all(), path
        elif told[path] in ("orthogonal", "identity"):
            for gate in np.split(leaf, leaf.shape[2] // leaf.shape[1], axis=-1):
                square = gate.swapaxes(1, 2) @ gate if told[path] == "orthogonal" else gate
                expected = np.broadcast_to(np.eye(gate.shape[1]), gate.shape)
                np.testing.assert_allclose(square, expected, atol=1e-5)
        elif told[path] == "normal(0.02)":
            assert leaf.std() == pytest.approx(0.02, rel=0.1)
        else:
            assert told[path] == config.initializer
            kernel = leaves[path.replace("bias", "kernel")]  # a bias has its kernel's fan
            fan_in = np.prod(kernel.shape[1:-1])
            bound = np.sqrt((1 if told[path] == "torch_default" else 6) / fan_in)
            assert 0.6 * bound < abs(leaf).max() <= bound * (1 + 1e-6), path
    # All kernels count as weights, and only they.
    others = ("bias", "scale", *EMBEDDINGS)
    assert [trees.is_kernel(p) for p in told] == [p.split("/")[-1] not in others for p in told]
    if config.zero_init:
        scales = {path: name for path, name in told.items() if path.endswith("scale")}
        assert [path for path, name in scales.items() if name == "zeros"] == [
            "block_0_0/norm_1/scale",
            "block_1_0/norm_1/scale",
        ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name, kinds in models.PLACES.items() for kind in kinds],
)
def test_dropout_rates_are_one_program_and_0_is_none(name: str, kind: str) -> None:
    member = {"rnn": "rnn gru"}.get(name, name)
    more = {"residual": True, "widths": (6, 6)} if name == "mlp" else {}
    _, model, x = small(member, "layer", dropout=kind, dropout_block=2, **more)
    variables, traces = start(model, x), []

    def apply(rate: Any) -> jax.Array:
        traces.append(rate)
        rngs = {"dropout": jax.random.key(1)}
        return model.apply(variables, x, train=True, dropout_rate=rate, rngs=rngs)

    @jax.jit
    def both(rates: jax.Array) -> Any:
        return jax.vmap(apply)(rates), model.apply(variables, x, train=True)

    (none, half, all_of_it), without = both(jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(none, without, atol=1e-5)
    assert not np.allclose(half, without, atol=1e-3)
    assert jnp.isfinite(all_of_it).all()
    np.testing.assert_allclose(both(jnp.array([0.5, 0.2, 0.0]))[0][0], half, atol=1e-5)
    assert len(traces) == 1


def test_inference_has_no_dropout() -> None:
    for name in ("mlp", "resnet", "rnn elman", "vit"):
        _, model, x = small(name, "none")
        shapes = jax.eval_shape(
            partial(model.apply, dropout_rate=0.5),
            jax.eval_shape(model.init, jax.random.key(0), x),
            x,
        )  # there is no random stream to ask
        assert shapes.shape == (5, CLASSES)


# Equivalences.


def test_recurrent_dropout_has_one_mask_for_all_steps() -> None:
    """With h' = h + x from u = h, a unit that is dropped sees its own input and nothing older."""
    identity = SCHEMES["torch_default"]._replace(
        kernel=lambda key, shape, dtype: jnp.eye(*shape, dtype=dtype)
    )
    layer = models.Recurrent(
        200,
        models.elman(lambda x: x),
        identity,
        identity._replace(bias=SCHEMES["zeros"].bias),
        dropout=models.Dropouts(states=dropout.dropout),
    )
    x = jnp.ones((1, 4, 200))
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    params = dict(variables["params"])
    params["input"] = {**params["input"], "bias": jnp.zeros(200)}
    apply = jax.jit(partial(layer.apply, train=True))
    rngs = {"dropout": jax.random.key(1)}
    hidden = apply({"params": params}, x, dropout_rate=0.5, rngs=rngs)[0]
    kept = hidden[1] > 1
    assert 60 < int(kept.sum()) < 140
    np.testing.assert_allclose(hidden[-1], jnp.where(kept, 15.0, 1.0))  # 1 + 2 + 4 + 8


def test_forget_bias_is_a_larger_bias_of_the_forget_gate() -> None:
    x = jnp.asarray(values(0, "float32", (2, 5, 3)))
    plain, biased = (models.Recurrent(4, models.lstm(b)) for b in (0.0, 1.0))
    params = start(plain, x)["params"]
    moved = params["input"]["bias"].at[4:8].add(1.0)  # i, f, g, o
    other = {**params, "input": {**params["input"], "bias": moved}}
    np.testing.assert_allclose(
        jax.jit(biased.apply)({"params": params}, x),
        jax.jit(plain.apply)({"params": other}, x),
        atol=1e-6,
    )


def test_a_block_with_zero_init_starts_as_its_shortcut() -> None:
    x = jnp.abs(jnp.asarray(values(0, "float32", (2, 4, 4, 8))))
    block = models.Block(8, norm=partial(GroupNorm, groups=4), zero_init=True)
    y, _ = jax.jit(block.init_with_output)(jax.random.key(0), x)
    np.testing.assert_array_equal(y, x)
    shrunk = models.Block(9, stride=2, norm=BatchNorm, zero_init=True)
    y, _ = jax.jit(shrunk.init_with_output)(jax.random.key(0), x)
    np.testing.assert_array_equal(y[..., :8], x[:, ::2, ::2])


def test_encoder_without_positions_does_not_see_the_order_of_patches() -> None:
    x = jnp.asarray(values(0, "float32", (2, 8, 8, 1)))
    model = models.ViT(CLASSES, width=8, depth=1, heads=2)
    params = start(model, x)["params"]
    flipped = jnp.concatenate([x[:, 4:], x[:, :4]], axis=1)
    apply = jax.jit(model.apply)
    assert not np.allclose(*(apply({"params": params}, i) for i in (x, flipped)), atol=1e-3)
    blind = {**params, "position_embedding": jnp.zeros_like(params["position_embedding"])}
    np.testing.assert_allclose(*(apply({"params": blind}, i) for i in (x, flipped)), atol=1e-5)


def test_pixels_are_read_one_by_one() -> None:
    x = jnp.asarray(values(0, "float32", (2, 4, 4, 1)))
    options = {"widths": (6,), "cell": models.gru()}
    by_pixel, by_row = (models.RNN(CLASSES, pixels=p, **options) for p in (True, False))
    variables = start(by_pixel, x)
    as_rows = x.reshape(2, 16, 1, 1)  # sixteen rows of one pixel
    np.testing.assert_array_equal(
        jax.jit(by_pixel.apply)(variables, x), jax.jit(by_row.apply)(variables, as_rows)
    )


# Refusals.


@pytest.mark.parametrize(
    ("changes", "shape", "message"),
    [
        (
            {"name": "mlp", "dropout_rate": 0.5, "dropout": "spatial"},
            (28, 28, 1),
            "'mlp' has no place; set it to one of dropout, alpha, depth, connect",
        ),
        ({"name": "mlp", "dropout_rate": 0.5, "dropout": "depth"}, (9,), "set model.residual"),
        ({"name": "mlp", "norm": "group", "widths": (8, 6)}, (9,), "does not divide 6"),
        ({"name": "mlp", "norm": "instance"}, (9,), "'mlp' has no use for"),
        ({"name": "vit", "norm": "group"}, (8, 8, 1), "'vit' has no use for"),
        ({"name": "resnet"}, (3, 8, 1), "images of at least 4 × 4, but .* are 3 × 8 × 1"),
        ({"name": "resnet"}, (64,), "needs images"),
        ({"name": "resnet", "depth": 9}, (8, 8, 1), r"6·n \+ 2, such as 8 or 14"),
        ({"name": "resnet", "depth": 2}, (8, 8, 1), "model.depth is 2"),
        ({"name": "resnet", "channels": ()}, (8, 8, 1), "model.channels is empty"),
        ({"name": "resnet", "channels": (8, 4), "depth": 6}, (8, 8, 1), "cannot shrink"),
        ({"name": "resnet", "zero_init": True}, (8, 8, 1), "set model.norm"),
        (
            {"name": "resnet", "zero_init": True, "norm": "batch", "preactivation": True},
            (8, 8, 1),
            "preactivation off",
        ),
        ({"name": "rnn", "widths": ()}, (8, 8, 1), "model.widths is empty"),
        ({"name": "rnn"}, (64,), "set model.steps to pixels"),
        ({"name": "vit", "patch_size": 3}, (8, 8, 1), "does not divide .* 8 × 8 × 1"),
        ({"name": "vit", "heads": 3}, (8, 8, 1), "does not divide model.token_width 64"),
        ({"name": "vit"}, (64,), "needs images"),
        ({"name": "cnn", "norm": "instance"}, (16, 19, 1), "16 × 19 × 1 the last map .* is 1 × 1"),
        ({"name": "resnet", "norm": "instance"}, (4, 4, 1), "4 × 4 × 1 the last map .* is 1 × 1"),
        ({"name": "cnn", "initializer": "delta_orthogonal"}, (16, 16, 40), "goes from 40 to 32"),
        (
            {
                "name": "resnet",
                "channels": (8, 4),
                "depth": 6,
                "shortcut": "projection",
                "initializer": "delta_orthogonal",
            },
            (8, 8, 1),
            "goes from 8 to 4; set model.initializer to orthogonal",
        ),
    ],
)
def test_build_refuses_what_cannot_work(
    changes: dict[str, Any], shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        models.build(ModelConfig(**changes), shape, 10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (models.Block(2), "from 3 channels to 2"),
        (models.Block(3, zero_init=True), "zero_init needs a norm"),
        (models.EncoderBlock(2, 4), "heads must divide the width 3, got 2"),
        (models.ViT(2, patch_size=5), "patches of 5 do not divide an image of 4 × 4"),
    ],
)
def test_networks_refuse_bad_shapes(model: Any, message: str) -> None:
    x = jnp.ones((1, 4, 3) if isinstance(model, models.EncoderBlock) else (1, 4, 4, 3))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), x)


def test_every_name_of_a_config_is_known() -> None:
    fields = ModelConfig.__dataclass_fields__
    for name in fields["name"].metadata["choices"]:
        assert models.build(ModelConfig(name), (28, 28, 1), 10)
    for name in fields["recurrent_initializer"].metadata["choices"]:
        config = check(Config(model=ModelConfig("rnn", recurrent_initializer=name))).model
        assert models.build(config, (8, 8, 1), 10)
        assert models.initializer_name("layer_0/recurrent/kernel", config) == name
