"""Gradient transformations: each an `optax.GradientTransformation` that chains with any of optax's.

Strengths may be numbers, traced arrays or, where it says so, schedules. In the order of a chain:
clipping, penalties and coupled decay, momentum or Adam, the learning rate, decoupled decay,
proximal steps and projections, averages. What optax has right is wrapped and named as such.
"""

from regjax.transforms.averaging import AverageState, ema, swa
from regjax.transforms.clipping import (
    adaptive_clip,
    clip_by_leaf_norm,
    clip_by_norm,
    clip_by_value,
)
from regjax.transforms.common import masked
from regjax.transforms.constraining import project, proximal
from regjax.transforms.directions import momentum, scale_by_adagrad, scale_by_adam_hat
from regjax.transforms.exploring import gradient_noise, sam
from regjax.transforms.penalizing import add_penalty, coupled_decay, decoupled_decay

__all__ = [
    "AverageState",
    "adaptive_clip",
    "add_penalty",
    "clip_by_leaf_norm",
    "clip_by_norm",
    "clip_by_value",
    "coupled_decay",
    "decoupled_decay",
    "ema",
    "gradient_noise",
    "masked",
    "momentum",
    "project",
    "proximal",
    "sam",
    "scale_by_adagrad",
    "scale_by_adam_hat",
    "swa",
]
