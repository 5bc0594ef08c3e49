"""Half precision: what is computed in bfloat16, what stays float32, and how near the two are."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from regjax import config as config_lib
from regjax import models, program, show, state, step, strengths
from regjax import train as train_lib
from regjax.batch import Arrays
from regjax.config import Config, DataConfig, ModelConfig
from regjax.errors import InputError
from regjax.network import Network

from .conftest import slow_but
from .test_own import OWN

SHAPE = (16, 16, 1)
BASE = {
    "batch_size": 8,
    "model.widths": (8,),
    "model.depth": 4,
    "model.channels": (8,),
    "model.token_width": 8,
    "model.patch_size": 8,
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.1,
}
CASES: dict[str, dict[str, Any]] = {
    "mlp": {"model.norm": "batch", "penalty.name": "jacobian", "penalty.strength": 1e-3},
    "cnn": {"model.norm": "batch", "model.kernels": "spectral_norm"},
    "resnet": {"model.depth": 4, "model.norm": "batch", "penalty.name": "l1"},
    "rnn": {"model.norm": "layer", "model.kernels": "weight_norm"},
    "vit": {"model.depth": 1, "model.norm": "rms", "model.kernels": "standardized"},
}


def configured(**setting: Any) -> Config:
    return config_lib.check(config_lib.with_setting(Config(), BASE | setting))


def data() -> Arrays:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, *SHAPE)), rng.integers(0, 3, 16)
    return Arrays(jnp.asarray(x, jnp.float32), jnp.asarray(y), jnp.zeros(()), jnp.ones(()))


def stepped(config: Config) -> Any:
    """State before and after a step, its metrics, and what `evaluate` gives then."""
    network = Network(config.model, models.build(config.model, SHAPE, 3), 3)
    arrays, numbers = data(), strengths.from_config(config, 16)

    def both(key: jax.Array) -> Any:
        run = state.init(config, network, numbers, arrays.images[:1], key)
        batch = arrays.take(jnp.arange(8), jnp.ones(8).at[6:].set(0))
        after, measured = step.make_train_step(config, network)(numbers, run.train, batch, run.key)
        return run.train, after, measured, step.make_evaluate(config, network)(after, arrays)

    return jax.jit(both)(jax.random.key(0))


def floating(tree: Any) -> set[str]:
    dtypes = (leaf.dtype for leaf in jax.tree.leaves(tree))
    return {str(dtype) for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)}


@pytest.mark.parametrize("name", slow_but(CASES, "mlp"))
def test_a_step_of_every_network(name: str) -> None:
    """All that goes out of a step is float32, and near what float32 makes of it."""
    setting = {"model.name": name, "model.dropout": "connect", **CASES[name]}
    before, after, measured, evaluated = stepped(
        configured(**setting, **{"model.precision": "bfloat16"})
    )
    _, wide, wide_measured, wide_evaluated = stepped(configured(**setting))
    assert floating((after, measured, evaluated)) == {"float32"}
    for ours, theirs in (
        (measured["loss"].compute(), wide_measured["loss"].compute()),
        (measured["gradient_norm"], wide_measured["gradient_norm"]),
        (evaluated["loss"], wide_evaluated["loss"]),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0.05)
    assert float(measured["loss"].compute()) != float(wide_measured["loss"].compute())
    moved, wide_moved = (
        ravel_pytree(jax.tree.map(jnp.subtract, then.params, before.params))[0]
        for then in (after, wide)
    )
    assert jnp.linalg.norm(moved - wide_moved) < 0.1 * jnp.linalg.norm(wide_moved)
    for ours, theirs in zip(
        *map(jax.tree.leaves, (after.statistics, wide.statistics)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("name", CASES)
def test_every_layer_computes_in_half_precision(name: str) -> None:
    config = configured(**{"model.name": name, "model.norm": CASES[name].get("model.norm", "none")})
    module = models.build(config.model, SHAPE, 3)
    x = jnp.ones((2, *SHAPE), jnp.bfloat16)

    def outputs(key: jax.Array) -> Any:
        variables = module.init(key, x, train=False)
        half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), variables["params"])
        options: Any = {"train": True, "rngs": {"dropout": key}, "capture_intermediates": True}
        kept = ["intermediates", "batch_stats"]
        return module.apply({**variables, "params": half}, x, mutable=kept, **options)[1]

    seen = jax.eval_shape(outputs, jax.random.key(0))
    assert floating(seen["intermediates"]) == {"bfloat16"}
    assert floating(seen.get("batch_stats", {})) <= {"float32"}


def test_dropped_weights_and_a_traced_rate() -> None:
    setting = {"model.dropout": "connect", "model.dropout_rate": 0.5}
    _, after, measured, _ = stepped(configured(**setting, **{"model.precision": "bfloat16"}))
    _, _, wide, _ = stepped(configured(**setting))
    assert floating((after, measured)) == {"float32"}
    np.testing.assert_allclose(measured["loss"].compute(), wide["loss"].compute(), rtol=0.05)


def test_penalties_look_at_the_parameters_as_they_are() -> None:
    setting = {"penalty.name": "l2", "penalty.strength": 0.1}
    penalties = [
        stepped(configured(**setting, **{"model.precision": kind}))[2]["penalty"]
        for kind in ("float32", "bfloat16")
    ]
    assert penalties[0] == penalties[1]


@pytest.mark.slow
def test_a_network_of_ones_own(tmp_path: Path) -> None:
    """Flax's own batch norm; its running statistics stay float32, and it learns."""
    from rich.console import Console

    (tmp_path / "mine.py").write_text(OWN)
    model = ModelConfig(name=f"file:{tmp_path / 'mine.py'}:Net", precision="bfloat16")
    config = Config(
        epochs=8,
        data=DataConfig(train=256, valid=100, select=100, test=300),
        model=model,
        optimizer=config_lib.OptimizerConfig("adam", 0.01),
    )
    result = train_lib.train(config, tmp_path / "run", Console(quiet=True))
    assert result["test_accuracy"] > 0.8
    assert floating(train_lib.assemble(config).shapes()) == {"float32"}


def test_it_is_structure_and_shown() -> None:
    wide, half = (configured(**{"model.precision": kind}) for kind in ("float32", "bfloat16"))
    texts = [program.structure(c, strengths.from_config(c, 10)) for c in (wide, half)]
    assert texts[0] != texts[1]
    names = list(show.fields(half).columns[0].cells)
    assert {"model.precision", "accumulate"} <= set(names)
    with pytest.raises(InputError, match="did you mean 'bfloat16'"):
        configured(**{"model.precision": "bfloat"})
