"""A network of regjax in Flax Linen, as one would write it there."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class FlaxCNN(nn.Module):
    """The experiment's network, `regjax.models.CNN`.

    Attributes:
      norm: none, batch or layer.
      dtype: of the arithmetic.
    """

    norm: str = "batch"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits."""
        for features, padding, pool in ((32, 1, True), (64, 0, True), (64, 0, False)):
            x = nn.Conv(features, (3, 3), padding=padding, dtype=self.dtype)(x)
            x = nn.relu(self._normalized(x, train))
            x = nn.max_pool(x, (2, 2), (2, 2)) if pool else x
        x = nn.Dense(64, dtype=self.dtype)(x.reshape(len(x), -1))
        x = nn.sigmoid(self._normalized(x, train))
        return nn.Dense(10)(x)

    def _normalized(self, x: jax.Array, train: bool) -> jax.Array:
        if self.norm == "batch":
            return nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype)(x)
        if self.norm == "layer":
            return nn.GroupNorm(num_groups=1, epsilon=1e-5, dtype=self.dtype)(x)
        return x
