"""Multilayer perceptron, plain or residual."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from regjax.initializers import SCHEMES, Scheme
from regjax.models.layers import UNITS, Activation, Dropouts, Norm, Rate, dense, drop


class MLP(nn.Module):
    """Dense layers, each followed by norm, activation and dropout; then a bare linear head.

    Attributes:
      classes: K.
      widths: one hidden layer each.
      initializer: of every dense layer.
      norm: factory of norms; None: without.
      activation: of the hidden layers.
      residual: x + f(x) where the width does not change.
      dropout: of the units, and of the branches that `residual` adds.

    >>> import jax.numpy as jnp
    >>> logits, _ = MLP(10, (32, 32)).init_with_output(jax.random.key(0), jnp.ones((2, 8, 8, 1)))
    >>> logits.shape
    (2, 10)
    """

    classes: int
    widths: Sequence[int] = (128, 128)
    initializer: Scheme = SCHEMES["torch_default"]
    norm: Norm | None = None
    activation: Activation = nn.relu
    residual: bool = False
    dropout: Dropouts = UNITS

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        mask: jax.Array | None = None,
        dropout_rate: Rate = None,
    ) -> jax.Array:
        """Returns logits."""
        rate = dropout_rate if train else None
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.widths):
            y = dense(x, width, self.initializer, f"dense_{i}")
            if self.norm:
                y = self.norm(name=f"norm_{i}")(y, train=train, mask=mask)
            y = drop(self, self.dropout.units, self.activation(y), rate)
            if self.residual and x.shape == y.shape:
                deep = None if rate is None else rate * (i + 1) / len(self.widths)
                y = x + drop(self, self.dropout.branches, y, deep)
            x = y
        return dense(x, self.classes, self.initializer, "head")
