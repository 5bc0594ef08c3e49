"""Kernels with structure: orthogonal, identity, sparse."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from regjax.dtypes import wide
from regjax.initializers.scaled import Dtype, Initializer, Number


def orthogonal(gain: Number = 1.0) -> Initializer:
    """Saxe et al. (2014): a random orthogonal matrix times `gain`, by QR with a sign fix.

    The kernel is flattened to `(*window · in, out)`, JAX's convention: a tall matrix has
    orthonormal columns, a wide one orthonormal rows. PyTorch flattens its own layout to
    `(out, in · window)`, which is the transpose of the same matrix.

    >>> w = orthogonal()(jax.random.key(0), (3, 3, 2, 4)).reshape(-1, 4)
    >>> bool(jnp.allclose(w.T @ w, jnp.eye(4), atol=1e-6))
    True
    """
    return _scaled(jax.nn.initializers.orthogonal(), gain)


def delta_orthogonal(gain: Number = 1.0) -> Initializer:
    """Xiao et al. (2018): a convolution that is an orthogonal matrix at its centre, else 0.

    `jax.nn.initializers.delta_orthogonal`: 1 to 3 spatial dimensions, at least as many outputs as
    inputs. Plain networks of 10,000 layers train from it.

    >>> w = delta_orthogonal()(jax.random.key(0), (3, 3, 2, 4))
    >>> bool(jnp.allclose(w[1, 1] @ w[1, 1].T, jnp.eye(2), atol=1e-6)), w[0].any().item()
    (True, False)
    """
    return _scaled(jax.nn.initializers.delta_orthogonal(), gain)


def _scaled(init: Initializer, gain: Number) -> Initializer:
    """By a QR in float32, as there is none in less, and of one matrix after the other under `vmap`.

    jaxlib (0.10) divides a batch of QRs among the threads that wait for it: on a CPU with as many
    batches at a time as cores all of them wait for ever.
    """

    def scaled(key: jax.Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> jax.Array:
        one = jax.custom_batching.sequential_vmap(lambda key: init(key, shape, wide(dtype)))
        return (jnp.asarray(gain, wide(dtype)) * one(key)).astype(dtype)

    return scaled


def identity(gain: Number = 1.0, groups: int = 1) -> Initializer:
    """Passes inputs through: a dense identity, or a Dirac convolution (Zagoruyko 2017).

    `torch.nn.init.eye_` and `dirac_`: output d of each group is input d, the rest 0. Le et al.
    (2015) start the recurrent matrix of a ReLU network from it.

    Args:
      gain: times this.
      groups: `feature_group_count` of the convolution.

    Raises:
      ValueError: groups that do not divide the outputs.

    >>> identity()(jax.random.key(0), (2, 3))
    Array([[1., 0., 0.],
           [0., 1., 0.]], dtype=float32)
    """

    def init(key: jax.Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> jax.Array:
        del key
        *window, inputs, outputs = shape
        if outputs % groups:
            raise ValueError(f"groups must divide the {outputs} outputs, got {groups}")
        block = jnp.asarray(gain, dtype) * jnp.eye(inputs, outputs // groups, dtype=dtype)
        centre = tuple(size // 2 for size in window)
        return jnp.zeros(shape, dtype).at[centre].set(jnp.tile(block, (1, groups)))

    return init


def sparse(sparsity: Number, std: Number = 0.01, axis: int = 0) -> Initializer:
    """Martens (2010): N(0, std²) with ⌈sparsity · n⌉ zeros in each slice of n along `axis`.

    Args:
      sparsity: share of zeros, in [0, 1].
      std: of the others.
      axis: 0 counts over the incoming weights of each unit, as the paper has it;
        `torch.nn.init.sparse_` on `Linear.weight` counts over the outgoing ones, 1.

    Raises:
      ValueError: a kernel that is not a matrix.

    >>> (sparse(0.75)(jax.random.key(0), (8, 3)) == 0).sum(0)
    Array([6, 6, 6], dtype=int32)
    """

    def init(key: jax.Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> jax.Array:
        if len(shape) != 2:
            raise ValueError(f"a sparse kernel is a matrix (in, out), got shape {tuple(shape)}")
        values, order = jax.random.split(key)
        rank = jnp.argsort(jnp.argsort(jax.random.uniform(order, shape), axis), axis)
        # The product of, say, 0.1 · 30 must not be rounded up past 3.
        zeros = jnp.ceil(jnp.asarray(sparsity) * shape[axis] - 1e-4)
        kernel = jnp.asarray(std, dtype) * jax.random.normal(values, shape, dtype)
        return jnp.where(rank < zeros, jnp.zeros((), dtype), kernel)

    return init
