"""Networks in Flax Linen, taking initializers, norms and activations as values.

Every network maps `(N, ...)` inputs to `(N, K)` logits and is called as
`model.apply(variables, x, train=..., mask=..., dropout_rate=..., rngs=...)`; `mask` marks the rows
of a padded batch that count, `dropout_rate` may be traced, and None leaves dropout out of the
program. A weight matrix is named `kernel`, and nothing else is (see `trees.is_kernel`).
"""

from regjax.models.build import BATCH_NORMS, PLACES, build, initializer_name
from regjax.models.cnn import CNN
from regjax.models.layers import Dropouts
from regjax.models.mlp import MLP
from regjax.models.own import PREFIX as OWN
from regjax.models.resnet import Block, ResNet
from regjax.models.rnn import RNN, Cell, Recurrent, elman, gru, lstm
from regjax.models.vit import EncoderBlock, ViT

__all__ = [
    "BATCH_NORMS",
    "CNN",
    "MLP",
    "OWN",
    "PLACES",
    "RNN",
    "Block",
    "Cell",
    "Dropouts",
    "EncoderBlock",
    "Recurrent",
    "ResNet",
    "ViT",
    "build",
    "elman",
    "gru",
    "initializer_name",
    "lstm",
]
