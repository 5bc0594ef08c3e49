"""Thin Linen layers over the pure norms, with the defaults of PyTorch, Flax or Keras.

A layer's `preset` says whose defaults it has; an argument that is given wins over them:

| | momentum | running variance | ε of batch | ε of layer, group, instance | ε of RMS |
|---|---|---|---|---|---|
| torch | 0.1 | unbiased | 1e-5 | 1e-5, instance without scale and bias | machine epsilon |
| flax | 0.01 | biased | 1e-5 | 1e-6 | 1e-6 |
| keras | 0.01 | biased | 1e-3 | 1e-3 | 1e-6 |

`momentum` is the weight of the *new* statistics, PyTorch's; Flax's and Keras's number is 1 − it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from regjax.normalization.batch import batch_norm, batch_renorm, by_group, pooled
from regjax.normalization.core import Pool, Statistics, normalize, per_channel, picked, unbiased
from regjax.normalization.sample import group_norm, instance_norm, layer_norm, rms_norm

Affine = tuple[jax.Array | None, jax.Array | None]  # scale and bias


class Preset(NamedTuple):
    """The defaults of one framework."""

    momentum: float
    unbiased: bool
    batch_epsilon: float
    epsilon: float
    rms_epsilon: float | None
    instance_affine: bool


PRESETS = {
    "torch": Preset(0.1, True, 1e-5, 1e-5, None, False),
    "flax": Preset(0.01, False, 1e-5, 1e-6, 1e-6, True),
    "keras": Preset(0.01, False, 1e-3, 1e-3, 1e-6, True),
}


class _Norm(nn.Module):
    """What all layers share.

    Attributes:
      epsilon: ε inside the root; None: the preset's.
      affine: whether there are `scale` and `bias`; None: the preset's.
      preset: `torch`, `flax` or `keras`.
      scale_init: how `scale` starts.
    """

    epsilon: float | None = None
    affine: bool | None = None
    preset: str = "torch"
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    def _epsilon(self, default: float) -> float:
        return default if self.epsilon is None else self.epsilon

    def _affine(self, x: jax.Array, default: bool = True) -> Affine:
        if not (default if self.affine is None else self.affine):
            return None, None
        shape = (x.shape[-1],)
        scale = self.param("scale", self.scale_init, shape)
        return scale, self.param("bias", nn.initializers.zeros, shape)


class BatchNorm(_Norm):
    """`batch_norm` with running statistics (collection `batch_stats`).

    Attributes:
      momentum: weight of the new statistics; None: the preset's.
      axis_name: a mapped axis over which the statistics are synchronized.
    """

    momentum: float | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        mask: jax.Array | None = None,
        pool: Pool | None = None,
    ) -> jax.Array:
        """Normalizes by the batch in training, by the running statistics otherwise."""
        preset, shape = PRESETS[self.preset], (x.shape[-1],)
        (scale, bias), epsilon = self._affine(x), self._epsilon(preset.batch_epsilon)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        variance = self.variable("batch_stats", "variance", jnp.ones, shape)
        if not train:
            running = (per_channel(mean.value, x.ndim), per_channel(variance.value, x.ndim))
            return picked(normalize(x, *running, scale, bias, epsilon), pool)
        options = {"scale": scale, "bias": bias, "mask": mask, "epsilon": epsilon, "pool": pool}
        y, stats = self._normalize(x, (mean.value, variance.value), options)
        if not self.is_initializing():
            momentum = preset.momentum if self.momentum is None else self.momentum
            for old, new in zip((mean, variance), self._measured(stats), strict=True):
                old.value = (1 - momentum) * old.value + momentum * new.reshape(shape)
        return y

    def _normalize(
        self, x: jax.Array, running: tuple[jax.Array, jax.Array], options: dict[str, Any]
    ) -> tuple[jax.Array, Statistics]:
        del running
        axis_name = None if self.is_initializing() else self.axis_name
        return batch_norm(x, axis_name=axis_name, **options)

    def _measured(self, stats: Statistics) -> tuple[jax.Array, jax.Array]:
        """Mean and variance of a batch as the running ones take them."""
        return stats.mean, unbiased(stats) if PRESETS[self.preset].unbiased else stats.variance


class GhostBatchNorm(BatchNorm):
    """`ghost_batch_norm` with running statistics.

    Attributes:
      groups: parts of the batch.
    """

    groups: int = 1

    def _normalize(
        self, x: jax.Array, running: tuple[jax.Array, jax.Array], options: dict[str, Any]
    ) -> tuple[jax.Array, Statistics]:
        del running
        return by_group(x, self.groups, **options)

    def _measured(self, stats: Statistics) -> tuple[jax.Array, jax.Array]:
        mean, variance = jax.vmap(super()._measured)(stats)  # unbiased, groups uneven too
        return pooled(stats.count, mean), pooled(stats.count, variance)


class BatchRenorm(BatchNorm):
    """`batch_renorm` with running statistics.

    Attributes:
      r_max, d_max: bounds of the correction.
    """

    r_max: float = 3.0
    d_max: float = 5.0

    def _normalize(
        self, x: jax.Array, running: tuple[jax.Array, jax.Array], options: dict[str, Any]
    ) -> tuple[jax.Array, Statistics]:
        return batch_renorm(x, *running, r_max=self.r_max, d_max=self.d_max, **options)


class _BySample(_Norm):
    """A norm that is the same in training and in inference."""

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        mask: jax.Array | None = None,
        pool: Pool | None = None,
    ) -> jax.Array:
        """Normalizes each sample by itself; `train` and `mask` change nothing."""
        del train, mask
        return self._normalize(x, PRESETS[self.preset], pool)

    def _normalize(self, x: jax.Array, preset: Preset, pool: Pool | None) -> jax.Array:
        raise NotImplementedError


class LayerNorm(_BySample):
    """`layer_norm` with a scale and bias per channel.

    Attributes:
      axes: the axes to reduce; None: all but the first, whatever the preset.
    """

    axes: Sequence[int] | None = None

    def _normalize(self, x: jax.Array, preset: Preset, pool: Pool | None) -> jax.Array:
        epsilon = self._epsilon(preset.epsilon)
        return layer_norm(x, *self._affine(x), epsilon, self.axes, pool)


class GroupNorm(_BySample):
    """`group_norm` with a scale and bias per channel.

    Attributes:
      groups: how many; Flax's and Keras's default is 32, PyTorch has none.
    """

    groups: int = 32

    def _normalize(self, x: jax.Array, preset: Preset, pool: Pool | None) -> jax.Array:
        epsilon = self._epsilon(preset.epsilon)
        return group_norm(x, self.groups, *self._affine(x), epsilon, pool)


class InstanceNorm(_BySample):
    """`instance_norm`, by preset with or without a scale and bias per channel."""

    def _normalize(self, x: jax.Array, preset: Preset, pool: Pool | None) -> jax.Array:
        affine = self._affine(x, default=preset.instance_affine)
        return instance_norm(x, *affine, self._epsilon(preset.epsilon), pool)


class RMSNorm(_BySample):
    """`rms_norm` with a scale per channel, no bias."""

    def _normalize(self, x: jax.Array, preset: Preset, pool: Pool | None) -> jax.Array:
        epsilon = preset.rms_epsilon if self.epsilon is None else self.epsilon
        shape = (x.shape[-1],)
        scale = None if self.affine is False else self.param("scale", self.scale_init, shape)
        return picked(rms_norm(x, scale, epsilon), pool)
