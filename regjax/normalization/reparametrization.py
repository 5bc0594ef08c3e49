"""Norms of weights over a whole tree of parameters: what is learned, and what the network sees.

`start` adds what a kind needs (a `magnitude` beside each kernel for weight norm, singular vectors
among the statistics for spectral norm); `effective` makes of both the parameters to apply.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from regjax import keys, trees
from regjax.normalization.weights import (
    SingularVectors,
    spectral_norm,
    weight_norm,
    weight_standardization,
)

PyTree = Any
KINDS = ("plain", "standardized", "weight_norm", "spectral_norm")
SPECTRAL = "singular_vectors"  # the collection of the power iteration's vectors


def start(
    kind: str, params: PyTree, key: jax.Array, mask: trees.Rule = "kernels"
) -> tuple[PyTree, PyTree]:
    """Returns the parameters to learn, and the statistics that go with them.

    Args:
      kind: one of `KINDS`.
      params: nested dicts of a network's parameters.
      key: random key of the first singular vectors.
      mask: which kernels.

    Raises:
      ValueError: an unknown kind, or a mask that matches nothing.

    >>> start("weight_norm", {"kernel": jnp.array([[3.0], [4.0]])}, jax.random.key(0))[0]
    {'kernel': Array([[3.],
           [4.]], dtype=float32), 'magnitude': Array([5.], dtype=float32)}
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if kind == "plain":
        return params, {}
    flat: dict[str, Any] = traverse_util.flatten_dict(params, sep="/")  # pyright: ignore
    chosen = _chosen(flat, mask)
    if not chosen:
        raise ValueError(f"mask {mask!r} matches no kernel of {', '.join(flat)}")
    if kind == "weight_norm":
        for name in chosen:
            axes = tuple(range(flat[name].ndim - 1))
            flat[_beside(name)] = jnp.sqrt(jnp.square(flat[name]).sum(axes))
        return traverse_util.unflatten_dict(flat, sep="/"), {}
    if kind == "spectral_norm":
        vectors = {name: _random_vectors(keys.stream(key, name), flat[name]) for name in chosen}
        return params, {SPECTRAL: vectors}
    return params, {}


def effective(
    kind: str, params: PyTree, statistics: PyTree, train: bool, mask: trees.Rule = "kernels"
) -> tuple[PyTree, PyTree]:
    """Returns the parameters that the network sees, and the new statistics.

    Args:
      kind, mask: as `start` had them.
      params, statistics: as `start` gave them, and as training changed them.
      train: whether the power iteration of the spectral norm goes on by a step.

    >>> params, _ = start("weight_norm", {"kernel": jnp.array([[3.0], [4.0]])}, jax.random.key(0))
    >>> effective("weight_norm", {**params, "magnitude": jnp.array([10.0])}, {}, train=True)[0]
    {'kernel': Array([[6.],
           [8.]], dtype=float32)}
    """
    if kind == "plain":
        return params, statistics
    flat: dict[str, Any] = traverse_util.flatten_dict(params, sep="/")  # pyright: ignore
    vectors = dict(statistics.get(SPECTRAL, {}))
    for name in _chosen(flat, mask):
        if kind == "weight_norm":
            flat[name] = weight_norm(flat[name], flat.pop(_beside(name)))
        elif kind == "spectral_norm":
            flat[name], vectors[name] = spectral_norm(flat[name], vectors[name], int(train))
        else:
            flat[name] = weight_standardization(flat[name])
    new = {**statistics, SPECTRAL: vectors} if vectors else statistics
    return traverse_util.unflatten_dict(flat, sep="/"), new


def _chosen(flat: dict[str, jax.Array], mask: trees.Rule) -> list[str]:
    matches = trees.matcher(mask)
    return [name for name, leaf in flat.items() if matches(name) and leaf.ndim > 1]


def _beside(name: str) -> str:
    return f"{name.rpartition('/')[0]}/magnitude".lstrip("/")


def _random_vectors(key: jax.Array, kernel: jax.Array) -> SingularVectors:
    """Random unit vectors after fifteen steps, as PyTorch starts."""
    left, right = (
        jax.random.normal(k, (size,), kernel.dtype)
        for k, size in zip(
            jax.random.split(key), (kernel.shape[-1], kernel.size // kernel.shape[-1]), strict=True
        )
    )
    unit = SingularVectors(left / jnp.linalg.norm(left), right / jnp.linalg.norm(right))
    return spectral_norm(kernel, unit, iterations=15)[1]
