"""Every name that a config may choose does something, in one program for all its numbers.

A new choice is tested by being listed in `regjax.config`.
"""

import dataclasses
import itertools
import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regjax import config as config_lib
from regjax import models, program, state, step, strengths
from regjax.augmentation import augmented
from regjax.batch import Arrays
from regjax.config import Config
from regjax.errors import InputError
from regjax.network import Network

# What a choice needs beside it, to be possible and to be seen in one small step.
BASE: dict[str, Any] = {
    "batch_size": 8,
    "model.widths": (4, 4),
    "model.initializer": "he_normal",
    "model.norm_groups": 2,
    "model.residual": True,
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.1,
    "stopping.monitor": "valid_loss",
    "stopping.mode": "min",
}
RNN = {"model.name": "rnn", "model.widths": (4,)}
RESNET = {"model.name": "resnet", "model.depth": 4, "model.channels": (4,)}
VIT = {"model.name": "vit", "model.depth": 1, "model.token_width": 4}
NEEDS: dict[str, dict[str, Any]] = {
    "augment.mix": {"augment.mix_alpha": 1.0},
    "model.dropout": {"model.dropout_rate": 0.5},
    "penalty.name": {"penalty.strength": 0.01, "penalty.radius": 0.3},
    "penalty.scale": {"penalty.name": "l2", "penalty.strength": 1.0},
    "penalty.mode": {"penalty.name": "l1", "penalty.strength": 0.1},
    "penalty.groups": {"penalty.name": "group_lasso", "penalty.strength": 0.1},
    "constraint.name": {"constraint.radius": 0.5},
    "optimizer.clip": {"optimizer.clip_threshold": 1e-3},
    "optimizer.convention": {"optimizer.name": "rmsprop"},
    "optimizer.decay": {"optimizer.name": "adam", "optimizer.weight_decay": 0.1},
    "optimizer.average": {"optimizer.average_decay": 0.5, "optimizer.average_every": 0.5},
    "loss.smoothing": {"loss.label_smoothing": 0.3},
    "stopping.refit_by": {"stopping.refit": "restart"},
    "model.cell": RNN,
    "model.steps": RNN,
    "model.recurrent_initializer": RNN,
    "model.shortcut": RESNET,
    "model.pooling": VIT,
}
CHOICE_NEEDS: dict[tuple[str, str], dict[str, Any]] = {
    ("model.name", "cnn"): {"image": (16, 16, 1)},
    ("model.name", "resnet"): RESNET,
    ("model.name", "rnn"): RNN,
    ("model.name", "vit"): VIT,
    ("model.norm", "instance"): RESNET,
    ("model.rescale", "fixup"): RESNET,
    ("model.dropout", "spatial"): RESNET,
    ("model.dropout", "drop_block"): RESNET,
    ("model.dropout", "variational"): RNN,
    ("penalty.name", "none"): {"penalty.strength": 0.0},
    ("stopping.monitor", "valid_accuracy"): {"stopping.mode": "max"},
    ("stopping.monitor", "valid_r2"): {
        "stopping.mode": "max",
        "data.task": "regression",
        "loss.name": "mean_squared",
    },
    ("stopping.mode", "max"): {"stopping.monitor": "valid_accuracy"},
}
CHOICES = [
    (name, choice)
    for name, _, metadata in config_lib.fields()
    for choice in metadata.get("choices", ())
    if not name.startswith("data.")
]
# Those whose effect a step of the base's network shows; the others are seen in tests of their own.
SEEN = ("penalty.", "constraint.", "optimizer.clip", "optimizer.convention", "optimizer.decay")
SEEN += ("optimizer.name", "loss.", "augment.", "model.kernels", "model.dropout", "model.norm")


def set_field(config: Config, name: str, value: Any) -> None:
    *sections, field = name.split(".")
    section: Any = config
    for part in sections:
        section = getattr(section, part)
    setattr(section, field, value)


def config_and_shape(options: dict[str, Any]) -> tuple[Config, tuple[int, ...]]:
    """The base with some fields set, and the shape of its images."""
    config, options = Config(), {"image": (4, 4, 1), **BASE, **options}
    shape = options.pop("image")
    for name, value in options.items():
        set_field(config, name, value)
    return config_lib.check(config), shape


