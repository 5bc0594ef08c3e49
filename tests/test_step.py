"""The train step against PyTorch, and what must hold of an epoch."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regjax import models, state, step, strengths, trees
from regjax.batch import Arrays, batches
from regjax.config import (
    Config,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    PenaltyConfig,
    StoppingConfig,
)
from regjax.errors import InputError
from regjax.network import Network

from .conftest import slow_but


def arrays(shape: tuple[int, ...], examples: int, seed: int = 0, classes: int = 10) -> Arrays:
    rng = np.random.default_rng(seed)
    images = jnp.asarray(rng.integers(0, 256, (examples, *shape)), jnp.uint8)
    labels = jnp.asarray(rng.integers(0, classes, examples), jnp.int32)
    return Arrays(images, labels, jnp.float32(127.5), jnp.float32(1 / 127.5))


def assembled(config: Config, shape: tuple[int, ...], examples: int) -> Any:
    network = Network(config.model, models.build(config.model, shape, 10), 10)
    numbers = strengths.from_config(config, examples)
    key = jax.random.key(config.seed)
    return network, numbers, state.init(config, network, numbers, jnp.zeros((1, *shape)), key)


def small(**changes: Any) -> Config:
    """A config that compiles fast."""
    base = Config(batch_size=8, model=ModelConfig(widths=(16,), norm="batch", dropout_rate=0.2))
    return dataclasses.replace(base, **changes)


@pytest.mark.parametrize(
    ("norm", "count"), [("none", 121_994), ("batch", 122_442), ("layer", 122_442)]
)
def test_the_experiments_network_has_its_parameters(norm: str, count: int) -> None:
    model = models.build(ModelConfig(name="cnn", norm=norm), (28, 28, 1), 10)
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))["params"]
    )
    assert trees.count(shapes) == count


@pytest.mark.parity
@pytest.mark.parametrize("norm", slow_but(["none", "batch", "layer"], "batch"))
def test_training_the_experiment_follows_torch(norm: str) -> None:
    """Two epochs of 3 batches, the last one short, from equal weights in equal order."""
    import torch

    from experiments.benchmarks.torch_networks import TorchCNN

    config = Config(
        batch_size=16,
        model=ModelConfig(name="cnn", norm=norm),
        penalty=PenaltyConfig("elastic", 1e-4, mask="all"),
        loss=LossConfig(label_smoothing=0.1),
        optimizer=OptimizerConfig("sgd", 0.05, momentum=0.9, clip="norm", clip_threshold=1.0),
    )
    data = arrays((28, 28, 1), 40)
    network, numbers, run = assembled(config, (28, 28, 1), 40)
    theirs = TorchCNN(norm)
    theirs.load_flax(run.train.params)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9)
    x = torch.tensor(np.moveaxis((np.asarray(data.images, np.float32) - 127.5) / 127.5, -1, 1))
    y = torch.tensor(np.asarray(data.labels), dtype=torch.int64)
    train_step = jax.jit(step.make_train_step(config, network))
    now = run.train
    for start in (0, 16, 32, 0, 16, 32):
        rows = np.arange(start, start + 16)
        mask = jnp.asarray(rows < 40, jnp.float32)
        now, measured = train_step(numbers, now, data.take(jnp.asarray(rows % 40), mask), run.key)
        rows = rows[rows < 40]
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(theirs(x[rows]), y[rows], label_smoothing=0.1)
        penalty = 1e-4 * sum((p.abs() + p**2).sum() / 2 for p in theirs.parameters())
        (loss + penalty).backward()
        norm_before = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        np.testing.assert_allclose(measured["loss"].compute(), loss.item(), rtol=1e-4)
        np.testing.assert_allclose(measured["penalty"], penalty.item(), rtol=1e-4)
        np.testing.assert_allclose(measured["gradient_norm"], norm_before.item(), rtol=1e-3)
    theirs.eval()
    logits = jax.jit(step.make_predict(config, network))(now, data)
    with torch.no_grad():
        np.testing.assert_allclose(logits, theirs(x).numpy(), atol=2e-3)


def test_an_epoch_shows_every_example_once() -> None:
    """With one parameter per example and SGD, each parameter moves by its own gradient, once."""
    for examples, batch_size in ((40, 16), (7, 7), (5, 100), (9, 1)):
        order = jax.random.permutation(jax.random.key(0), examples)
        indices, mask = batches(order, batch_size)
        assert indices.shape[0] == strengths.steps_per_epoch(examples, batch_size)
        seen = np.sort(np.asarray(indices)[np.asarray(mask) == 1])
        np.testing.assert_array_equal(seen, np.arange(examples))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accumulate": 2, "optimizer": OptimizerConfig("sgd", 0.1, average="swa", noise=0.01)},
    ],
    ids=["plain", "micro-batches"],
)
def test_however_an_epoch_is_cut_it_has_the_same_bits(changes: dict[str, Any]) -> None:
    config, data = small(**changes), arrays((5,), 43)  # 6 updates, the last one short
    network, numbers, start = assembled(config, (5,), 43)
    train_steps = jax.jit(step.make_train_steps(config, network))
    settle = step.make_settle(config, network) or (lambda run, train: run)
    scores = jax.jit(step.make_scores(config, network))
    settle, end_epoch = jax.jit(settle), jax.jit(step.make_end_epoch(config))

    def bits(leaf: jax.Array) -> jax.Array:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    def two_epochs(cuts: tuple[int, ...]) -> Any:
        run = start
        for _ in range(2):
            for bounds in itertools.pairwise((0, *cuts, 6)):
                run = train_steps(numbers, run, data, *bounds)
                assert int(run.progress.position) == bounds[1]
            run = settle(run, data)
            run, measured = end_epoch(numbers, run, scores(run.train, data))
            assert int(run.progress.position) == 0
        return jax.tree.map(bits, (run, measured))

    whole = two_epochs(())
    for cuts in ((1,), (5,), (3, 4), (1, 2, 3, 4, 5)):
        jax.tree.map(np.testing.assert_array_equal, whole, two_epochs(cuts))


def test_train_loss_is_the_exact_mean_with_a_short_last_batch() -> None:
    """At learning rate ~0 the epoch's train loss is the loss of the data."""
    config = small(
        model=ModelConfig(widths=(16,)), optimizer=OptimizerConfig("sgd", learning_rate=1e-30)
    )
    data = arrays((5,), 21)
    network, numbers, run = assembled(config, (5,), 21)
    now, measured = jax.jit(step.make_run_epoch(config, network))(numbers, run, data, data)
    expected = jax.jit(step.make_evaluate(config, network))(now.train, data)
    np.testing.assert_allclose(measured["train_loss"], expected["loss"], rtol=1e-5)
    np.testing.assert_allclose(measured["train_accuracy"], expected["accuracy"], rtol=1e-5)


