"""From a config to a network: names become values, and what cannot work is refused."""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from regjax.activations import ACTIVATIONS
from regjax.config import ModelConfig
from regjax.dropout import (
    alpha_dropout,
    drop_block,
    dropout,
    spatial_dropout,
    stochastic_depth,
    variational_dropout,
)
from regjax.errors import InputError
from regjax.initializers import Scheme, scheme
from regjax.models import cnn, own, rnn
from regjax.models.cnn import CNN
from regjax.models.layers import Dropouts, Norm
from regjax.models.mlp import MLP
from regjax.models.resnet import ResNet
from regjax.models.rnn import RNN
from regjax.models.vit import POSITION_STD, ViT
from regjax.normalization import (
    BatchNorm,
    BatchRenorm,
    GhostBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
)

Shape = tuple[int, ...]  # of one example
Shared = dict[str, Any]  # what every network takes
BATCH_NORMS = ("batch", "ghost_batch", "batch_renorm")


def build(
    config: ModelConfig, input_shape: Sequence[int], classes: int, axis_name: str | None = None
) -> Any:
    """Returns the network of a config for inputs of one shape, a module or what acts as one.

    Args:
      config: which network.
      input_shape: of one example, `(H, W, C)` or `(F,)`.
      classes: K.
      axis_name: a mapped axis over which batch norm is synchronized.

    Raises:
      InputError: a network that such inputs cannot pass through.

    >>> build(ModelConfig(name="cnn"), (28, 28, 1), 10).classes
    10
    """
    if config.name.startswith(own.PREFIX):
        return _own(config, tuple(input_shape), classes)
    shared = {
        "initializer": _scheme(config),
        "norm": _norm(config, axis_name),
        "dropout": _dropouts(config),
    }
    return BUILDERS[config.name](config, tuple(input_shape), classes, shared)


def _own(config: ModelConfig, shape: Shape, classes: int) -> Any:
    default = ModelConfig()
    for name in ("norm", "rescale"):
        if getattr(config, name) != getattr(default, name):
            raise InputError(
                f"model.{name} is '{getattr(config, name)}', which a network of your own does "
                "itself; leave it out"
            )
    network = own.load(config.name, shape, classes)
    dropped_here = config.dropout_rate and config.dropout != "connect"
    if dropped_here and "dropout_rate" not in network.flags:
        raise InputError(
            f"model.dropout_rate is {config.dropout_rate}, but the __call__ of '{config.name}' has "
            "no argument dropout_rate; add it, or set model.dropout to connect"
        )
    return network


def _mlp(config: ModelConfig, shape: Shape, classes: int, shared: Shared) -> nn.Module:
    del shape
    _need_groups(config, "model.widths", config.widths)
    return MLP(
        classes,
        config.widths,
        residual=config.residual,
        activation=ACTIVATIONS[config.activation],
        **shared,
    )


