"""Many devices train as one does: under jit over a mesh, with parameters divided, under pmap."""

import dataclasses
import io
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from experiments import collectives
from regjax import evaluate as evaluate_lib
from regjax import models, parallel, program, state, strengths
from regjax import train as train_lib
from regjax.accumulation import make_gradient
from regjax.assembly import Assembled
from regjax.batch import Arrays
from regjax.config import (
    AugmentConfig,
    Config,
    ModelConfig,
    OptimizerConfig,
    ParallelConfig,
    PenaltyConfig,
    StoppingConfig,
)
from regjax.convolution import conv_general_dilated
from regjax.data.splits import Split
from regjax.errors import InputError, Interrupted
from regjax.network import Network
from regjax.normalization import (
    BatchNorm,
    BatchRenorm,
    GhostBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
)
from regjax.parallel import Parallel

from .test_train import asked, assert_same_run, quiet, update_by_update

MODES = {
    "jit": ParallelConfig("jit"),
    "sharded": ParallelConfig("jit", shards=4),
    "pmap": ParallelConfig("pmap"),
}
# Without noise, which no batch changes, and which takes long to compile.
QUIET = OptimizerConfig("sgd", 0.05, momentum=0.9, clip="norm")
CASES: dict[str, dict[str, Any]] = {
    "uneven": {"batch_size": 19},
    "fewer examples than devices": {"batch_size": 5, "optimizer": QUIET},
    "even, jacobian": {
        "batch_size": 16,
        "penalty": PenaltyConfig("jacobian", 0.01),
        "optimizer": QUIET,
    },
    "swa, entropy": {
        "optimizer": OptimizerConfig("sgd", 0.05, average="swa"),
        "penalty": PenaltyConfig("entropy", 0.1),
    },
}


def base(**changes: Any) -> Config:
    """Every part of the step that sums over examples or is done once."""
    whole = Config(
        batch_size=19,
        model=ModelConfig(widths=(16, 8), norm="batch"),
        penalty=PenaltyConfig("elastic", 1e-3),
        optimizer=OptimizerConfig("sgd", 0.05, momentum=0.9, clip="norm", noise=0.01),
        stopping=StoppingConfig("never"),
    )
    return dataclasses.replace(whole, **changes)


def data(shape: tuple[int, ...], examples: int) -> Arrays:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(examples, *shape)), rng.integers(0, 3, examples)
    return Arrays(jnp.asarray(x), jnp.asarray(y), jnp.zeros(()), jnp.ones(()))


class Mixed(nn.Module):
    """A convolution, some norms of it added up, and a head."""

    norms: tuple[Callable[..., nn.Module], ...]

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, mask: Any = None, dropout_rate: Any = None
    ) -> jax.Array:
        x = nn.Conv(4, (3, 3), conv_general_dilated=conv_general_dilated)(x)
        x = nn.relu(sum(norm()(x, train=train, mask=mask) for norm in self.norms))
        return nn.Dense(3)(x.reshape(len(x), -1))


BY_EXAMPLE = (LayerNorm, partial(GroupNorm, groups=2), InstanceNorm, RMSNorm)
BY_JIT_ALONE = (partial(GhostBatchNorm, groups=4), BatchRenorm)


def network(of: ModelConfig | str, axis_name: str | None) -> tuple[Network, tuple[int, ...]]:
    """A config's network, or one with `all` norms or `others`; and the shape of its inputs."""
    if isinstance(of, ModelConfig):
        shape = (16, 16, 1) if of.name == "cnn" else (6,)  # the smallest that the CNN takes
        return Network(of, models.build(of, shape, 3, axis_name), 3), shape
    batch = partial(BatchNorm, axis_name=axis_name)
    norms = {"all": (batch, *BY_EXAMPLE), "others": BY_JIT_ALONE}
    return Network(ModelConfig(norm="none"), Mixed(norms[of]), 3), (6, 6, 1)


STARTS: dict[str, Any] = {}  # functions of the strengths, compiled once for all devices


