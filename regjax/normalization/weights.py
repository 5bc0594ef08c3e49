"""Norms of kernels instead of activations. Kernels are `(*window, in, out)`, one unit a column."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from regjax.dtypes import widen
from regjax.normalization.core import Number, statistics


def weight_standardization(kernel: jax.Array, epsilon: Number = 1e-5) -> jax.Array:
    """Qiao et al. (2019): each unit's incoming weights to mean 0 and variance 1.

    (w − μ) / √(σ² + ε), the biased variance over the window and the inputs. The paper's code adds
    ε to σ instead.

    Args:
      kernel: `(*window, in, out)`.
      epsilon: ε inside the root.

    >>> weight_standardization(jnp.array([[1.0], [3.0]]), epsilon=0.0).ravel()
    Array([-1.,  1.], dtype=float32)
    """
    stats = statistics(kernel, range(kernel.ndim - 1))
    centred = kernel.astype(stats.mean.dtype) - stats.mean
    return (centred * lax.rsqrt(stats.variance + epsilon)).astype(kernel.dtype)


def weight_norm(direction: jax.Array, magnitude: jax.Array) -> jax.Array:
    """Salimans & Kingma (2016): w = g · v / ‖v‖ for each unit, direction and length apart.

    `torch.nn.utils.parametrizations.weight_norm`, whose `dim=0` is our last axis.

    Args:
      direction: v, `(*window, in, out)`, no unit all zeros.
      magnitude: g, `(out,)`.

    >>> weight_norm(jnp.array([[3.0], [4.0]]), jnp.array([10.0])).ravel()
    Array([6., 8.], dtype=float32)
    """
    axes = tuple(range(direction.ndim - 1))
    wide = widen(direction)
    length = jnp.sqrt(jnp.square(wide).sum(axes, keepdims=True))
    return (wide * (jnp.expand_dims(magnitude, axes) / length)).astype(direction.dtype)


class SingularVectors(NamedTuple):
    """Estimates of a kernel's leading singular vectors: `(out,)` left and `(fan_in,)` right.

    Left and right are those of the matrix `(out, fan_in)`, PyTorch's layout.
    """

    left: jax.Array
    right: jax.Array


def spectral_norm(
    kernel: jax.Array, vectors: SingularVectors, iterations: int = 1, epsilon: Number = 1e-12
) -> tuple[jax.Array, SingularVectors]:
    """Miyato et al. (2018): w / σ(w), its largest singular value estimated by power iteration.

    `torch.nn.utils.parametrizations.spectral_norm`: the vectors carry no gradient, σ = uᵀ W v
    does. In inference take 0 iterations.

    Args:
      kernel: `(*window, in, out)`, as the matrix `(window · in, out)`.
      vectors: from the last call; to begin with, random ones of length 1.
      iterations: steps of the power method, static.
      epsilon: lower bound of the lengths divided by.

    Returns:
      The kernel divided by σ, and the vectors for the next call.

    >>> start = SingularVectors(jnp.array([1.0, 0.0]), jnp.array([1.0, 0.0]))
    >>> spectral_norm(jnp.diag(jnp.array([4.0, 2.0])), start)[0]
    Array([[1. , 0. ],
           [0. , 0.5]], dtype=float32)
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])

    def unit(vector: jax.Array) -> jax.Array:
        return vector / jnp.maximum(jnp.sqrt(jnp.square(vector).sum()), epsilon)

    left, right = vectors
    fixed = lax.stop_gradient(matrix)
    for _ in range(iterations):
        left = unit(right @ fixed)
        right = unit(fixed @ left)
    vectors = lax.stop_gradient(SingularVectors(left, right))
    sigma = vectors.right @ matrix @ vectors.left
    return kernel / sigma, vectors
