"""Weight initializers with JAX's signature `init(key, shape, dtype)`, in PyTorch's convention.

Kernels are laid out as in Flax: dense `(in, out)`, convolution `(*window, in / groups, out)`. The
normal initializers are not truncated, as in PyTorch; `truncated=True` is JAX's and Keras's form.
"""

from regjax.initializers.fans import fans, gain
from regjax.initializers.matrices import delta_orthogonal, identity, orthogonal, sparse
from regjax.initializers.scaled import (
    Initializer,
    constant,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    ones,
    torch_default,
    torch_default_bias,
    truncated_normal,
    uniform,
    xavier_normal,
    xavier_uniform,
    zeros,
)
from regjax.initializers.schemes import SCHEMES, Scheme, scheme, with_zero_bias, zeros_bias
from regjax.initializers.whole import fixup, is_convolution, is_dense, lsuv, reinitialize

__all__ = [
    "SCHEMES",
    "Initializer",
    "Scheme",
    "constant",
    "delta_orthogonal",
    "fans",
    "fixup",
    "gain",
    "he_normal",
    "he_uniform",
    "identity",
    "is_convolution",
    "is_dense",
    "lecun_normal",
    "lecun_uniform",
    "lsuv",
    "normal",
    "ones",
    "orthogonal",
    "reinitialize",
    "scheme",
    "sparse",
    "torch_default",
    "torch_default_bias",
    "truncated_normal",
    "uniform",
    "with_zero_bias",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
    "zeros_bias",
]