def trained(config: Config, where: Parallel, epochs: int, case: str = "") -> Any:
    """Parameters, statistics and metrics after some epochs, in float64."""
    with jax.enable_x64(True):
        of, shape = network(case or config.model, where.spread.axis_name)
        arrays = data(shape, 40)
        numbers = jax.tree.map(
            lambda x: x.astype(jnp.float64), strengths.from_config(config, len(arrays))
        )
        inputs, key = arrays.images[:5], jax.random.key(0)

        def start(numbers: Any) -> Any:
            run = state.init(config, of, numbers, inputs, key)
            return jax.tree.map(
                lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, run
            )

        plain = dataclasses.replace(config, batch_size=40, accumulate=1, parallel=ParallelConfig())
        begin = STARTS.setdefault(f"{case} {plain}", jax.jit(start))
        run = begin(numbers)  # each buffer its own, to be donated
        made = program.make_program(config, of, run, where)
        run = jax.jit(lambda x: x, out_shardings=where.where(run))(run)  # also over processes
        arrays = where.put(arrays)
        for _ in range(epochs):
            run, measured = made.run_epoch(numbers, run, arrays, [arrays])
        return jax.device_get((run.train.evaluated(), run.train.params, measured))


@pytest.mark.parametrize(
    ("case", "modes"),
    [
        ("uneven", MODES),
        pytest.param("swa, entropy", ("sharded", "pmap"), marks=pytest.mark.slow),
        pytest.param("fewer examples than devices", ("pmap",), marks=pytest.mark.slow),
        # Under pmap its random directions are each device's own.
        pytest.param("even, jacobian", ("jit",), marks=pytest.mark.slow),
    ],
)
def test_devices_change_nothing(case: str, modes: Iterable[str]) -> None:
    """50 steps and more; the bar is 1e-9."""
    config = base(**CASES[case])
    epochs = -(-50 // strengths.steps_per_epoch(40, config.batch_size))
    alone = trained(config, Parallel(), epochs)
    for mode in modes:
        spread = trained(config, parallel.on_devices(MODES[mode]), epochs)
        jax.tree.map(close, alone, spread)


@pytest.mark.slow
def test_devices_change_no_norm() -> None:
    """After a convolution, in 50 steps: within 1e-9."""
    config = base(batch_size=16, penalty=PenaltyConfig(), optimizer=OptimizerConfig("sgd", 0.05))
    alone = trained(config, Parallel(), 17, case="all")
    for mode in ("jit", "pmap"):
        spread = trained(config, parallel.on_devices(MODES[mode]), 17, case="all")
        jax.tree.map(close, alone, spread)


def close(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def gradients(
    of: ModelConfig | str, where: Parallel, rows: int, counts: Iterable[int]
) -> list[Any]:
    """Those at the start, in float32, of the first so many of some rows: the others are padding."""
    made, shape = network(of, where.spread.axis_name)
    config, examples = base(model=made.config), data(shape, 24)
    numbers, key = strengths.from_config(config, 24), jax.random.key(0)
    params, statistics = jax.jit(made.init)(key, examples.images)
    of_batch = make_gradient(config, made, where.spread)

    def gradient(images: jax.Array, labels: jax.Array, count: jax.Array) -> Any:
        arrays = examples.replace(images=images, labels=labels)
        indices, mask = (part[0] for part in where.spread.rows(jnp.arange(rows), rows))
        batch = where.spread.place(arrays.take(indices, mask * (indices < count)))
        return where.spread.total(of_batch(params, numbers, statistics, batch, key)[0])

    compiled = where.compiled(gradient)
    given = where.put((examples.images[:rows], examples.labels[:rows]))
    return [jax.device_get(compiled(*given, np.int32(count))) for count in counts]


@pytest.mark.parametrize(
    ("of", "modes", "counts"),
    [
        (ModelConfig("cnn", norm="batch"), ("jit", "pmap"), (24, 19)),
        pytest.param("all", ("jit", "pmap"), (24, 19), marks=pytest.mark.slow),
        # Groups of a batch are not moved by padding.
        pytest.param("others", ("jit",), (24,), marks=pytest.mark.slow),
    ],
    ids=["cnn", "all", "others"],
)
def test_devices_give_the_same_gradient(
    of: ModelConfig | str, modes: Iterable[str], counts: Iterable[int]
) -> None:
    """In float32, of batches that 8 devices divide and that they don't."""
    alone = [gradients(of, Parallel(), count, [count])[0] for count in counts]
    for mode in modes:
        spread = gradients(of, parallel.on_devices(MODES[mode]), 24, counts)
        for one, other in zip(alone, spread, strict=True):
            assert_same_gradient(other, one)


def assert_same_gradient(found: Any, expected: Any) -> None:
    """Each leaf within 1e-6 of the whole gradient's norm.

    Not of its own: the gradients of biases before batch norm are rounding alone.
    """
    whole = optax.tree.norm(expected)
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        assert a.dtype == np.float32
        assert np.linalg.norm(a - b) <= 1e-6 * whole


def by_part(parts: Assembled, rows: int) -> Any:
    """Gradient and new statistics of a first batch, as a step has them, at the network's start."""
    spread, key = parts.parallel.spread, jax.random.key(0)
    params, statistics = jax.jit(parts.network.init)(key, jnp.zeros((2, 8, 8, 1)))
    of_batch = make_gradient(parts.general, parts.network, spread)

    def measured(train: Arrays) -> Any:
        batch = spread.place(train.take(*(x[0] for x in spread.rows(jnp.arange(rows), rows))))
        grads, found = of_batch(params, parts.strengths, statistics, batch, key)
        return spread.total(grads), spread.average(found.statistics, batch.mask.sum())

    images, labels = parts.data.splits["train"].first(rows)
    return jax.device_get(parts.parallel.compiled(measured)(parts.placed(images, labels)))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_batch_norm_by_each_devices_part(mode: str) -> None:
    """Not synchronized: the mean by count of what each part has by itself; one has none."""
    config = dataclasses.replace(digits(mode=mode, sync_norm=False), batch_size=20)
    spread = by_part(train_lib.assemble(config), 20)
    parts = train_lib.assemble(dataclasses.replace(config, parallel=ParallelConfig("single")))
    images, labels = parts.data.splits["train"].first(20)

    def alone(first: int) -> Any:
        rows = slice(first, min(first + 3, 20))
        split = Split(images[rows], labels[rows])
        of = parts._replace(data=parts.data._replace(splits={"train": split}))
        return jax.tree.map(lambda x: len(split.labels) / 20 * x, by_part(of, len(split.labels)))

    mean = jax.tree.map(lambda *x: sum(x), *map(alone, range(0, 20, 3)))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), spread, mean)


