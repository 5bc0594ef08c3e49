"""The optimizer chains walk where PyTorch's walk; every number may be traced."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from regjax import schedules, strengths
from regjax.config import Config, OptimizerConfig, ScheduleConfig
from regjax.optimizer import learning_rate, make_optimizer
from regjax.transforms import clip_by_norm

STEPS = 25
START = {"a": {"kernel": np.linspace(-1, 2, 12).reshape(3, 4)}, "b": {"bias": np.ones(3)}}
START = jax.tree.map(lambda x: x.astype(np.float32), START)

# Ours beside PyTorch's, for the same numbers.
CASES: dict[str, tuple[OptimizerConfig, str, dict[str, Any]]] = {
    "sgd": (OptimizerConfig("sgd", 0.1), "SGD", {}),
    "momentum": (OptimizerConfig("sgd", 0.1, momentum=0.9), "SGD", {"momentum": 0.9}),
    "nesterov": (
        OptimizerConfig("sgd", 0.1, momentum=0.9, nesterov=True),
        "SGD",
        {"momentum": 0.9, "nesterov": True},
    ),
    "sgd_decay": (
        OptimizerConfig("sgd", 0.1, momentum=0.9, weight_decay=0.1, decay_mask="all"),
        "SGD",
        {"momentum": 0.9, "weight_decay": 0.1},
    ),
    "adam": (OptimizerConfig("adam", 0.1), "Adam", {}),
    "adam_numbers": (
        OptimizerConfig("adam", 0.1, b1=0.8, b2=0.95, epsilon=1e-3),
        "Adam",
        {"betas": (0.8, 0.95), "eps": 1e-3},
    ),
    "adam_decay": (
        OptimizerConfig("adam", 0.1, weight_decay=0.1, decay_mask="all"),
        "Adam",
        {"weight_decay": 0.1},
    ),
    "adamw": (
        OptimizerConfig("adamw", 0.1, weight_decay=0.1, decay_mask="all"),
        "AdamW",
        {"weight_decay": 0.1},
    ),
    "rmsprop": (OptimizerConfig("rmsprop", 0.01), "RMSprop", {}),
    "rmsprop_momentum": (
        OptimizerConfig("rmsprop", 0.01, momentum=0.9),
        "RMSprop",
        {"momentum": 0.9},
    ),
    "adagrad": (OptimizerConfig("adagrad", 0.1), "Adagrad", {}),
}


def loss(params: Any, sin: Any, total: Any) -> Any:
    return total(sin(3 * params[0])) + total(params[1] ** 2) * 1e-3


KEY = jax.random.key(0)


def walk(optimizer: OptimizerConfig, **others: Any) -> list[np.ndarray]:
    """Our parameters after `STEPS` steps."""
    config = Config(optimizer=optimizer, **others)
    s = strengths.from_config(config, 100)

    def ours(params: Any) -> jax.Array:
        return loss(jax.tree.leaves(params), jnp.sin, jnp.sum)

    @jax.jit
    def step(params: Any, state: Any, count: jax.Array) -> Any:
        tx = make_optimizer(config, s, learning_rate(config, s, count), KEY)
        gradient = jax.grad(ours)
        updates, state = tx.update(gradient(params), state, params, gradient=gradient)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(jnp.asarray, START)
    state = make_optimizer(config, s, s["optimizer.learning_rate"], KEY).init(params)
    for count in range(STEPS):
        params, state = step(params, state, jnp.int32(count))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


def torch_walk(
    name: str, rate: float, options: dict, schedule: Any = None, clip: Any = None
) -> list[np.ndarray]:
    import torch

    params = [torch.tensor(leaf, requires_grad=True) for leaf in jax.tree.leaves(START)]
    optimizer = getattr(torch.optim, name)(params, lr=rate, **options)
    scheduler = schedule(optimizer) if schedule else None
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(params, torch.sin, torch.sum).backward()
        if clip:
            clip(params)
        optimizer.step()
        if scheduler:
            scheduler.step()
    return [leaf.detach().numpy() for leaf in params]


def assert_close(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


@pytest.mark.parity
@pytest.mark.parametrize("case", CASES)
def test_walks_with_torch(case: str) -> None:
    config, name, options = CASES[case]
    assert_close(walk(config), torch_walk(name, config.learning_rate, options))


@pytest.mark.parity
@pytest.mark.parametrize("case", ["momentum", "rmsprop_momentum", "adamw"])
def test_walks_with_torch_under_a_schedule(case: str) -> None:
    import torch

    config, name, options = CASES[case]
    config = dataclasses.replace(config, schedule=ScheduleConfig("step", step_epochs=2, factor=0.5))
    # 100 examples at batch 32 are 4 steps an epoch.
    schedule = lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 8, 0.5)  # noqa: E731
    assert_close(walk(config), torch_walk(name, config.learning_rate, options, schedule))


@pytest.mark.parity
@pytest.mark.parametrize("clip", ["norm", "value"])
def test_clips_as_torch(clip: str) -> None:
    import torch

    config = OptimizerConfig("sgd", 0.1, momentum=0.9, clip=clip, clip_threshold=0.5)
    clip_torch = {
        "norm": lambda p: torch.nn.utils.clip_grad_norm_(p, 0.5),
        "value": lambda p: torch.nn.utils.clip_grad_value_(p, 0.5),
    }[clip]
    theirs = torch_walk("SGD", 0.1, {"momentum": 0.9}, clip=clip_torch)
    assert_close(walk(config), theirs)


def test_clip_by_norm_keeps_direction_zero_and_short_gradients() -> None:
    tx = clip_by_norm(1.0)
    for gradient in (jnp.zeros(3), jnp.array([0.1, 0.2, -0.3]), jnp.array([30.0, 40.0, 0.0])):
        clipped, _ = tx.update({"w": gradient}, tx.init(None))
        norm = float(jnp.linalg.norm(gradient))
        np.testing.assert_allclose(clipped["w"] * max(1, norm), gradient, rtol=1e-5)


def test_decay_leaves_biases_alone_by_default() -> None:
    still = OptimizerConfig("adamw", 0.1, weight_decay=0.5)
    none = dataclasses.replace(still, weight_decay=0.0)
    (kernel, bias), (kernel_0, bias_0) = walk(still), walk(none)
    np.testing.assert_array_equal(bias, bias_0)
    assert not np.allclose(kernel, kernel_0)


@pytest.mark.parametrize("case", CASES)
def test_every_number_vmaps(case: str) -> None:
    """A vector of each strength through one program gives what each gives by itself."""
    config = Config(optimizer=dataclasses.replace(CASES[case][0], clip="norm"))
    one = strengths.from_config(config, 100)
    two = jax.tree.map(lambda x: x * 0.9, one)
    params = jax.tree.map(jnp.asarray, START)
    grads = jax.tree.map(jnp.cos, params)

    def update(s: strengths.Strengths) -> Any:
        tx = make_optimizer(config, s, learning_rate(config, s, jnp.int32(3)), KEY)
        return tx.update(grads, tx.init(params), params)[0]

    both = jax.vmap(update)(jax.tree.map(lambda a, b: jnp.stack([a, b]), one, two))
    for i, alone in enumerate((update(one), update(two))):
        for got, want in zip(jax.tree.leaves(both), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(got[i], want, rtol=1e-5, atol=1e-7)


def test_schedules_are_optaxs() -> None:
    steps = jnp.arange(0, 130)
    cosine = optax.cosine_decay_schedule(1.0, 100, 0.1)
    np.testing.assert_allclose(schedules.cosine(steps, 100, 0.1), cosine(steps), atol=1e-6)
    stairs = optax.exponential_decay(1.0, 10, 0.5, staircase=True)
    np.testing.assert_allclose(schedules.step_decay(steps, 10, 0.5), stairs(steps), rtol=1e-6)
    every = np.float32(0.6) * np.float32(7)  # .6 of an epoch of 7 batches: 21 steps are five
    np.testing.assert_allclose(schedules.step_decay(steps[20:22], every, 0.5), [0.5**4, 0.5**5])
    ramp = optax.linear_schedule(0.0, 1.0, 20)
    np.testing.assert_allclose(schedules.warmup(steps, 20), ramp(steps + 1), atol=1e-6)
