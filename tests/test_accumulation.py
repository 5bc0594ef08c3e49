"""A batch in micro-batches is the batch: gradients, penalties, metrics, on one device and many."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regjax import keys, models, normalization, parallel, state, step, strengths
from regjax import train as train_lib
from regjax.accumulation import dealt, make_gradient
from regjax.batch import Arrays
from regjax.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ParallelConfig,
    PenaltyConfig,
    check,
)
from regjax.errors import InputError
from regjax.network import Network
from regjax.parallel import Parallel

from .conftest import slow_but
from .test_parallel import MODES, QUIET, base, close, data, trained

PLAIN = ModelConfig(widths=(16, 8), norm="layer")
SINGLE = {"parallel": ParallelConfig("single")}
CASES: dict[str, dict[str, Any]] = {
    "sharded": {"parallel": MODES["sharded"]},
    "pmap": {"parallel": MODES["pmap"], "penalty": PenaltyConfig("entropy", 0.1)},
    "sam": SINGLE
    | {
        "optimizer": OptimizerConfig("sgd", 0.05, sam_rho=0.05),
        "penalty": PenaltyConfig("nuclear", 1e-3),
        "model": dataclasses.replace(PLAIN, kernels="spectral_norm"),
    },
    "proximal": SINGLE | {"penalty": PenaltyConfig("l1", 1e-3, mode="proximal")},
}


@pytest.mark.parametrize("case", slow_but(CASES, "proximal"))
def test_micro_batches_change_nothing(case: str) -> None:
    """6 steps in float64, every third of a short batch: 16, 16 and 8 of 40."""
    whole = base(batch_size=16, model=PLAIN, optimizer=OptimizerConfig("sgd", 0.05, momentum=0.9))
    whole = dataclasses.replace(whole, **CASES[case])
    where = parallel.on_devices(whole.parallel)
    parts = trained(dataclasses.replace(whole, accumulate=4), where, 2)
    alone = trained(whole, Parallel(), 2)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), alone, parts
    )


@pytest.mark.slow
def test_devices_change_nothing_of_micro_batches_with_batch_norm() -> None:
    config = base(batch_size=16, accumulate=2, optimizer=QUIET)
    alone = trained(config, Parallel(), 1)
    jax.tree.map(close, alone, trained(config, parallel.on_devices(MODES["pmap"]), 1))


def stepped(config: Config, rows: int, examples: int) -> Any:
    """One step in float32 on a batch of `rows` of which `examples` count."""
    arrays = data((6,), rows)
    network = Network(config.model, models.build(config.model, (6,), 3), 3)
    numbers = strengths.from_config(config, rows)
    start = jax.jit(partial(state.init, config, network))
    run = start(numbers, arrays.images, jax.random.key(0))
    batch = arrays.take(jnp.arange(rows), (jnp.arange(rows) < examples).astype(jnp.float32))
    train_step = jax.jit(step.make_train_step(config, network))
    return batch, run.train, *train_step(numbers, run.train, batch, run.key)


def test_the_first_step_in_float32() -> None:
    config = base(batch_size=16, model=PLAIN)
    ends = [
        stepped(dataclasses.replace(config, accumulate=count), 16, 13)[2].params for count in (1, 8)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *ends)


def test_running_statistics_are_the_mean_by_count() -> None:
    """By hand: 3 micro-batches of 4, 3 and 3, the first layer's inputs known."""
    config = base(batch_size=12, accumulate=3, model=ModelConfig(widths=(8,), norm="batch"))
    batch, before, after, _ = stepped(config, 12, 10)
    kernel, bias = (before.params["dense_0"][name] for name in ("kernel", "bias"))
    expected = {"mean": jnp.zeros(8), "variance": jnp.zeros(8)}
    for micro in range(3):
        rows = batch.images[:10][micro::3] @ kernel + bias[None]
        stats = normalization.statistics(rows, (0,))
        expected["mean"] += len(rows) / 10 * 0.1 * stats.mean[0]
        fresh = 0.9 + 0.1 * normalization.unbiased(stats)[0]
        expected["variance"] += len(rows) / 10 * fresh
    seen = after.statistics["batch_stats"]["norm_0"]
    for name, value in expected.items():
        np.testing.assert_allclose(seen[name], value, rtol=1e-5, atol=1e-6)