def test_parameters_are_divided() -> None:
    where = parallel.on_devices(ParallelConfig(shards=8))
    shapes = {"kernel": jax.ShapeDtypeStruct((6, 64), "float32"), "odd": jnp.zeros(3)}
    placed = where.where(shapes)
    assert placed["kernel"].shard_shape((6, 64)) == (6, 8)
    assert placed["odd"].shard_shape((3,)) == (3,)


def test_divided_parameters_are_gathered_once_a_step() -> None:
    """As bytes: batch norm's statistics, which are divided too, are all that comes to them."""
    row = collectives.compiled("cnn", 8, shards=8)
    size = {kind: sum(c.bytes for c in row.found if c.kind == kind) for kind in collectives.KINDS}
    assert 0.9 < size["all-gather"] / (4 * row.parameters) < 1.05
    assert 0.9 < size["all-reduce"] / (4 * row.parameters) < 1.05
    assert size["all-to-all"] == size["collective-permute"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": 9}, "parallel.devices is 9, but there are 8"),
        ({"mode": "single", "devices": 2}, "set the mode to jit or pmap"),
        ({"mode": "pmap", "shards": 2}, "parallel.mode 'pmap' cannot"),
        ({"shards": 3}, "does not divide the 8 devices"),
    ],
)
def test_devices_that_cannot_be_had(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parallel.on_devices(ParallelConfig(**options))


def digits(**options: Any) -> Config:
    return Config(
        epochs=4,
        batch_size=100,
        model=ModelConfig(widths=(16,), norm="batch"),
        augment=AugmentConfig(shift=1.0),
        optimizer=OptimizerConfig("adam", 0.01),
        stopping=StoppingConfig(patience=0),
        parallel=ParallelConfig(**options),
    )


@pytest.mark.parametrize(
    "options",
    [{"norm": "ghost_batch", "norm_groups": 4}, {"norm": "batch_renorm"}],
    ids=lambda o: o["norm"],
)
def test_pmap_refuses_norms_it_has_not(options: dict[str, Any]) -> None:
    config = dataclasses.replace(digits(mode="pmap"), model=ModelConfig(widths=(8,), **options))
    with pytest.raises(InputError, match="set it to jit"):
        train_lib.assemble(config)


@pytest.mark.parametrize("norm", ["ghost_batch", "batch_renorm"])
def test_norms_that_devices_do_not_take_by_themselves(norm: str) -> None:
    model = ModelConfig(widths=(8,), norm=norm, norm_groups=8)
    config = dataclasses.replace(digits(sync_norm=False), model=model, batch_size=64)
    with pytest.raises(InputError, match=rf"sync_norm is off, which model.norm '{norm}' has no"):
        train_lib.assemble(config)


def test_groups_of_a_batch_are_not_moved_by_padding() -> None:
    model = ModelConfig(widths=(8,), norm="ghost_batch", norm_groups=5)
    config = dataclasses.replace(digits(), model=model)
    with pytest.raises(InputError, match="8 devices divide evenly, but it has 100"):
        train_lib.assemble(config)
    assert train_lib.assemble(dataclasses.replace(config, batch_size=120))


def test_a_device_with_one_example_has_no_statistics() -> None:
    config = dataclasses.replace(digits(sync_norm=False), batch_size=8)
    with pytest.raises(InputError, match="leaves one of 8 devices a single example"):
        train_lib.assemble(config)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_interrupted_amid_an_epoch_many_devices_end_the_same(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(digits(), epochs=2, parallel=MODES[mode])
    train_lib.train(settings, tmp_path / "whole", quiet())
    with monkeypatch.context() as patch:
        update_by_update(patch)
        for times in (4, 11):
            with pytest.raises(Interrupted):
                train_lib.train(settings, tmp_path / "run", quiet(), listening=asked(times))
    train_lib.train(settings, tmp_path / "run", quiet())
    assert_same_run(tmp_path / "run", tmp_path / "whole", settings)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["sharded", "pmap"])
def test_a_run_goes_on_on_other_devices(first: str, tmp_path: Path) -> None:
    """Checkpoints of 8 devices restore on 1, on 4, and back."""

    def run(epochs: int, options: ParallelConfig) -> dict[str, Any]:
        config = dataclasses.replace(digits(), epochs=epochs, parallel=options)
        return train_lib.train(config, tmp_path / "run", Console(file=io.StringIO()))

    def goes_on(epochs: int) -> None:
        text = json.loads((tmp_path / "run" / "config.json").read_text())
        (tmp_path / "run" / "config.json").write_text(json.dumps(text | {"epochs": epochs}))
        (tmp_path / "run" / "result.json").unlink()

    run(2, MODES[first])
    goes_on(3)
    run(3, ParallelConfig("single"))
    goes_on(4)
    run(4, ParallelConfig(devices=4))
    goes_on(6)
    result = run(6, MODES[first])
    assert result["test_accuracy"] > 0.6
    measured = evaluate_lib.evaluate(tmp_path / "run")["accuracy"]
    assert measured == pytest.approx(result["test_accuracy"], abs=1e-6)
