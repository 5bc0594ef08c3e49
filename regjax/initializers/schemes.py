"""How a whole layer starts: kernel and bias together, by name."""

from collections.abc import Callable
from typing import NamedTuple

from regjax.initializers import matrices, scaled
from regjax.initializers.scaled import Initializer


class Scheme(NamedTuple):
    """How a layer starts: its kernel's initializer, and its bias's, given the kernel's fan_in."""

    kernel: Initializer
    bias: Callable[[int], Initializer]
    bias_name: str


def zeros_bias(fan_in: int) -> Initializer:
    """Zeros, whatever the kernel's fan_in.

    >>> import jax
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


SCHEMES: dict[str, Scheme] = {
    "torch_default": Scheme(scaled.torch_default(), scaled.torch_default_bias, "torch_default"),
    "xavier_uniform": with_zero_bias(scaled.xavier_uniform()),
    "xavier_normal": with_zero_bias(scaled.xavier_normal()),
    "he_uniform": with_zero_bias(scaled.he_uniform()),
    "he_normal": with_zero_bias(scaled.he_normal()),
    "lecun_uniform": with_zero_bias(scaled.lecun_uniform()),
    "lecun_normal": with_zero_bias(scaled.lecun_normal()),
    "orthogonal": with_zero_bias(matrices.orthogonal()),
    "zeros": with_zero_bias(scaled.zeros),
}