@pytest.mark.parametrize("eval_batch_size", [1, 7, 20, 21, 1000])
def test_evaluation_does_not_depend_on_its_batch_size(eval_batch_size: int) -> None:
    config, data = small(eval_batch_size=eval_batch_size), arrays((5,), 21)
    network, _, run = assembled(config, (5,), 21)
    logits = step.make_predict(config, network)(run.train, data)
    batch = data.take(jnp.arange(21), jnp.ones(21))
    expected = network.apply(run.train.params, run.train.statistics, batch.images)[0]
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_strengths_change_without_a_new_program() -> None:
    config, data = small(penalty=PenaltyConfig("l1", 0.1)), arrays((5,), 21)
    network, numbers, run = assembled(config, (5,), 21)
    traces = 0

    def counted(*args: Any) -> Any:
        nonlocal traces
        traces += 1
        return step.make_run_epoch(config, network)(*args)

    run_epoch = jax.jit(counted)
    results = []
    for factor in (1.0, 0.5, 0.25):
        changed = jax.tree.map(lambda x, f=factor: x * f, numbers)
        results.append(run_epoch(changed, run, data, data)[1]["valid_loss"].item())
    assert traces == 1
    assert len(set(results)) == 3


def test_a_vector_of_strengths_is_a_loop() -> None:
    config, data = small(penalty=PenaltyConfig("l2", 0.1)), arrays((5,), 21)
    network, numbers, run = assembled(config, (5,), 21)
    run_epoch = step.make_run_epoch(config, network)
    lanes = [jax.tree.map(lambda x, f=f: x * f, numbers) for f in (1.0, 0.5)]
    together = jax.jit(jax.vmap(run_epoch, (0, None, None, None)))(
        jax.tree.map(lambda *x: jnp.stack(x), *lanes), run, data, data
    )[1]
    for i, lane in enumerate(lanes):
        alone = jax.jit(run_epoch)(lane, run, data, data)[1]
        np.testing.assert_allclose(together["train_loss"][i], alone["train_loss"], rtol=1e-4)


