"""Residual networks in their form for small images."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from regjax.dropout import dropout
from regjax.initializers import SCHEMES, Scheme, zeros
from regjax.models.layers import Activation, Dropouts, Norm, Rate, convolution, dense, drop

MAPS = Dropouts(maps=dropout)


class Block(nn.Module):
    """shortcut(x) + f(x) with f two 3×3 convolutions.

    He et al. (2015): f = conv → norm → act → conv → norm, and an activation follows the sum. With
    `preactivation`, He et al. (2016): f = norm → act → conv → norm → act → conv, and nothing
    follows. With a norm the convolutions have no bias.

    Where the shape changes, the shortcut takes every `stride`-th pixel and appends channels of
    zeros (their option A) or, with `projection`, is a 1×1 convolution and its norm (option B); in
    the second form it is the convolution alone, on the activated input.

    Attributes:
      features: C' of the output `(N, ⌈H / stride⌉, ⌈W / stride⌉, C')`.
      stride: of the first convolution.
      initializer: of every convolution.
      norm: factory of norms; None: without.
      activation: of both forms.
      projection: option B instead of A.
      preactivation: the second form.
      zero_init: the scale of the norm that ends f starts at 0, so the block starts as its
        shortcut, Goyal et al. (2017). The factory is called with `scale_init` too.
      dropout: of the maps, before the second convolution as in Zagoruyko & Komodakis (2016), and
        of the branch f.
      depth: what the rate is multiplied by for the branch.

    Raises:
      ValueError: `zero_init` where no norm ends f; fewer features than channels in option A.
    """

    features: int
    stride: int = 1
    initializer: Scheme = SCHEMES["he_normal"]
    norm: Norm | None = None
    activation: Activation = nn.relu
    projection: bool = False
    preactivation: bool = False
    zero_init: bool = False
    dropout: Dropouts = MAPS
    depth: float = 1.0

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        mask: jax.Array | None = None,
        dropout_rate: Rate = None,
    ) -> jax.Array:
        """Returns shortcut(x) + f(x)."""
        if self.zero_init and (self.norm is None or self.preactivation):
            raise ValueError("zero_init needs a norm that ends the branch, so no preactivation")
        rate = dropout_rate if train else None
        deep = None if rate is None else rate * self.depth
        norm = partial(_norm, self.norm, train, mask)
        conv = partial(convolution, scheme=self.initializer, use_bias=self.norm is None)
        y = self.activation(norm(x, "norm_in")) if self.preactivation else x
        shortcut = self._shortcut(x, y, norm, conv)
        y = conv(y, self.features, name="conv_0", stride=self.stride, padding=1)
        y = drop(self, self.dropout.maps, self.activation(norm(y, "norm_0")), rate)
        y = conv(y, self.features, name="conv_1", padding=1)
        if not self.preactivation:
            y = norm(y, "norm_1", **({"scale_init": zeros} if self.zero_init else {}))
        y = shortcut + drop(self, self.dropout.branches, y, deep)
        return y if self.preactivation else self.activation(y)

    def _shortcut(self, x: jax.Array, activated: jax.Array, norm: Any, conv: Any) -> jax.Array:
        more = self.features - x.shape[-1]
        if self.stride == 1 and more == 0:
            return x
        if self.projection:
            name, window = "projection", (1, 1)
            y = conv(activated, self.features, name=name, window=window, stride=self.stride)
            return y if self.preactivation else norm(y, "projection_norm")
        if more < 0:
            raise ValueError(
                f"a shortcut without projection cannot go from {x.shape[-1]} channels to "
                f"{self.features}"
            )
        x = x[:, :: self.stride, :: self.stride]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, more)))


def _norm(
    factory: Norm | None, train: bool, mask: jax.Array | None, x: jax.Array, name: str, **options
) -> jax.Array:
    return x if factory is None else factory(name=name, **options)(x, train=train, mask=mask)


class ResNet(nn.Module):
    """He et al. (2015), section 4.2: the residual network for CIFAR, of depth 2 · stages · n + 2.

    conv 3×3 → stages of n blocks, of which all but the first halve the image → mean over the image
    → linear head. ResNet-20 is n = 3 with widths 16, 32, 64: 269,722 parameters on 32×32×3 with 10
    classes, batch norm and option A.

    Attributes:
      classes: K.
      blocks: n, in each stage.
      widths: channels of each stage.
      initializer: of every layer.
      norm, activation, projection, preactivation, zero_init, dropout: as in `Block`.

    >>> images = jnp.ones((2, 8, 8, 1))
    >>> logits, _ = ResNet(10, blocks=1, widths=(4, 8)).init_with_output(jax.random.key(0), images)
    >>> logits.shape
    (2, 10)
    """

    classes: int
    blocks: int = 3
    widths: Sequence[int] = (16, 32, 64)
    initializer: Scheme = SCHEMES["he_normal"]
    norm: Norm | None = None
    activation: Activation = nn.relu
    projection: bool = False
    preactivation: bool = False
    zero_init: bool = False
    dropout: Dropouts = MAPS

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        mask: jax.Array | None = None,
        dropout_rate: Rate = None,
    ) -> jax.Array:
        """Returns logits."""
        norm = partial(_norm, self.norm, train, mask)
        use_bias = self.norm is None
        x = convolution(x, self.widths[0], self.initializer, "stem", padding=1, use_bias=use_bias)
        if not self.preactivation:
            x = self.activation(norm(x, "norm"))
        for i, width in enumerate(self.widths):
            for j in range(self.blocks):
                x = Block(
                    width,
                    stride=2 if i > 0 and j == 0 else 1,
                    initializer=self.initializer,
                    norm=self.norm,
                    activation=self.activation,
                    projection=self.projection,
                    preactivation=self.preactivation,
                    zero_init=self.zero_init,
                    dropout=self.dropout,
                    depth=(i * self.blocks + j + 1) / (len(self.widths) * self.blocks),
                    name=f"block_{i}_{j}",
                )(x, train, mask, dropout_rate)
        if self.preactivation:
            x = self.activation(norm(x, "norm"))
        return dense(x.mean(axis=(1, 2)), self.classes, self.initializer, "head")
