"""Learning-rate schedules as factors of the learning rate, every number traced.

optax's schedules check their numbers in Python, so they cannot be traced or batched; these are
the same curves as functions of arrays. Each returns a factor that multiplies the learning rate.
"""

import jax
import jax.numpy as jnp

Number = jax.Array | float


def constant(step: Number) -> jax.Array:
    """The factor 1.

    >>> constant(5)
    Array(1., dtype=float32)
    """
    return jnp.ones_like(step, dtype=jnp.float32)


def cosine(step: Number, total: Number, final: Number = 0.0) -> jax.Array:
    """Loshchilov & Hutter (2017): from 1 to `final` along half a cosine in `total` steps.

    (1 − final) · ½(1 + cos(π t / total)) + final, and `final` from t = total ≥ 1 on;
    `optax.cosine_decay_schedule` with alpha = final. The last of `total` updates, at t = total − 1,
    is a step above it.

    >>> cosine(50, 100, 0.0).round(3)
    Array(0.5, dtype=float32)
    """
    progress = jnp.clip(step / jnp.maximum(total, 1), 0, 1)
    return jnp.float32((1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress)) + final)


def step_decay(step: Number, every: Number, factor: Number) -> jax.Array:
    """factor^⌊t / every⌋, `torch.optim.lr_scheduler.StepLR` counted in steps; `every` below 1 is 1.

    A cut that falls on a step is made at it, although t / every may be rounded down.

    >>> step_decay(25, 10, 0.5)
    Array(0.25, dtype=float32)
    """
    return jnp.asarray(factor, jnp.float32) ** jnp.floor(step / jnp.maximum(every, 1) * (1 + 1e-6))


def warmup(step: Number, total: Number) -> jax.Array:
    """Linear warm-up, (t + 1) / total up to 1; no warm-up when `total` is 0.

    The first step is not wasted on a rate of 0, as it is in optax's warm-up from
    `init_value=0`, whose factor at step t + 1 this is.

    >>> warmup(jnp.arange(4), 4)
    Array([0.25, 0.5 , 0.75, 1.  ], dtype=float32)
    >>> warmup(0, 0)
    Array(1., dtype=float32)
    """
    return jnp.float32(jnp.minimum(1, (step + 1) / jnp.maximum(total, 1)))
