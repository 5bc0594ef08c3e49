"""How a whole layer starts: kernel and bias together, by name."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from regjax.initializers import matrices, scaled
from regjax.initializers.scaled import Initializer


class Scheme(NamedTuple):
    """How a layer starts: its kernel's initializer, and its bias's, given the kernel's fan_in."""

    kernel: Initializer
    bias: Callable[[int], Initializer]
    bias_name: str


def zeros_bias(fan_in: int) -> Initializer:
    """Zeros, whatever the kernel's fan_in.

    >>> zeros_bias(25)(jax.random.key(0), (2,))
    Array([0., 0.], dtype=float32)
    """
    del fan_in
    return scaled.zeros


def with_zero_bias(kernel: Initializer) -> Scheme:
    """The scheme of a kernel's initializer and a bias of zeros.

    >>> with_zero_bias(scaled.ones).bias_name
    'zeros'
    """
    return Scheme(kernel, zeros_bias, "zeros")


def _sparse(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Martens (2010): 90 % zeros in each unit's incoming weights, the others N(0, 1).

    Of fewer than ten weights one is kept, where `matrices.sparse`, as PyTorch, rounds up to none.
    """
    fan_in = math.prod(shape[:-1])
    sparsity = min(0.9, 1 - 1 / fan_in)
    return matrices.sparse(sparsity, std=1.0)(key, (fan_in, shape[-1]), dtype).reshape(shape)


def _delta_orthogonal(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Delta-orthogonal, and orthogonal for a kernel without a window."""
    kind = matrices.orthogonal() if len(shape) == 2 else matrices.delta_orthogonal()
    return kind(key, shape, dtype)


SCHEMES: dict[str, Scheme] = {
    "torch_default": Scheme(scaled.torch_default(), scaled.torch_default_bias, "torch_default"),
    "xavier_uniform": with_zero_bias(scaled.xavier_uniform()),
    "xavier_normal": with_zero_bias(scaled.xavier_normal()),
    "he_uniform": with_zero_bias(scaled.he_uniform()),
    "he_normal": with_zero_bias(scaled.he_normal()),
    "lecun_uniform": with_zero_bias(scaled.lecun_uniform()),
    "lecun_normal": with_zero_bias(scaled.lecun_normal()),
    "orthogonal": with_zero_bias(matrices.orthogonal()),
    "delta_orthogonal": with_zero_bias(_delta_orthogonal),
    "identity": with_zero_bias(matrices.identity()),
    "sparse": with_zero_bias(_sparse),
    "normal": with_zero_bias(scaled.normal()),
    "truncated_normal": with_zero_bias(scaled.truncated_normal()),
    "uniform": with_zero_bias(scaled.uniform(-1.0, 1.0)),
    "constant": with_zero_bias(scaled.ones),
    "zeros": with_zero_bias(scaled.zeros),
}


def scheme(name: str, scale: float = 1.0, bias: float | None = None) -> Scheme:
    """The scheme of a name, its kernels multiplied by a number, its biases a constant.

    Args:
      name: one of `SCHEMES`.
      scale: the gain of those that look at the fans; the std of `normal` (and of the nonzero
        weights of `sparse`, a tenth of all but at least one a unit), the bound of `uniform`, the
        value of `constant`.
      bias: constant of the biases; None: as the scheme has it.

    >>> scheme("constant", 0.5, bias=0.01).kernel(jax.random.key(0), (1, 2))
    Array([[0.5, 0.5]], dtype=float32)
    """
    chosen = SCHEMES[name]
    if scale != 1:
        kernel = chosen.kernel
        chosen = chosen._replace(kernel=lambda *args: kernel(*args) * scale)
    if bias is not None:
        chosen = chosen._replace(bias=lambda _: scaled.constant(bias), bias_name=f"{bias:g}")
    return chosen
