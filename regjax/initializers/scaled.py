"""Independent random values: fixed distributions, and those scaled by the kernel's fans.

The three shapes of one rule, variance = gain² / fan: normal, truncated normal and uniform.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from regjax.initializers.fans import fans, gain

Initializer = Callable[..., jax.Array]
Number = jax.Array | float
Dtype = Any
Fans = Callable[[Sequence[int]], tuple[int, int]]

# The standard deviation of a standard normal cut at ±2.
_STD_OF_TRUNCATED = 0.87962566103423978


def zeros(key: jax.Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> jax.Array:
    """Zeros, for biases. (As kernels they leave all units of a layer identical.)

    >>> zeros(jax.random.key(0), (2,))
    Array([0., 0.], dtype=float32)
    """
    del key
    return jnp.zeros(shape, dtype)


def ones(key: jax.Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> jax.Array:
    """Ones, for the scales of norms.

    >>> ones(jax.random.key(0), (2,))
    Array([1., 1.], dtype=float32)
    """
    del key
    return jnp.ones(shape, dtype)


def constant(value: Number) -> Initializer:
    """One value everywhere.

    >>> constant(0.01)(jax.random.key(0), (2,))
    Array([0.01, 0.01], dtype=float32)
    """

    def init(key: jax.Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> jax.Array:
        del key
        return jnp.full(shape, value, dtype)

    return init


def uniform(low: Number = 0.0, high: Number = 1.0) -> Initializer:
    """U[low, high), `torch.nn.init.uniform_`; `jax.nn.initializers.uniform(s)` is U[0, s).

    >>> bool((abs(uniform(-2, -1)(jax.random.key(0), (9,)) + 1.5) <= 0.5).all())
    True
    """

    def init(key: jax.Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, low, high)

    return init


def normal(mean: Number = 0.0, std: Number = 1.0) -> Initializer:
    """N(mean, std²), `torch.nn.init.normal_`; JAX's default std is 0.01, Keras's 0.05.

    >>> normal(5.0, 0.0)(jax.random.key(0), (2,))
    Array([5., 5.], dtype=float32)
    """

    def init(key: jax.Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> jax.Array:
        return jnp.asarray(mean, dtype) + jnp.asarray(std, dtype) * jax.random.normal(
            key, shape, dtype
        )

    return init


def truncated_normal(
    mean: Number = 0.0, std: Number = 1.0, low: Number = -2.0, high: Number = 2.0
) -> Initializer:
    """N(mean, std²) restricted to [low, high], absolute bounds: `torch.nn.init.trunc_normal_`.

    JAX and Keras cut in units of std, at ±2 std; none of the three corrects the std for the cut,
    so what comes out has .88 of it at ±2 std.

    >>> bool(abs(truncated_normal(std=9.0)(jax.random.key(0), (99,))).max() <= 2)
    True
    """

    def init(key: jax.Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> jax.Array:
        m, s, a, b = (jnp.asarray(value, dtype) for value in (mean, std, low, high))
        values = jax.random.truncated_normal(key, (a - m) / s, (b - m) / s, shape, dtype)
        return jnp.clip(m + s * values, a, b)

    return init


def _scaled(std: Callable[[int, int], float], shape_of: str, fans_of: Fans = fans) -> Initializer:
    """Values of variance std(fan_in, fan_out)², normal, truncated or uniform."""

    def init(key: jax.Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> jax.Array:
        sigma = std(*fans_of(shape))
        if shape_of == "uniform":
            bound = math.sqrt(3) * sigma
            return jax.random.uniform(key, shape, dtype, -bound, bound)
        if shape_of == "truncated":
            cut = jax.random.truncated_normal(key, -2, 2, shape, dtype)
            return jnp.asarray(sigma / _STD_OF_TRUNCATED, dtype) * cut
        return jnp.asarray(sigma, dtype) * jax.random.normal(key, shape, dtype)

    return init


def _normal_shape(truncated: bool) -> str:
    return "truncated" if truncated else "normal"


def _mode(mode: str) -> Callable[[int, int], int]:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return lambda fan_in, fan_out: fan_in if mode == "fan_in" else fan_out


def xavier_normal(gain: float = 1.0, truncated: bool = False, fans: Fans = fans) -> Initializer:
    """Glorot & Bengio (2010): N(0, σ²), σ = gain · √(2 / (fan_in + fan_out)).

    Args:
      gain: see `gain`.
      truncated: cut at ±2σ' with σ' such that the std is still σ, as JAX and Keras do; PyTorch
        does not truncate.
      fans: how to count, `functools.partial(fans, groups=...)` for a grouped convolution.

    >>> xavier_normal()(jax.random.key(0), (300, 200)).std().round(3)
    Array(0.063, dtype=float32)
    """
    return _scaled(lambda i, o: gain * math.sqrt(2 / (i + o)), _normal_shape(truncated), fans)


def xavier_uniform(gain: float = 1.0, fans: Fans = fans) -> Initializer:
    """Glorot & Bengio (2010): U(−a, a), a = gain · √(6 / (fan_in + fan_out)).

    >>> bool(abs(xavier_uniform()(jax.random.key(0), (3, 3))).max() <= 1.0)
    True
    """
    return _scaled(lambda i, o: gain * math.sqrt(2 / (i + o)), "uniform", fans)


def he_normal(
    negative_slope: float = 0.0,
    mode: str = "fan_in",
    truncated: bool = False,
    fans: Fans = fans,
) -> Initializer:
    """He et al. (2015): N(0, σ²), σ = √(2 / (1 + a²)) / √fan; a = 0 is for ReLU.

    Args:
      negative_slope: a, the slope of the leaky ReLU that follows.
      mode: `fan_in` keeps the variance going forward, `fan_out` that of the gradient.
      truncated: as in `xavier_normal`.
      fans: how to count.

    >>> bool(abs(he_normal()(jax.random.key(0), (200, 300)).std() - 0.1) < 0.001)
    True
    """
    factor, fan = gain("leaky_relu", negative_slope), _mode(mode)
    return _scaled(lambda i, o: factor / math.sqrt(fan(i, o)), _normal_shape(truncated), fans)


def he_uniform(negative_slope: float = 0.0, mode: str = "fan_in", fans: Fans = fans) -> Initializer:
    """He et al. (2015): U(−b, b), b = √(2 / (1 + a²)) · √(3 / fan); see `he_normal`.

    >>> bool(abs(he_uniform()(jax.random.key(0), (6, 3))).max() <= 1.0)
    True
    """
    factor, fan = gain("leaky_relu", negative_slope), _mode(mode)
    return _scaled(lambda i, o: factor / math.sqrt(fan(i, o)), "uniform", fans)


def lecun_normal(truncated: bool = False, fans: Fans = fans) -> Initializer:
    """LeCun et al. (1998): N(0, 1 / fan_in); for SELU. JAX and Keras truncate, see above.

    >>> bool(abs(lecun_normal()(jax.random.key(0), (100, 300)).std() - 0.1) < 0.001)
    True
    """
    return _scaled(lambda i, _: 1 / math.sqrt(i), _normal_shape(truncated), fans)


def lecun_uniform(fans: Fans = fans) -> Initializer:
    """LeCun et al. (1998): U(−√(3 / fan_in), √(3 / fan_in)).

    >>> bool(abs(lecun_uniform()(jax.random.key(0), (12, 3))).max() <= 0.5)
    True
    """
    return _scaled(lambda i, _: 1 / math.sqrt(i), "uniform", fans)


def torch_default(fans: Fans = fans) -> Initializer:
    """What `torch.nn.Linear` and `torch.nn.Conv2d` start from: U(±1/√fan_in).

    PyTorch writes it as Kaiming-uniform with a = √5, which is the same interval.

    >>> bool(abs(torch_default()(jax.random.key(0), (25, 3))).max() <= 0.2)
    True
    """
    return _scaled(lambda i, _: 1 / math.sqrt(3 * i), "uniform", fans)


def torch_default_bias(fan_in: int) -> Initializer:
    """The bias that goes with `torch_default`: U(±1/√fan_in), fan_in that of the *kernel*.

    >>> bool(abs(torch_default_bias(25)(jax.random.key(0), (3,))).max() <= 0.2)
    True
    """
    return uniform(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
