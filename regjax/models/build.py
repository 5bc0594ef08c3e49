"""From a config to a network: names become values, and what cannot work is refused."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn

from regjax.activations import ACTIVATIONS
from regjax.config import ModelConfig
from regjax.errors import InputError
from regjax.initializers import SCHEMES, Scheme, identity, with_zero_bias
from regjax.models import cnn, rnn
from regjax.models.cnn import CNN
from regjax.models.layers import Norm
from regjax.models.mlp import MLP
from regjax.models.resnet import ResNet
from regjax.models.rnn import RNN
from regjax.models.vit import POSITION_STD, ViT
from regjax.normalization import BatchNorm, LayerNorm

Shape = tuple[int, ...]  # of one example
RECURRENT: dict[str, Scheme] = {**SCHEMES, "identity": with_zero_bias(identity())}


def build(config: ModelConfig, input_shape: Sequence[int], classes: int) -> nn.Module:
    """Returns the network of a config for inputs of one shape.

    Args:
      config: which network.
      input_shape: of one example, `(H, W, C)` or `(F,)`.
      classes: K.

    Raises:
      InputError: a network that such inputs cannot pass through.

    >>> build(ModelConfig(name="cnn"), (28, 28, 1), 10).classes
    10
    """
    return BUILDERS[config.name](config, tuple(input_shape), classes)


def _mlp(config: ModelConfig, shape: Shape, classes: int) -> nn.Module:
    del shape
    return MLP(
        classes,
        config.widths,
        residual=config.residual,
        activation=ACTIVATIONS[config.activation],
        **_shared(config),
    )


def _cnn(config: ModelConfig, shape: Shape, classes: int) -> nn.Module:
    _need_images(config, shape, cnn.SMALLEST)
    if config.dropout_rate > 0:
        raise InputError(
            f"model.dropout_rate is {config.dropout_rate} but the network of model.name 'cnn' has "
            "no dropout; set it to 0, or model.name to mlp"
        )
    return CNN(classes, **_shared(config))


def _resnet(config: ModelConfig, shape: Shape, classes: int) -> nn.Module:
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
    return ResNet(
        classes,
        blocks,
        config.channels,
        activation=ACTIVATIONS[config.activation],
        projection=config.shortcut == "projection",
        preactivation=config.preactivation,
        zero_init=config.zero_init,
        **_shared(config),
    )


def _rnn(config: ModelConfig, shape: Shape, classes: int) -> nn.Module:
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
    shared = _shared(config)
    return RNN(
        classes,
        config.widths,
        cells[config.cell],
        pixels=config.steps == "pixels",
        recurrent_initializer=RECURRENT[config.recurrent_initializer],
        # The steps differ in their statistics, so batch norm stays outside the loop.
        recurrent_norm=None if config.norm == "batch" else shared["norm"],
        **shared,
    )


def _vit(config: ModelConfig, shape: Shape, classes: int) -> nn.Module:
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
        **_shared(config),
    )


BUILDERS: dict[str, Callable[[ModelConfig, Shape, int], nn.Module]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "resnet": _resnet,
    "rnn": _rnn,
    "vit": _vit,
}


def _shared(config: ModelConfig) -> dict[str, Any]:
    return {"initializer": SCHEMES[config.initializer], "norm": _norm(config)}


def _norm(config: ModelConfig) -> Norm | None:
    if config.norm == "batch":
        return partial(BatchNorm, config.norm_epsilon, momentum=config.norm_momentum)
    if config.norm == "layer":
        # An image is one group; of a sequence each step is.
        axes = (-1,) if config.name in ("rnn", "vit") else None
        return partial(LayerNorm, config.norm_epsilon, axes=axes)
    return None


def _need_images(config: ModelConfig, shape: Shape, smallest: int) -> None:
    if len(shape) != 3 or min(shape[:2]) < smallest:
        raise InputError(
            f"model.name is '{config.name}', which needs images of at least {smallest} × "
            f"{smallest}, but the data's examples are {_by(shape)}; set model.name to mlp"
        )


def _by(shape: Shape) -> str:
    return " × ".join(map(str, shape))


def initializer_name(path: str, config: ModelConfig) -> str:
    """Returns how the parameter at a path starts, as `regjax show` prints it.

    >>> initializer_name("dense_0/bias", ModelConfig(initializer="he_normal"))
    'zeros'
    """
    *layers, leaf = path.split("/")
    if leaf == "position_embedding":
        return f"normal({POSITION_STD})"
    if leaf == "class_token":
        return "zeros"
    if "norm" in layers[-1]:
        ends_block = config.name == "resnet" and layers[-1] == "norm_1"
        return "ones" if leaf == "scale" and not (config.zero_init and ends_block) else "zeros"
    name = config.recurrent_initializer if layers[-1] == "recurrent" else config.initializer
    return name if leaf == "kernel" else RECURRENT[name].bias_name
