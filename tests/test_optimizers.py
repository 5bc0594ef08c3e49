"""Optimizers step by step with their owners, on one sequence of gradients and changing rates."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from regjax import optimizers

from .contract import one_program
from .parity import TWENTY_STEPS, compare

STEPS = 20
RATES = 0.1 * 0.5 ** (np.arange(STEPS) // 6) * np.linspace(1, 0.3, STEPS)
SHAPES = [(3, 4), (5,)]

# Our options, and the same for each owner.
CASES: list[tuple[str, dict[str, Any], str, str, dict[str, Any]]] = [
    ("sgd", {}, "torch", "SGD", {}),
    ("sgd", {"momentum": 0.9}, "torch", "SGD", {"momentum": 0.9}),
    (
        "sgd",
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
        "torch",
        "SGD",
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
    ),
    (
        "sgd",
        {"momentum": 0.9, "nesterov": True},
        "torch",
        "SGD",
        {"momentum": 0.9, "nesterov": True},
    ),
    ("rmsprop", {}, "torch", "RMSprop", {}),
    (
        "rmsprop",
        {"momentum": 0.9, "weight_decay": 0.1},
        "torch",
        "RMSprop",
        {"momentum": 0.9, "weight_decay": 0.1},
    ),
    ("adagrad", {}, "torch", "Adagrad", {}),
    ("adagrad", {"initial": 0.2}, "torch", "Adagrad", {"initial_accumulator_value": 0.2}),
    ("adam", {}, "torch", "Adam", {}),
    (
        "adam",
        {"b1": 0.8, "b2": 0.95, "epsilon": 1e-3, "weight_decay": 0.1},
        "torch",
        "Adam",
        {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
    ),
    ("adamw", {}, "torch", "AdamW", {}),
    ("adamw", {"weight_decay": 0.3}, "torch", "AdamW", {"weight_decay": 0.3}),
    ("sgd", {"momentum": 0.9}, "optax", "sgd", {"momentum": 0.9}),
    ("rmsprop", {}, "optax", "rmsprop", {}),
    ("rmsprop", {"momentum": 0.9}, "optax", "rmsprop", {"momentum": 0.9}),
    ("rmsprop", {"centered": True}, "optax", "rmsprop", {"centered": True}),
    ("adagrad", {}, "optax", "adagrad", {}),
    ("adam", {}, "optax", "adam", {}),
    ("adamw", {}, "optax", "adamw", {}),
    ("sgd", {"momentum": 0.9}, "keras", "SGD", {"momentum": 0.9}),
    (
        "sgd",
        {"momentum": 0.9, "nesterov": True},
        "keras",
        "SGD",
        {"momentum": 0.9, "nesterov": True},
    ),
    ("rmsprop", {}, "keras", "RMSprop", {}),
    ("rmsprop", {"momentum": 0.9}, "keras", "RMSprop", {"momentum": 0.9}),
    ("rmsprop", {"centered": True}, "keras", "RMSprop", {"centered": True}),
    ("adagrad", {}, "keras", "Adagrad", {}),
    ("adam", {}, "keras", "Adam", {}),
    ("adamw", {}, "keras", "AdamW", {}),
]


def sequence(dtype: str) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape).astype(dtype) for shape in SHAPES]
    grads = [[rng.normal(size=shape).astype(dtype) for shape in SHAPES] for _ in range(STEPS)]
    return start, grads


def walk(make: Any, dtype: str) -> list[np.ndarray]:
    """Parameters after all steps of an optax optimizer, under the changing rate."""
    start, grads = sequence(dtype)
    rates = jnp.asarray(RATES, dtype)
    tx = make(lambda count: rates[count])

    @jax.jit
    def step(carry: Any, g: Any) -> Any:
        params, state = carry
        updates, state = tx.update(g, state, params)
        return (optax.apply_updates(params, updates), state), None

    params = jax.tree.map(jnp.asarray, start)
    stacked = [jnp.stack([g[i] for g in grads]) for i in range(len(SHAPES))]
    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), stacked)
    return [np.asarray(leaf) for leaf in params]


def torch_walk(name: str, options: dict[str, Any], dtype: str) -> list[np.ndarray]:
    import torch

    start, grads = sequence(dtype)
    params = [torch.tensor(leaf, requires_grad=True) for leaf in start]
    optimizer = getattr(torch.optim, name)(params, lr=1.0, **options)
    for g, rate in zip(grads, RATES, strict=True):
        for param, value in zip(params, g, strict=True):
            param.grad = torch.tensor(value)
        optimizer.param_groups[0]["lr"] = float(rate)
        optimizer.step()
    return [leaf.detach().numpy() for leaf in params]


def keras_walk(name: str, options: dict[str, Any], dtype: str) -> list[np.ndarray]:
    import keras

    start, grads = sequence(dtype)
    variables = [keras.Variable(leaf) for leaf in start]
    optimizer = getattr(keras.optimizers, name)(learning_rate=1.0, **options)
    optimizer.build(variables)
    for g, rate in zip(grads, RATES, strict=True):
        optimizer.learning_rate = float(rate)
        optimizer.apply([jnp.asarray(value) for value in g], variables)
    return [np.asarray(variable) for variable in variables]


@pytest.mark.parity
@pytest.mark.parametrize(
    ("ours", "options", "owner", "theirs", "their_options"),
    CASES,
    ids=[f"{case[2]}-{case[0]}-{'-'.join(case[1])}" for case in CASES],
)
def test_walks_with_its_owner(
    ours: str, options: dict, owner: str, theirs: str, their_options: dict
) -> None:
    make = optimizers.PRESETS[owner][ours]
    for dtype in ("float32", "float64"):
        if owner == "keras" and dtype == "float64":
            continue  # Keras keeps the learning rate in float32
        with jax.enable_x64(dtype == "float64"):
            mine = walk(lambda rate: make(rate, **options), dtype)
            if owner == "torch":
                expected = torch_walk(theirs, their_options, dtype)
            elif owner == "optax":
                other = getattr(optax, theirs)
                expected = walk(lambda rate, o=other: o(rate, **their_options), dtype)
            else:
                expected = keras_walk(theirs, their_options, dtype)
        module = {"torch": "torch.optim", "optax": "optax", "keras": "keras.optimizers"}[owner]
        compare(f"optimizers.{ours}", f"{module}.{theirs}", mine, expected, TWENTY_STEPS)


@pytest.mark.parametrize("name", optimizers.PRESETS["torch"])
def test_only_its_defaults_differ_between_presets(name: str) -> None:
    """Every preset of an optimizer is the same function with other arguments."""
    functions = [
        getattr(preset[name], "func", preset[name]) for preset in optimizers.PRESETS.values()
    ]
    assert len(set(functions)) == 1


def test_adamw_leaves_out_what_its_mask_leaves_out() -> None:
    params = {"dense": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}}
    tx = optimizers.adamw(0.1, weight_decay=0.5, mask="kernels")
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    assert not updates["dense"]["bias"].any()
    np.testing.assert_allclose(updates["dense"]["kernel"], -0.05)


def test_learning_rates_are_traced_and_vmap() -> None:
    w = jnp.ones(3)

    def step(rate: jax.Array) -> jax.Array:
        tx = optimizers.adam(rate)
        return tx.update(w, tx.init(w), w)[0]

    one_program(step, jnp.array([0.1, 0.2]))