def _cnn(config: ModelConfig, shape: Shape, classes: int, shared: Shared) -> nn.Module:
    _need_images(config, shape, cnn.SMALLEST)
    _need_places(config, shape, tuple((side // 2 - 2) // 2 - 2 for side in shape[:2]))
    _need_groups(config, "its channels", cnn.CHANNELS)
    _need_widening(config, (shape[2], *cnn.CHANNELS))
    # A dense layer has no positions that instance norm could reduce.
    dense_norm = None if config.norm == "instance" else shared["norm"]
    return CNN(classes, dense_norm=dense_norm, **shared)


def _resnet(config: ModelConfig, shape: Shape, classes: int, shared: Shared) -> nn.Module:
    stages = len(config.channels)
    if not stages:
        raise InputError("model.channels is empty; a resnet needs a stage, such as (16, 32, 64)")
    _need_images(config, shape, 2 ** (stages - 1))
    blocks, rest = divmod(config.depth - 2, 2 * stages)
    if rest or blocks < 1:
        raise InputError(
            f"model.depth is {config.depth}, but a resnet of {stages} stages has a depth of "
            f"{2 * stages}·n + 2, such as {2 * stages + 2} or {4 * stages + 2}"
        )
    if config.shortcut == "pad" and list(config.channels) != sorted(config.channels):
        raise InputError(
            f"model.channels is {config.channels}, which model.shortcut 'pad' cannot shrink along; "
            "set model.shortcut to projection"
        )
    if config.zero_init and (config.norm == "none" or config.preactivation):
        raise InputError(
            "model.zero_init needs a norm that ends each block; set model.norm, and leave "
            "model.preactivation off"
        )
    _need_places(config, shape, tuple(-(-side // 2 ** (stages - 1)) for side in shape[:2]))
    _need_groups(config, "model.channels", config.channels)
    _need_widening(config, (shape[2], *config.channels))
    return ResNet(
        classes,
        blocks,
        config.channels,
        activation=ACTIVATIONS[config.activation],
        projection=config.shortcut == "projection",
        preactivation=config.preactivation,
        zero_init=config.zero_init,
        **shared,
    )


def _rnn(config: ModelConfig, shape: Shape, classes: int, shared: Shared) -> nn.Module:
    if not config.widths:
        raise InputError("model.widths is empty; an rnn needs a recurrent layer, such as (128,)")
    if config.steps == "rows" and len(shape) < 2:
        raise InputError(
            f"model.steps is 'rows', which needs images, but the data's examples are {_by(shape)}; "
            "set model.steps to pixels, or model.name to mlp"
        )
    cells = {
        "elman": rnn.elman(ACTIVATIONS[config.activation]),
        "gru": rnn.gru(),
        "lstm": rnn.lstm(config.forget_bias),
    }
    return RNN(
        classes,
        config.widths,
        cells[config.cell],
        pixels=config.steps == "pixels",
        recurrent_initializer=scheme(config.recurrent_initializer, bias=config.bias),
        # The steps differ in their statistics, so batch norm stays outside the loop.
        recurrent_norm=None if config.norm in BATCH_NORMS else shared["norm"],
        **shared,
    )


def _vit(config: ModelConfig, shape: Shape, classes: int, shared: Shared) -> nn.Module:
    _need_images(config, shape, 1)
    if shape[0] % config.patch_size or shape[1] % config.patch_size:
        raise InputError(
            f"model.patch_size is {config.patch_size}, which does not divide the data's images of "
            f"{_by(shape)}; choose one that divides {shape[0]} and {shape[1]}"
        )
    if config.token_width % config.heads:
        raise InputError(
            f"model.heads is {config.heads}, which does not divide model.token_width "
            f"{config.token_width}; change either"
        )
    return ViT(
        classes,
        patch_size=config.patch_size,
        width=config.token_width,
        depth=config.depth,
        heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        mean_pool=config.pooling == "mean",
        activation=ACTIVATIONS[config.activation],
        **shared,
    )


BUILDERS: dict[str, Callable[[ModelConfig, Shape, int, Shared], nn.Module]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "resnet": _resnet,
    "rnn": _rnn,
    "vit": _vit,
}


def _scheme(config: ModelConfig) -> Scheme:
    return scheme(config.initializer, config.initializer_scale, config.bias)


# Tokens and steps are normalized each by itself, which leaves these.
NORMS_OF_SEQUENCES = ("none", "layer", "rms", *BATCH_NORMS)


def _norm(config: ModelConfig, axis_name: str | None) -> Norm | None:
    name, sequence = config.norm, config.name in ("rnn", "vit")
    useful = NORMS_OF_SEQUENCES if sequence else (*NORMS_OF_SEQUENCES, "group")
    if (sequence or config.name == "mlp") and name not in useful:
        raise InputError(
            f"model.norm is '{name}', which model.name '{config.name}' has no use for; set it to "
            f"one of {', '.join(useful)}"
        )
    epsilon, momentum, groups = config.norm_epsilon, config.norm_momentum, config.norm_groups
    factories: dict[str, Norm | None] = {
        "none": None,
        "batch": partial(BatchNorm, epsilon, momentum=momentum, axis_name=axis_name),
        "ghost_batch": partial(GhostBatchNorm, epsilon, momentum=momentum, groups=groups),
        "batch_renorm": partial(BatchRenorm, epsilon, momentum=momentum),
        # An image is one group; of a sequence each step is.
        "layer": partial(LayerNorm, epsilon, axes=(-1,) if sequence else None),
        "group": partial(GroupNorm, epsilon, groups=groups),
        "instance": partial(InstanceNorm, epsilon, affine=True),
        "rms": partial(RMSNorm, epsilon),
    }
    return factories[name]


# Where each network has which dropout.
PLACES: dict[str, dict[str, tuple[str, ...]]] = {
    "mlp": {"dropout": ("units",), "alpha": ("units",), "depth": ("branches",)},
    "cnn": {
        "dropout": ("units",),
        "alpha": ("units",),
        "spatial": ("maps",),
        "drop_block": ("maps",),
    },
    "resnet": {
        "dropout": ("maps",),
        "spatial": ("maps",),
        "drop_block": ("maps",),
        "depth": ("branches",),
    },
    "rnn": {"dropout": ("units",), "variational": ("units", "states")},
    "vit": {"dropout": ("units",), "depth": ("branches",)},
}


def _dropouts(config: ModelConfig) -> Dropouts:
    places = PLACES[config.name]
    if config.dropout == "connect" or (config.dropout not in places and config.dropout_rate == 0):
        return Dropouts()  # the first drops weights
    if config.dropout not in places:
        raise InputError(
            f"model.dropout is '{config.dropout}', for which model.name '{config.name}' has no "
            f"place; set it to one of {', '.join(places)}, connect"
        )
    if config.dropout == "depth" and config.name == "mlp" and not config.residual:
        raise InputError("model.dropout is 'depth', which needs branches; set model.residual")
    kinds = {
        "dropout": dropout,
        "alpha": alpha_dropout,
        "spatial": spatial_dropout,
        "drop_block": partial(_drop_block, block_size=config.dropout_block),
        "variational": variational_dropout,
        "depth": stochastic_depth,
    }
    chosen = dict.fromkeys(places[config.dropout], kinds[config.dropout])
    if "states" in chosen:
        chosen["states"] = dropout  # one draw for all steps: the loop has it from outside
    return Dropouts(**chosen)


def _drop_block(key: jax.Array, x: jax.Array, rate: Any, block_size: int) -> jax.Array:
    """`drop_block`, the block no larger than the map, which may be small in deep layers."""
    return drop_block(key, x, rate, min(block_size, *x.shape[1:-1]))


def _need_groups(config: ModelConfig, field: str, sizes: Sequence[int]) -> None:
    odd = [size for size in sizes if size % config.norm_groups]
    if config.norm == "group" and odd:
        raise InputError(
            f"model.norm_groups is {config.norm_groups}, which does not divide {odd[0]} of {field} "
            f"{tuple(sizes)}; change either"
        )


def _need_images(config: ModelConfig, shape: Shape, smallest: int) -> None:
    if len(shape) != 3 or min(shape[:2]) < smallest:
        raise InputError(
            f"model.name is '{config.name}', which needs images of at least {smallest} × "
            f"{smallest}, but the data's examples are {_by(shape)}; set model.name to mlp"
        )


def _need_places(config: ModelConfig, shape: Shape, last: Shape) -> None:
    """The last map must have places that instance norm can reduce."""
    if config.norm == "instance" and math.prod(last) == 1:
        raise InputError(
            f"model.norm is 'instance', but of the data's {_by(shape)} the last map of model.name "
            f"'{config.name}' is 1 × 1, which has no statistics; set model.norm to layer or group"
        )


def _need_widening(config: ModelConfig, channels: Sequence[int]) -> None:
    narrowing = [(i, o) for i, o in itertools.pairwise(channels) if i > o]
    if config.initializer == "delta_orthogonal" and narrowing:
        raise InputError(
            "model.initializer is 'delta_orthogonal', which needs as many channels out of a "
            f"convolution as go in, but one goes from {narrowing[0][0]} to {narrowing[0][1]}; set "
            "model.initializer to orthogonal"
        )


def _by(shape: Shape) -> str:
    return " × ".join(map(str, shape))


def initializer_name(path: str, config: ModelConfig) -> str:
    """Returns how the parameter at a path starts, as `regjax show` prints it.

    >>> initializer_name("dense_0/bias", ModelConfig(initializer="he_normal"))
    'zeros'
    """
    *layers, leaf = path.split("/")
    if config.name.startswith(own.PREFIX):
        return "its own"
    if leaf == "magnitude":
        return "norm of the kernel"
    if leaf == "position_embedding":
        return f"normal({POSITION_STD})"
    if leaf == "class_token":
        return "zeros"
    if "norm" in layers[-1]:
        ends_block = config.name == "resnet" and layers[-1] == "norm_1"
        return "ones" if leaf == "scale" and not (config.zero_init and ends_block) else "zeros"
    recurrent = layers[-1] == "recurrent"
    name = config.recurrent_initializer if recurrent else config.initializer
    scale = 1.0 if recurrent else config.initializer_scale
    if leaf != "kernel":
        return scheme(name, bias=config.bias).bias_name
    return name if scale == 1 else f"{scale:g} × {name}"
