"""Normalization: two pure functions, `statistics` and `normalize`; every norm is a choice of axes.

Inputs have their channels last, `(N, ..., C)`. Statistics are computed in two passes (mean first,
then the mean of squared deviations) in at least float32, so a large mean costs no accuracy and the
variance is never negative; the output keeps the input's dtype. All norms divide by
√(biased variance + ε), as PyTorch, Flax and Keras do.
"""

from regjax.normalization import reparametrization
from regjax.normalization.batch import batch_norm, batch_renorm, ghost_batch_norm
from regjax.normalization.core import Statistics, normalize, statistics, unbiased
from regjax.normalization.layers import (
    PRESETS,
    BatchNorm,
    BatchRenorm,
    GhostBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
)
from regjax.normalization.sample import group_norm, instance_norm, layer_norm, rms_norm
from regjax.normalization.weights import (
    SingularVectors,
    spectral_norm,
    weight_norm,
    weight_standardization,
)

__all__ = [
    "PRESETS",
    "BatchNorm",
    "BatchRenorm",
    "GhostBatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "RMSNorm",
    "SingularVectors",
    "Statistics",
    "batch_norm",
    "batch_renorm",
    "ghost_batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "normalize",
    "reparametrization",
    "rms_norm",
    "spectral_norm",
    "statistics",
    "unbiased",
    "weight_norm",
    "weight_standardization",
]