def parts(options: dict[str, Any]) -> tuple[Config, Network, Any, Arrays]:
    """Config, network, strengths and data of the base with some fields set."""
    config, shape = config_and_shape(options)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (20, *shape)), jnp.uint8)
    data = Arrays(images, jnp.asarray(np.arange(20) % 3), jnp.float32(127.5), jnp.float32(1 / 64))
    outputs = 1 if config.data.task == "regression" else 3
    network = Network(config.model, models.build(config.model, shape, outputs), outputs)
    return config, network, strengths.from_config(config, 20), data


def start(config: Config, network: Network, numbers: Any, data: Arrays) -> Any:
    """The first state."""
    batch = data.take(jnp.arange(20), jnp.ones(20)).images
    return state.init(config, network, numbers, batch, jax.random.key(config.seed))


def made(options: dict[str, Any]) -> tuple[Config, Network, Any, Any, Arrays]:
    """Config, network, strengths, first state and data of the base with some fields set."""
    config, network, numbers, data = parts(options)
    return config, network, numbers, start(config, network, numbers, data), data


def options_of(name: str, choice: str) -> dict[str, Any]:
    return {**NEEDS.get(name, {}), **CHOICE_NEEDS.get((name, choice), {}), name: choice}


KNOWN: dict[str, Any] = {}  # by function and config: the base's own choices are one config


def once(function: Any, options: dict[str, Any]) -> Any:
    """What a function makes of some options, computed once for each config."""
    known = f"{function.__name__} {config_and_shape(options)}"
    if known not in KNOWN:
        KNOWN[known] = function(options)
    return KNOWN[known]


def traced_epoch(options: dict[str, Any]) -> Any:
    """The run before an epoch and after it, and its metrics, as shapes."""

    def epoch() -> Any:
        config, network, numbers, run, data = made(options)
        return run, *step.make_run_epoch(config, network)(numbers, run, data, data)

    return jax.eval_shape(epoch)


@pytest.mark.parametrize(("name", "choice"), CHOICES, ids=lambda x: x)
def test_every_choice_makes_a_program(name: str, choice: str) -> None:
    """Of an epoch, traced and not compiled; its state keeps its structure."""
    options = {**BASE, **options_of(name, choice)}
    before, after, measured = once(traced_epoch, options)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert [leaf.shape for leaf in jax.tree.leaves(before)] == [
        leaf.shape for leaf in jax.tree.leaves(after)
    ]
    assert {"train_loss", "valid_loss", "penalty", options["stopping.monitor"]} <= set(measured)


one_hot = partial(jax.nn.one_hot, num_classes=3)


class Started(Network):
    """A network that starts with given parameters and statistics."""

    given: Any

    def init(self, key: jax.Array, inputs: jax.Array) -> Any:
        return self.given


STARTS: dict[str, Any] = {}  # most choices share one


def weights_after_a_step(options: dict[str, Any]) -> list[np.ndarray]:
    config, network, numbers, data = parts(options)
    known = f"{config.model} {data.images.shape} {config.seed}"
    if known not in STARTS:
        first = jax.jit(lambda: start(config, network, numbers, data).train)()
        STARTS[known] = first.params, first.statistics

    @jax.jit
    def one_step(given: Any) -> Any:
        started = Started(*network)
        started.given = given
        run = start(config, started, numbers, data)
        batch = data.take(jnp.arange(8), jnp.ones(8))
        batch = augmented(
            config.augment, numbers, batch, jax.random.key(1), jnp.float32(-1), one_hot
        )
        return step.make_train_step(config, network)(numbers, run.train, batch, run.key)[0].params

    return [np.asarray(leaf) for leaf in jax.tree.leaves(one_step(STARTS[known]))]


@pytest.mark.parametrize("name", sorted({name for name, _ in CHOICES if name.startswith(SEEN)}))
def test_every_choice_does_something(name: str) -> None:
    """The weights after a step are finite, and no two choices lead to the same."""
    options = {choice: options_of(name, choice) for n, choice in CHOICES if n == name}
    weights = {
        choice: once(weights_after_a_step, given)
        for choice, given in options.items()
        if "model.name" not in given
    }
    for choice, leaves in weights.items():
        assert all(np.isfinite(leaf).all() for leaf in leaves), choice
    for one, other in itertools.combinations(weights, 2):
        same = [w.shape for w in weights[one]] == [w.shape for w in weights[other]] and all(
            np.array_equal(a, b) for a, b in zip(weights[one], weights[other], strict=True)
        )
        assert same == ({one, other} in SAME), f"{name}: {one} and {other}"


