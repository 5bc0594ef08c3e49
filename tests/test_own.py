"""A user's own network, from a file that the config names."""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from regjax import train as train_lib
from regjax.config import Config, DataConfig, ModelConfig, OptimizerConfig, ParallelConfig
from regjax.errors import InputError
from regjax.models.own import load as load_own

OWN = """
import flax.linen as nn
import jax
import jax.numpy as jnp

class Net(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Dense(16)(x.reshape(len(x), -1)))
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(self.classes)(x)

class Counting(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, train=False):
        steps = self.variable("counters", "steps", lambda: jnp.zeros((), jnp.int32))
        if train:
            steps.value += 1
        x = nn.relu(nn.Dense(16, name="first")(x.reshape(len(x), -1)))
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(self.classes)(x)

class Wide(nn.Module):
    width: int
    classes: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.classes)(nn.relu(nn.Dense(self.width)(x.reshape(len(x), -1))))

def wide(input_shape, classes):
    return Wide(input_shape[0] * 4, classes)

def pair(input_shape, classes):
    size = input_shape[0] * input_shape[1]
    def init(key, x):
        kernel = 0.01 * jax.random.normal(key, (size, classes))
        return {"kernel": kernel, "bias": jnp.zeros(classes)}
    def apply(params, x):
        return x.reshape(len(x), -1) @ params["kernel"] + params["bias"][None, :]
    return init, apply

def raises(input_shape, classes):
    return 1 / 0

def number(input_shape, classes):
    return 3

def flat(input_shape, classes):
    return lambda key, x: {}, lambda params, x: jnp.zeros((len(x), 2))

class Nothing(nn.Module):
    classes: int

    def __call__(self, x):
        return jnp.zeros((len(x), self.classes))

def whole(input_shape, classes):
    def init(key, x):
        return jnp.zeros((64, classes), int)
    return init, lambda params, x: x.reshape(len(x), -1) @ params.astype(float)

def counts(input_shape, classes):
    def init(key, x):
        return jnp.zeros((64, classes))
    return init, lambda params, x: (x.reshape(len(x), -1) @ params).astype(int)

def leaves(input_shape, classes):
    def init(key, x):
        raise SystemExit(5)
    return init, init

def exits(input_shape, classes):
    raise SystemExit(5)

def breaks(input_shape, classes):
    return lambda key, x: {}, lambda params, x: x @ jnp.ones((3, 3))
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(OWN)
    return f"file:{tmp_path / 'mine.py'}:"


def config(name: str, **model: Any) -> Config:
    data = DataConfig(train=256, valid=100, select=100, test=300)
    optimizer = OptimizerConfig("adam", 0.01)
    return Config(epochs=8, data=data, model=ModelConfig(name, **model), optimizer=optimizer)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameters"), [("Net", 1242), ("wide", 2410), ("pair", 650)])
def test_trains_as_any_other(own: str, name: str, parameters: int, tmp_path: Path) -> None:
    made = config(own + name)
    if name != "Net":  # which has batch statistics, and trains on all devices
        made.parallel.mode = "single"
    result = train_lib.train(made, tmp_path / "run", Console(quiet=True))
    assert result["parameters"] == parameters
    assert result["test_accuracy"] > 0.8
    params = train_lib.assemble(config(own + name)).shapes().train.params
    assert sum(np.prod(p.shape) for p in jax.tree.leaves(params)) == parameters


@pytest.mark.parametrize(
    ("mode", "sync", "sees"), [("pmap", True, "part"), ("jit", False, "whole")]
)
def test_its_batch_statistics_are_those_it_takes(
    own: str, mode: str, sync: bool, sees: str
) -> None:
    made = config(own + "Net")
    made.parallel = ParallelConfig(mode, sync_norm=sync)
    with pytest.raises(
        InputError, match=f"{sees} of a batch; set parallel.sync_norm to {not sync}"
    ):
        train_lib.assemble(made)
    made.parallel.sync_norm = not sync
    assert train_lib.assemble(made)
    made.parallel.sync_norm, made.model.name = sync, own + "wide"
    assert train_lib.assemble(made)


def test_its_average_has_statistics_of_its_own(own: str) -> None:
    """Of a batch norm whose momentum only the network knows, before a dropout of its own."""
    made = config(own + "Counting")
    made.parallel, made.batch_size = ParallelConfig("single"), 256
    made.optimizer.average = "ema"
    parts = train_lib.assemble(made)
    params, statistics = after_an_epoch(parts).train.evaluated()
    images = parts.whole("train").take(np.arange(256), np.ones(256)).images.reshape(256, -1)
    units = np.maximum(images @ params["first"]["kernel"] + params["first"]["bias"][None], 0)
    found = statistics["batch_stats"]["norm"]
    np.testing.assert_allclose(found["mean"], units.mean(0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["var"], units.var(0), rtol=1e-3, atol=1e-4)


def after_an_epoch(parts: Any) -> Any:
    functions, data = parts.program(), (parts.whole("train"), [parts.whole("valid")])
    return functions.run_epoch(parts.strengths, functions.init(*parts.start()), *data)[0]


def test_whole_numbers_stay_whole_on_many_devices(own: str) -> None:
    made = config(own + "Counting")
    made.parallel = ParallelConfig("pmap", sync_norm=False)
    steps = after_an_epoch(train_lib.assemble(made)).train.statistics["counters"]["steps"]
    assert steps.dtype == "int32"
    assert steps == 8  # batches of 32 of 256


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nett", "defines no 'nett'"),
        ("raises", "cannot be made: ZeroDivisionError"),
        ("exits", "cannot be made: SystemExit: 5"),
        ("number", "gave a int, expected a flax.linen.Module"),
        ("flat", "gives (2, 2) for inputs (2, 8, 8, 1), expected logits of (2, 10)"),
        ("breaks", "fails on inputs"),
        ("leaves", "fails on inputs (2, 8, 8, 1): SystemExit: 5"),
        ("Nothing", "has parameters of none, expected floats"),
        ("whole", "has parameters of int32, expected floats"),
        ("counts", "has logits of int32, expected floats"),
        ("", "expected file:PATH:NAME"),
    ],
)
def test_what_is_no_network_is_refused(own: str, name: str, message: str) -> None:
    with pytest.raises(InputError) as told:
        train_lib.assemble(config(own + name))
    assert message in str(told.value)


def test_fields_that_it_has_no_use_for_are_refused(own: str, tmp_path: Path) -> None:
    for model, message in (
        ({"norm": "batch"}, "model.norm is 'batch', which a network of your own"),
        ({"dropout_rate": 0.5}, "no argument dropout_rate"),
    ):
        with pytest.raises(InputError, match=message):
            train_lib.assemble(config(own + "Net", **model))
    Path(tmp_path / "exits.py").write_text("raise SystemExit(5)")
    with pytest.raises(InputError, match="cannot be run: SystemExit: 5"):
        train_lib.assemble(config(f"file:{tmp_path / 'exits.py'}:Net"))
    with pytest.raises(InputError, match="is no Python file"):
        train_lib.assemble(config("file:nowhere.py:Net"))


def test_a_file_is_run_again_only_if_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(OWN)
    first = load_own(f"file:{path}:Net", (8, 8), 10)
    assert load_own(f"file:{path}:Net", (8, 8), 10) is first
    assert load_own(f"file:{path}:Net", (8, 8), 3) is not first
    path.write_text(OWN.replace("nn.Dense(16)", "nn.Dense(17)"))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))
    assert load_own(f"file:{path}:Net", (8, 8), 10) is not first