def test_jit_changes_nothing() -> None:
    # Not Adam: it blows up the rounding of gradients that are zero, as a bias's before batch norm.
    config, data = small(optimizer=OptimizerConfig("sgd", 0.1)), arrays((5,), 21)
    network, numbers, run = assembled(config, (5,), 21)
    train_step = step.make_train_step(config, network)
    batch = data.take(jnp.arange(8), jnp.ones(8))
    plain, compiled = (
        f(numbers, run.train, batch, run.key) for f in (train_step, jax.jit(train_step))
    )
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(compiled), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_dropout_at_rate_0_is_a_run_without_dropout() -> None:
    """The initial weights and the order of the data do not depend on who else draws numbers."""
    results = []
    for rate in (0.0, None):
        config, data = small(), arrays((5,), 21)
        network, numbers, run = assembled(config, (5,), 21)
        del numbers["model.dropout_rate"]
        if rate is not None:
            numbers["model.dropout_rate"] = jnp.float32(rate)
        run_epoch = jax.jit(step.make_run_epoch(config, network))
        results.append(run_epoch(numbers, run, data, data)[1])
    np.testing.assert_allclose(results[0]["train_loss"], results[1]["train_loss"], rtol=1e-6)


def test_a_diverged_epoch_is_never_best_though_its_accuracy_is_a_number() -> None:
    config = small(
        optimizer=OptimizerConfig("sgd", learning_rate=1e30),
        stopping=StoppingConfig(patience=3, stop_on_nan=True),
        model=ModelConfig(widths=(16,)),
    )
    data = arrays((5,), 21)
    network, numbers, run = assembled(config, (5,), 21)
    run, measured = jax.jit(step.make_run_epoch(config, network))(numbers, run, data, data)
    assert not jnp.isfinite(measured["valid_loss"])
    assert int(run.stopping.best_epoch) == 0
    assert bool(run.stopping.stopped)


def test_the_faithful_softmax_before_loss_changes_loss_and_not_logits() -> None:
    data, plain = arrays((5,), 21), small()
    faithful = small(model=dataclasses.replace(plain.model, softmax_before_loss=True))
    network, _, run = assembled(plain, (5,), 21)
    logits = step.make_predict(plain, network)(run.train, data)
    assert jnp.array_equal(step.make_predict(faithful, network)(run.train, data), logits)
    loss = step.make_evaluate(faithful, network)(run.train, data)["loss"]
    probabilities = np.asarray(jax.nn.softmax(logits))
    assert loss - np.log(np.exp(probabilities).sum(1)).mean() + 1 > 0.9  # log-softmax of a softmax
    assert abs(loss - np.log(10)) < 0.5


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "sigmoid", "gelu", "selu"])
def test_mlp_options(activation: str) -> None:
    config = ModelConfig(widths=(8, 8, 8), activation=activation, residual=True, norm="layer")
    model = models.build(config, (4, 2), 3)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 4, 2)))
    assert model.apply(variables, jnp.ones((5, 4, 2))).shape == (5, 3)


def test_residual_is_identity_plus_branch() -> None:
    """With the second layer's weights at zero and ReLU, a residual net passes the first through."""
    x, nets = jnp.ones((2, 4)), {}
    for residual, widths in ((True, (8, 8)), (False, (8,))):
        nets[residual] = models.build(ModelConfig(widths=widths, residual=residual), (4,), 3)
    variables = nets[True].init(jax.random.key(0), x)
    params = dict(variables["params"])
    params["dense_1"] = jax.tree.map(jnp.zeros_like, params["dense_1"])
    deep = nets[True].apply({"params": params}, x)
    shallow = nets[False].apply({"params": {k: params[k] for k in ("dense_0", "head")}}, x)
    np.testing.assert_allclose(deep, shallow, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 8, 1), (15, 40, 1), (784,)])
def test_cnn_refuses_what_it_cannot_see(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"set model\.name to mlp"):
        models.build(ModelConfig(name="cnn"), shape, 10)
    assert models.build(ModelConfig(name="cnn"), (16, 16, 3), 10)
