"""Networks in Flax Linen, taking initializers and norms as values.

Every network maps `(N, ...)` inputs to `(N, K)` logits and is called as
`model.apply(variables, x, train=..., mask=..., dropout_rate=..., rngs=...)`; `mask` marks the rows
of a padded batch that count, `dropout_rate` may be traced.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax

from regjax.activations import ACTIVATIONS
from regjax.config import ModelConfig
from regjax.convolution import conv_general_dilated, max_pool_2x2
from regjax.dropout import dropout
from regjax.errors import InputError
from regjax.initializers import SCHEMES, Scheme
from regjax.normalization import BatchNorm, LayerNorm
from regjax.trees import is_kernel


def _norm(config: ModelConfig, name: str) -> nn.Module | None:
    if config.norm == "batch":
        return BatchNorm(config.norm_epsilon, momentum=config.norm_momentum, name=name)
    if config.norm == "layer":
        return LayerNorm(config.norm_epsilon, name=name)
    return None


def _dense(scheme: Scheme, x: jax.Array, features: int, name: str) -> jax.Array:
    bias = scheme.bias(x.shape[-1])
    return nn.Dense(features, kernel_init=scheme.kernel, bias_init=bias, name=name)(x)


class MLP(nn.Module):
    """Dense layers, each followed by norm, activation and dropout; then a bare linear head.

    Attributes:
      config: widths, norm, activation, residual, initializer.
      classes: K.
    """

    config: ModelConfig
    classes: int

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        mask: jax.Array | None = None,
        dropout_rate: jax.Array | float | None = None,
    ) -> jax.Array:
        """Returns logits; `dropout_rate` None leaves dropout out of the program."""
        scheme, activation = SCHEMES[self.config.initializer], ACTIVATIONS[self.config.activation]
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.config.widths):
            y = _dense(scheme, x, width, f"dense_{i}")
            if norm := _norm(self.config, f"norm_{i}"):
                y = norm(y, train=train, mask=mask)
            y = activation(y)
            if train and dropout_rate is not None:
                y = dropout(self.make_rng("dropout"), y, dropout_rate)
            x = x + y if self.config.residual and x.shape == y.shape else y
        return _dense(scheme, x, self.classes, "head")


class CNN(nn.Module):
    """The network of the experiment: three 3×3 convolutions, a dense layer of 64, a linear head.

    conv 32 (padding 1) → pool 2 → conv 64 → pool 2 → conv 64 → dense 64 → K, with convolution →
    norm → ReLU and dense → norm → sigmoid. Layer norm on a convolution is one group over C, H, W.
    On 28×28×1 and 10 classes: 121,994 parameters without norm, 122,442 with one.

    Attributes:
      config: norm and initializer.
      classes: K.
    """

    config: ModelConfig
    classes: int

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        mask: jax.Array | None = None,
        dropout_rate: jax.Array | float | None = None,
    ) -> jax.Array:
        """Returns logits; the experiment has no dropout."""
        del dropout_rate
        scheme = SCHEMES[self.config.initializer]
        for i, (features, padding, pool) in enumerate(
            ((32, 1, True), (64, 0, True), (64, 0, False))
        ):
            x = nn.Conv(
                features,
                (3, 3),
                padding=padding,
                kernel_init=scheme.kernel,
                bias_init=scheme.bias(9 * x.shape[-1]),
                conv_general_dilated=conv_general_dilated,
                name=f"conv_{i}",
            )(x)
            if norm := _norm(self.config, f"norm_{i}"):
                x = norm(x, train=train, mask=mask)
            x = nn.relu(max_pool_2x2(x) if pool else x)  # they commute; pooling first is less work
        x = _dense(scheme, x.reshape(x.shape[0], -1), 64, "dense")
        if norm := _norm(self.config, "norm_3"):
            x = norm(x, train=train, mask=mask)
        return _dense(scheme, nn.sigmoid(x), self.classes, "head")


MODELS = {"mlp": MLP, "cnn": CNN}
CNN_SMALLEST = 16  # below it, the third convolution has nothing left to see


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
    if config.name == "cnn" and (len(input_shape) != 3 or min(input_shape[:2]) < CNN_SMALLEST):
        shape = " × ".join(map(str, input_shape))
        raise InputError(
            f"model.name is 'cnn', which needs images of at least {CNN_SMALLEST} × {CNN_SMALLEST}, "
            f"but the data's examples are {shape}; set model.name to mlp"
        )
    if config.name == "cnn" and config.dropout_rate > 0:
        raise InputError(
            f"model.dropout_rate is {config.dropout_rate} but the network of model.name 'cnn' has "
            "no dropout; set it to 0, or model.name to mlp"
        )
    return MODELS[config.name](config, classes)


def initializer_name(path: str, config: ModelConfig) -> str:
    """Returns how the parameter at a path starts, as `regjax show` prints it.

    >>> initializer_name("dense_0/bias", ModelConfig(initializer="he_normal"))
    'zeros'
    """
    if is_kernel(path):
        return config.initializer
    if path.endswith("/scale"):
        return "ones"
    return "zeros" if "norm" in path.split("/")[-2] else SCHEMES[config.initializer].bias_name
