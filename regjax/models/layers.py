"""What the networks share: dense layers and convolutions by scheme, dropout of a module."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from regjax.compiling import materialized
from regjax.convolution import unmaterialized
from regjax.dropout import dropout
from regjax.initializers import Scheme

Activation = Callable[[jax.Array], jax.Array]
# Called as `norm(name=...)`, and what it makes as `(x, train=..., mask=..., pool=...)`.
Norm = Callable[..., nn.Module]
Rate = jax.Array | float | None  # None: no dropout in the program
Dropout = Callable[[jax.Array, jax.Array, Any], jax.Array]  # (key, x, rate), of `regjax.dropout`


class Dropouts(NamedTuple):
    """Which dropout a network has where; None: none there.

    Attributes:
      units: after the activation of a dense layer, after a recurrent layer.
      maps: after the activation of a convolution.
      branches: at the end of a residual branch, the rate growing with depth to its full value.
      states: on the hidden state of a recurrent layer, one draw for all steps.
    """

    units: Dropout | None = None
    maps: Dropout | None = None
    branches: Dropout | None = None
    states: Dropout | None = None


UNITS = Dropouts(units=dropout)


def dense(x: jax.Array, features: int, scheme: Scheme, name: str) -> jax.Array:
    """A dense layer on the last axis, inside a compact module."""
    bias = scheme.bias(x.shape[-1])
    return nn.Dense(features, kernel_init=scheme.kernel, bias_init=bias, name=name)(x)


def convolution(
    x: jax.Array,
    features: int,
    scheme: Scheme,
    name: str,
    window: tuple[int, int] = (3, 3),
    stride: int = 1,
    padding: int = 0,
    use_bias: bool = True,
) -> jax.Array:
    """A 2-D convolution of `(N, H, W, C)`, inside a compact module.

    Padding is given in zeros on every side, as in PyTorch: with a stride, Flax's "SAME" is another
    convolution.
    """
    y = nn.Conv(
        features,
        window,
        stride,
        padding,
        use_bias=use_bias,
        kernel_init=scheme.kernel,
        bias_init=scheme.bias(math.prod(window) * x.shape[-1]),
        conv_general_dilated=unmaterialized,
        name=name,
    )(x)
    return materialized(y)


def drop(module: nn.Module, kind: Dropout | None, x: jax.Array, rate: Rate) -> jax.Array:
    """Dropout of a kind, by the module's random stream `dropout`."""
    return x if rate is None or kind is None else kind(module.make_rng("dropout"), x, rate)