def test_dropout_is_drawn_anew_for_each_micro_batch() -> None:
    model = ModelConfig(widths=(16,), dropout_rate=0.5)
    config = base(batch_size=2, accumulate=2, model=model, penalty=PenaltyConfig())
    arrays = Arrays(jnp.ones((2, 6)), jnp.zeros(2, jnp.int32), jnp.zeros(()), jnp.ones(()))
    network = Network(model, models.build(model, (6,), 3), 3)
    numbers = strengths.from_config(config, 2)
    run = state.init(config, network, numbers, arrays.images, jax.random.key(0))
    batch = arrays.take(jnp.arange(2), jnp.ones(2))
    known = (run.train.params, numbers, {})
    grads, _ = jax.jit(make_gradient(config, network))(*known, batch, run.key)
    one = jax.jit(make_gradient(dataclasses.replace(config, accumulate=1), network))
    halves = [jax.tree.map(lambda x, i=i: x[i], dealt(batch, 2)) for i in (0, 1)]
    micro = [keys.stream(run.key, keys.MICRO, i) for i in (0, 1)]
    each = [one(*known, half, key)[0] for half, key in zip(halves, micro, strict=True)]
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *each)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), mean, grads)
    assert not np.array_equal(each[0]["head"]["kernel"], each[1]["head"]["kernel"])


def test_memory_falls() -> None:
    used = {}
    for count in (1, 8):
        model = ModelConfig(widths=(256, 256))
        config = Config(batch_size=2048, accumulate=count, model=model)
        network = Network(model, models.build(model, (6,), 3), 3)
        arrays, numbers = data((6,), 2048), strengths.from_config(config, 2048)
        run = state.init(config, network, numbers, arrays.images, jax.random.key(0))
        batch = arrays.take(jnp.arange(2048), jnp.ones(2048))
        lowered = jax.jit(step.make_train_step(config, network)).lower(
            numbers, run.train, batch, run.key
        )
        memory = lowered.compile().memory_analysis()
        assert memory is not None
        used[count] = memory.temp_size_in_bytes
    assert used[8] < used[1] / 2, used


def test_examples_are_dealt_in_turn() -> None:
    batch = data((2,), 7).take(jnp.arange(7), jnp.ones(7))
    assert dealt(batch, 3).mask.sum(axis=1).tolist() == [3, 2, 2]
    assert dealt(batch, 3).images.shape == (3, 3, 2)


@pytest.mark.parametrize("accumulate", [3, 64])
def test_micro_batches_that_do_not_divide_the_batch(accumulate: int) -> None:
    with pytest.raises(InputError, match="does not divide batch_size 32"):
        check(Config(accumulate=accumulate))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate": 32}, "of a batch of 32, .* with one example"),
        ({"accumulate": 16}, "of the last of 4, .* with one example"),
        ({"accumulate": 4, "parallel": ParallelConfig("pmap", 2), "batch_size": 4}, "divide the 2"),
        (
            {"accumulate": 2, "batch_size": 24, "parallel": ParallelConfig(sync_norm=False)},
            "8 devices and 8 groups",
        ),
    ],
)
def test_micro_batches_without_statistics(changes: dict[str, Any], message: str) -> None:
    config = Config(
        data=DataConfig(train=100, valid=100, select=100, test=100),
        model=ModelConfig(widths=(8,), norm="batch"),
        parallel=ParallelConfig("single"),
    )
    with pytest.raises(InputError, match=message):
        train_lib.assemble(dataclasses.replace(config, **changes))
