"""The network of the experiment "which regularization is best?"."""

import flax.linen as nn
import jax

from regjax.initializers import SCHEMES, Scheme
from regjax.models.layers import UNITS, Dropouts, Norm, Rate, convolution, dense, drop
from regjax.pooling import max_pool_2x2

CHANNELS = (32, 64, 64)
SMALLEST = 16  # pixels; below it, the third convolution has nothing left to see


class CNN(nn.Module):
    """Three 3×3 convolutions, a dense layer of 64, a linear head.

    conv 32 (padding 1) → pool 2 → conv 64 → pool 2 → conv 64 → dense 64 → K, with convolution →
    norm → ReLU and dense → norm → sigmoid. Layer norm on a convolution is one group over C, H, W.
    On 28×28×1 and 10 classes: 121,994 parameters without norm, 122,442 with one.

    Attributes:
      classes: K.
      initializer: of every layer.
      norm: factory of norms for the convolutions; None: without.
      dense_norm: for the dense layer.
      dropout: of the maps, and of the dense layer's units; the experiment has none.

    >>> import jax.numpy as jnp
    >>> logits, _ = CNN(10).init_with_output(jax.random.key(0), jnp.ones((2, 16, 16, 1)))
    >>> logits.shape
    (2, 10)
    """

    classes: int
    initializer: Scheme = SCHEMES["torch_default"]
    norm: Norm | None = None
    dense_norm: Norm | None = None
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
        pools = (max_pool_2x2, max_pool_2x2, None)
        for i, (features, padding, pool) in enumerate(zip(CHANNELS, (1, 0, 0), pools, strict=True)):
            x = convolution(x, features, self.initializer, f"conv_{i}", padding=padding)
            if self.norm:
                x = self.norm(name=f"norm_{i}")(x, train=train, mask=mask, pool=pool)
            elif pool:
                x = pool(x)
            x = nn.relu(x)  # commutes with pooling, and after it is less work
            x = drop(self, self.dropout.maps, x, rate)
        x = dense(x.reshape(x.shape[0], -1), 64, self.initializer, "dense")
        if self.dense_norm:
            x = self.dense_norm(name="norm_3")(x, train=train, mask=mask)
        x = drop(self, self.dropout.units, nn.sigmoid(x), rate)
        return dense(x, self.classes, self.initializer, "head")
