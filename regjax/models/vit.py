"""The vision transformer."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from regjax.activations import ACTIVATIONS
from regjax.initializers import SCHEMES, Scheme, normal, zeros
from regjax.models.layers import UNITS, Activation, Dropouts, Norm, Rate, dense, drop
from regjax.normalization import LayerNorm

POSITION_STD = 0.02
TOKEN_NORM = partial(LayerNorm, axes=(-1,))  # each token by itself


class EncoderBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): PyTorch's encoder layer with `norm_first`.

    Attention is Flax's `dot_product_attention` (JAX's takes the softmax in float32, also of
    float64; here only half precision is widened so) over heads of width D / heads, with queries,
    keys and values from one dense layer, stacked in this order.

    Attributes:
      heads: must divide D.
      hidden: width of the mlp's hidden layer.
      initializer: of every dense layer.
      norm: factory of norms over the last axis; None: without.
      activation: of the mlp.
      dropout: of the units, after every dense layer but that of the queries (Dosovitskiy et al.,
        2021; PyTorch also drops attention weights), and of both branches.
      depth: what the rate is multiplied by for the branches.

    Raises:
      ValueError: heads that do not divide D.
    """

    heads: int
    hidden: int
    initializer: Scheme = SCHEMES["xavier_uniform"]
    norm: Norm | None = TOKEN_NORM
    activation: Activation = ACTIVATIONS["gelu"]
    dropout: Dropouts = UNITS
    depth: float = 1.0

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        mask: jax.Array | None = None,
        dropout_rate: Rate = None,
    ) -> jax.Array:
        """Maps tokens `(N, T, D)` to the same shape."""
        scheme, width = self.initializer, x.shape[-1]
        if width % self.heads:
            raise ValueError(f"heads must divide the width {width}, got {self.heads}")
        y = self.norm(name="norm_0")(x, train=train, mask=mask) if self.norm else x
        qkv = dense(y, 3 * width, scheme, "qkv").reshape(*x.shape[:2], 3, self.heads, -1)
        # Flax leaves what it has widened wide.
        half = jnp.finfo(y.dtype).bits < 32
        y = nn.dot_product_attention(*jnp.moveaxis(qkv, 2, 0), force_fp32_for_softmax=half)
        y = y.astype(qkv.dtype)
        rate = dropout_rate if train else None
        x = x + self._branch(dense(y.reshape(x.shape), width, scheme, "out"), rate)
        y = self.norm(name="norm_1")(x, train=train, mask=mask) if self.norm else x
        y = self.activation(dense(y, self.hidden, scheme, "dense_0"))
        y = drop(self, self.dropout.units, y, rate)
        return x + self._branch(dense(y, width, scheme, "dense_1"), rate)

    def _branch(self, y: jax.Array, rate: Rate) -> jax.Array:
        deep = None if rate is None else rate * self.depth
        return drop(self, self.dropout.branches, drop(self, self.dropout.units, y, rate), deep)


class ViT(nn.Module):
    """Dosovitskiy et al. (2021): patches → + learned positions → encoder → norm → linear head.

    Attributes:
      classes: K.
      patch_size: side of a square patch; must divide the image's height and width.
      width: D of a token.
      depth: encoder blocks.
      heads: of attention; must divide the width.
      mlp_ratio: hidden width of the blocks' mlps, in widths.
      mean_pool: the head reads the mean of the tokens, and not a class token.
      initializer: of every dense layer.
      norm, activation, dropout: as in `EncoderBlock`; units are also dropped after the positions.

    Raises:
      ValueError: patches that do not divide the image, heads that do not divide the width.

    >>> images = jnp.ones((2, 8, 8, 1))
    >>> logits, _ = ViT(10, width=8, depth=1).init_with_output(jax.random.key(0), images)
    >>> logits.shape
    (2, 10)
    """

    classes: int
    patch_size: int = 4
    width: int = 64
    depth: int = 6
    heads: int = 4
    mlp_ratio: int = 4
    mean_pool: bool = False
    initializer: Scheme = SCHEMES["xavier_uniform"]
    norm: Norm | None = TOKEN_NORM
    activation: Activation = ACTIVATIONS["gelu"]
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
        x = dense(_patches(x, self.patch_size), self.width, self.initializer, "patches")
        if not self.mean_pool:
            token = self.param("class_token", zeros, (1, 1, self.width))
            x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, self.width)), x], axis=1)
        start = normal(std=POSITION_STD)
        x = x + self.param("position_embedding", start, (1, *x.shape[1:]))
        x = drop(self, self.dropout.units, x, dropout_rate if train else None)
        for i in range(self.depth):
            x = EncoderBlock(
                self.heads,
                self.mlp_ratio * self.width,
                self.initializer,
                self.norm,
                self.activation,
                self.dropout,
                (i + 1) / self.depth,
                name=f"block_{i}",
            )(x, train, mask, dropout_rate)
        if self.norm:
            x = self.norm(name="norm")(x, train=train, mask=mask)
        x = x.mean(axis=1) if self.mean_pool else x[:, 0]
        return dense(x, self.classes, self.initializer, "head")


def _patches(x: jax.Array, size: int) -> jax.Array:
    """`(N, H, W, C)` to `(N, H / size · W / size, size² · C)`, patch by patch in reading order."""
    n, height, width, channels = x.shape
    if height % size or width % size:
        raise ValueError(f"patches of {size} do not divide an image of {height} × {width}")
    x = x.reshape(n, height // size, size, width // size, size, channels)
    return x.swapaxes(2, 3).reshape(n, -1, size * size * channels)
