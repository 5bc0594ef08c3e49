"""Weight initializers in PyTorch's convention, with JAX's signature `(key, shape, dtype)`.

Kernels are laid out as in Flax: dense `(in, out)`, convolution `(*window, in / groups, out)`, so
fan_in = in · Π window and fan_out = out · Π window, PyTorch's numbers for its own layout.

The normal initializers here are *not* truncated, as in PyTorch; those of `jax.nn.initializers` and
Keras cut at ±2σ and rescale.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Initializer = Callable[..., jax.Array]
Dtype = Any


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """Returns (fan_in, fan_out) of a kernel shape `(*window, in, out)`.

    Raises:
      ValueError: fewer than two dimensions.

    >>> fans((3, 3, 32, 64))
    (288, 576)
    """
    if len(shape) < 2:
        raise ValueError(f"a kernel has at least two dimensions (in, out), got shape {shape}")
    window = math.prod(shape[:-2])
    return shape[-2] * window, shape[-1] * window


def _normal(std: Callable[[int, int], float]) -> Initializer:
    def init(key: jax.Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> jax.Array:
        return std(*fans(shape)) * jax.random.normal(key, shape, dtype)

    return init


def _uniform(limit: Callable[[int, int], float]) -> Initializer:
    def init(key: jax.Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> jax.Array:
        bound = limit(*fans(shape))
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def xavier_normal(gain: float = 1.0) -> Initializer:
    """Glorot & Bengio (2010): N(0, σ²), σ = gain · √(2 / (fan_in + fan_out)).

    >>> xavier_normal()(jax.random.key(0), (300, 200)).std().round(3)
    Array(0.063, dtype=float32)
    """
    return _normal(lambda fan_in, fan_out: gain * math.sqrt(2 / (fan_in + fan_out)))


def xavier_uniform(gain: float = 1.0) -> Initializer:
    """Glorot & Bengio (2010): U(−a, a), a = gain · √(6 / (fan_in + fan_out)).

    >>> bool(abs(xavier_uniform()(jax.random.key(0), (3, 3))).max() <= 1.0)
    True
    """
    return _uniform(lambda fan_in, fan_out: gain * math.sqrt(6 / (fan_in + fan_out)))


def he_normal(gain: float = math.sqrt(2)) -> Initializer:
    """He et al. (2015), fan_in mode: N(0, σ²), σ = gain / √fan_in; the gain of ReLU is √2.

    >>> bool(abs(he_normal()(jax.random.key(0), (200, 300)).std() - 0.1) < 0.001)
    True
    """
    return _normal(lambda fan_in, _: gain / math.sqrt(fan_in))


def he_uniform(gain: float = math.sqrt(2)) -> Initializer:
    """He et al. (2015), fan_in mode: U(−a, a), a = gain · √(3 / fan_in).

    >>> bool(abs(he_uniform()(jax.random.key(0), (6, 3))).max() <= 1.0)
    True
    """
    return _uniform(lambda fan_in, _: gain * math.sqrt(3 / fan_in))


def orthogonal(gain: float = 1.0) -> Initializer:
    """Saxe et al. (2014): a random orthogonal matrix times `gain`, by QR with a sign fix.

    The kernel is flattened to `(*window · in, out)`, JAX's convention: a tall matrix has
    orthonormal columns, a wide one orthonormal rows. PyTorch flattens its own layout to
    `(out, in · window)`, which is the transpose of the same matrix.

    >>> w = orthogonal()(jax.random.key(0), (3, 3, 2, 4)).reshape(-1, 4)
    >>> bool(jnp.allclose(w.T @ w, jnp.eye(4), atol=1e-6))
    True
    """
    return jax.nn.initializers.orthogonal(scale=gain)


def torch_default() -> Initializer:
    """What `torch.nn.Linear` and `torch.nn.Conv2d` start from: U(±1/√fan_in).

    PyTorch writes it as Kaiming-uniform with a = √5, which is the same interval.

    >>> bool(abs(torch_default()(jax.random.key(0), (25, 3))).max() <= 0.2)
    True
    """
    return _uniform(lambda fan_in, _: 1 / math.sqrt(fan_in))


def torch_default_bias(fan_in: int) -> Initializer:
    """The bias that goes with `torch_default`: U(±1/√fan_in), fan_in that of the *kernel*.

    >>> bool(abs(torch_default_bias(25)(jax.random.key(0), (3,))).max() <= 0.2)
    True
    """
    bound = 1 / math.sqrt(fan_in)

    def init(key: jax.Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def zeros_bias(fan_in: int) -> Initializer:
    """Zeros, whatever the kernel's fan_in.

    >>> zeros_bias(25)(jax.random.key(0), (2,))
    Array([0., 0.], dtype=float32)
    """
    del fan_in
    return jax.nn.initializers.zeros


class Scheme(NamedTuple):
    """How a layer starts: its kernel's initializer, and its bias's, given the kernel's fan_in."""

    kernel: Initializer
    bias: Callable[[int], Initializer]
    bias_name: str


SCHEMES: dict[str, Scheme] = {
    "torch_default": Scheme(torch_default(), torch_default_bias, "torch_default"),
    "xavier_uniform": Scheme(xavier_uniform(), zeros_bias, "zeros"),
    "xavier_normal": Scheme(xavier_normal(), zeros_bias, "zeros"),
    "he_uniform": Scheme(he_uniform(), zeros_bias, "zeros"),
    "he_normal": Scheme(he_normal(), zeros_bias, "zeros"),
    "orthogonal": Scheme(orthogonal(), zeros_bias, "zeros"),
}
