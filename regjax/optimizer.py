"""The optimizer of a config, as one optax chain built from traced numbers.

SAM → noise → clip → coupled decay → the optimizer with its learning rate → decoupled decay →
proximal step → projection → average. It is built anew in every trace from the strengths, which may
be tracers; its state's structure depends on the config alone.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from regjax import optimizers, penalties, schedules, transforms
from regjax.config import Config, ConstraintConfig, OptimizerConfig, PenaltyConfig, flatten
from regjax.strengths import EXAMPLES, STEPS_PER_EPOCH, Strengths

PyTree = Any
Transformations = list[optax.GradientTransformation]

# The arguments of each optimizer that a config may give, by their names there.
ARGUMENTS = {
    "sgd": {"momentum": "momentum", "dampening": "dampening"},
    "rmsprop": {"decay": "alpha", "epsilon": "epsilon", "momentum": "momentum"},
    "adagrad": {"epsilon": "epsilon"},
    "adam": {"b1": "b1", "b2": "b2", "epsilon": "epsilon"},
}


def learning_rate(config: Config, strengths: Strengths, step: jax.Array) -> jax.Array:
    """The learning rate at a step (counted from 0): warm-up · schedule · peak rate.

    >>> from regjax import strengths
    >>> float(learning_rate(Config(), strengths.from_config(Config(), 10), 0).round(6))
    0.0010000000474974513
    """
    s, per_epoch = strengths, strengths[STEPS_PER_EPOCH]
    schedule = "optimizer.schedule"
    if config.optimizer.schedule.name == "cosine":
        factor = schedules.cosine(step, config.epochs * per_epoch, s[f"{schedule}.final"])
    elif config.optimizer.schedule.name == "step":
        every = s[f"{schedule}.step_epochs"] * per_epoch
        factor = schedules.step_decay(step, every, s[f"{schedule}.factor"])
    else:
        factor = schedules.constant(step)
    warmup = schedules.warmup(step, s[f"{schedule}.warmup_epochs"] * per_epoch)
    return s["optimizer.learning_rate"] * warmup * factor


def decays(config: OptimizerConfig) -> str:
    """How the weights decay: `none`, `coupled`, `decoupled` or `independent`.

    >>> decays(OptimizerConfig("adamw")), decays(OptimizerConfig("adam"))
    ('decoupled', 'none')
    """
    if config.weight_decay == 0 or (config.weight_decay is None and config.name != "adamw"):
        return "none"
    if config.decay == "default":
        return "decoupled" if config.name == "adamw" else "coupled"
    return config.decay


def make_optimizer(
    config: Config, strengths: Strengths, rate: jax.Array, key: jax.Array
) -> optax.GradientTransformationExtraArgs:
    """Returns the chain for one step.

    Args:
      config: which steps.
      strengths: their numbers.
      rate: the learning rate of this step.
      key: random key of the gradient noise, which `init` puts into the state.
    """
    optimizer, s = config.optimizer, strengths
    how = decays(optimizer)
    decay = s.get("optimizer.weight_decay", _default_decay(optimizer))
    decay_rate = 1.0 if how == "independent" else rate
    sam = [transforms.sam(s["optimizer.sam_rho"])] if "optimizer.sam_rho" in s else []
    coupled = [transforms.coupled_decay(decay, optimizer.decay_mask)]
    decoupled = [transforms.decoupled_decay(decay, decay_rate, optimizer.decay_mask)]
    return optax.chain(
        *sam,
        *_noise(s, key),
        *_clip(optimizer, s),
        *(coupled if how == "coupled" else []),
        _direction(optimizer, s, rate),
        *(decoupled if how in ("decoupled", "independent") else []),
        *_proximal(config.penalty, s, rate),
        *_constraint(config.constraint, s),
        *_average(optimizer, s),
    )


def _default_decay(config: OptimizerConfig) -> float:
    """AdamW's in its convention."""
    adamw = inspect.signature(optimizers.PRESETS[config.convention]["adamw"])
    return adamw.parameters["weight_decay"].default


def _noise(s: Strengths, key: jax.Array) -> Transformations:
    if "optimizer.noise" not in s:
        return []
    return [transforms.gradient_noise(key, s["optimizer.noise"], s["optimizer.noise_gamma"])]


def _clip(config: OptimizerConfig, s: Strengths) -> Transformations:
    if config.clip == "none":
        return []
    convention = "torch" if config.convention == "torch" else "optax"
    clips: dict[str, Callable[[jax.Array], optax.GradientTransformation]] = {
        "norm": partial(transforms.clip_by_norm, convention=convention),
        "value": transforms.clip_by_value,
        "leaf_norm": transforms.clip_by_leaf_norm,
        "adaptive": transforms.adaptive_clip,
    }
    return [clips[config.clip](s["optimizer.clip_threshold"])]


def _direction(
    config: OptimizerConfig, s: Strengths, rate: jax.Array
) -> optax.GradientTransformation:
    name = "adam" if config.name == "adamw" else config.name  # decay is a step of its own
    given = {ours: f"optimizer.{field}" for ours, field in ARGUMENTS[name].items()}
    options: dict[str, Any] = {ours: s[field] for ours, field in given.items() if field in s}
    if name == "sgd":
        options["nesterov"] = config.nesterov
    if name == "rmsprop":
        options["centered"] = config.centered
    return optimizers.PRESETS[config.convention][name](rate, **options)


def _proximal(config: PenaltyConfig, s: Strengths, rate: jax.Array) -> Transformations:
    if config.mode != "proximal" or config.name == "none":
        return []
    options: dict[str, Any] = {
        "elastic": {"l1_ratio": s["penalty.l1_ratio"]},
        "group_lasso": {"groups": config.groups},
    }
    operator = partial(penalties.PROXIMAL[config.name], **options.get(config.name, {}))

    def prox(params: PyTree, step: jax.Array) -> PyTree:
        return operator(params, step * penalties.scale_factor(config.scale, params, s[EXAMPLES]))

    return [transforms.proximal(prox, s["penalty.strength"], rate, config.mask)]


def _constraint(config: ConstraintConfig, s: Strengths) -> Transformations:
    if config.name == "none":
        return []
    radius = s["constraint.radius"]
    projections: dict[str, Callable[[PyTree], PyTree]] = {
        "max_norm": lambda params: penalties.project_max_norm(params, radius),
        "l1_ball": lambda params: penalties.project_l1_ball(params, radius),
        "unit": penalties.project_unit,
    }
    return [transforms.project(projections[config.name], config.mask)]


def _average(config: OptimizerConfig, s: Strengths) -> Transformations:
    if config.average == "ema":
        return [transforms.ema(s["optimizer.average_decay"])]
    if config.average == "swa":
        per_epoch = s[STEPS_PER_EPOCH]
        every = jnp.maximum(jnp.round(s["optimizer.average_every"] * per_epoch), 1)
        first = jnp.round(s["optimizer.average_start"] * per_epoch) + every - 1
        return [transforms.swa(first.astype(jnp.int32), every.astype(jnp.int32))]
    return []


def rules(config: Config) -> dict[str, str]:
    """The rules in use of what is penalized, decayed and constrained, by their field's name.

    >>> rules(Config(optimizer=OptimizerConfig("adamw")))
    {'optimizer.decay_mask': 'kernels'}
    """
    in_use = {
        "penalty.mask": config.penalty.name not in ("none", "jacobian", "entropy"),
        "optimizer.decay_mask": decays(config.optimizer) != "none",
        "constraint.mask": config.constraint.name != "none",
    }
    fields = dict(flatten(config))
    return {name: fields[name] for name, used in in_use.items() if used}