# One step does not tell these apart.
SAME: list[set[str]] = [
    {"default", "coupled"},  # the default of Adam
]


def test_all_numbers_are_traced() -> None:
    """One program for all values of all strengths that a config can have at once."""
    options: dict[str, Any] = {
        **NEEDS["penalty.mode"],
        "model.norm": "layer",
        "penalty.name": "elastic",
        "constraint.name": "max_norm",
        "model.dropout_rate": 0.2,
        "loss.label_smoothing": 0.1,
        "augment.mix": "mixup",
        **{f"augment.{name}": 0.2 for name in ("degrees", "elastic_alpha", "flip", "translate")},
        "augment.shift": 1.0,
        "augment.cutout": 1.0,
        "augment.thickness": 0.5,
        "augment.scale": 0.1,
        "augment.shear": 2.0,
        "optimizer.name": "adam",
        "optimizer.clip": "norm",
        "optimizer.noise": 0.01,
        "optimizer.sam_rho": 0.05,
        "optimizer.average": "ema",
        "optimizer.weight_decay": 0.01,
        "optimizer.b1": 0.9,
        "optimizer.b2": 0.99,
        "optimizer.epsilon": 1e-6,
        "optimizer.schedule.name": "cosine",
    }
    config, network, numbers, run, data = made(options)
    unused = {"optimizer.momentum", "optimizer.dampening", "optimizer.alpha"}
    traced = {name for name, _, metadata in config_lib.fields() if metadata.get("traced")}
    assert traced - unused <= set(numbers)
    traces = []

    @jax.jit
    def run_epoch(numbers: Any) -> Any:
        traces.append(numbers)
        return step.make_run_epoch(config, network)(numbers, run, data, data)[1]["valid_loss"]

    results = {f: run_epoch({k: v * f for k, v in numbers.items()}).item() for f in (1.0, 0.9)}
    assert len(traces) == 1
    assert results[1.0] != results[0.9]


TRACED = {name: m["interval"] for name, _, m in config_lib.fields() if m.get("traced")}
WITH: list[dict[str, Any]] = [{"penalty.name": "elastic"}, {"optimizer.name": "adamw"}]


def traced_step(options: dict[str, Any]) -> tuple[str, str]:
    """The text that says which program a config needs, and the program."""
    config, network, numbers, data = parts(options)
    run = jax.eval_shape(partial(start, config, network), numbers, data)
    epoch = step.make_run_epoch(config, network)
    made = str(jax.make_jaxpr(epoch)(numbers, run, data, data))
    return program.structure(config, numbers), re.sub(" at 0x[0-9a-f]+", "", made)


@pytest.mark.parametrize("name", TRACED)
def test_what_is_said_to_be_one_program_is_one(name: str) -> None:
    """A number at its lowest, given or not, and above: of one structure only if of one program."""
    low = max(0, int(TRACED[name][1:].split(",")[0].replace("-inf", "0")))
    above = low + 1 if isinstance(dict(config_lib.flatten(Config()))[name], int) else low + 0.1
    lowest = [low] if TRACED[name].startswith("[") else []
    for options in WITH:
        default = dict(config_lib.flatten(config_and_shape(options)[0]))[name]
        programs: dict[str, str] = {}
        for value in [*lowest, default, above]:
            try:
                said, made = once(traced_step, {**options, name: value})
            except InputError:  # what such a config lacks for it
                continue
            assert programs.setdefault(said, made) == made, (options, value)


def test_what_is_off_is_not_in_the_program() -> None:
    config = Config()
    names = strengths.from_config(config, 20)
    assert not {"model.dropout_rate", "optimizer.sam_rho", "augment.degrees"} & set(names)
    changed = dataclasses.replace(config, model=dataclasses.replace(config.model, dropout_rate=0.1))
    assert set(strengths.from_config(changed, 20)) - set(names) == {"model.dropout_rate"}
