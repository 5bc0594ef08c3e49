"""What a config does to a network: norms of its weights, its start, averages of its weights."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from regjax import assembly, averaging, models, step, transforms, trees
from regjax.batch import Arrays
from regjax.config import (
    Config,
    ConstraintConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    PenaltyConfig,
)
from regjax.errors import InputError
from regjax.network import Network
from regjax.normalization import reparametrization, weight_standardization

from .test_choices import RESNET, made

KEY = jax.random.key(0)
IMAGES = jnp.asarray(np.random.default_rng(0).normal(0.5, 2, (64, 4, 4, 1)), jnp.float32)


def network(**options: Any) -> Network:
    config = ModelConfig(**{"widths": (8, 6), **options})
    return Network(config, models.build(config, (4, 4, 1), 3), 3)


def flat(params: Any) -> dict[str, jax.Array]:
    return {trees.path_name(p): x for p, x in jax.tree_util.tree_leaves_with_path(params)}


@pytest.mark.parametrize("kind", reparametrization.KINDS)
def test_a_network_sees_the_norm_of_its_weights(kind: str) -> None:
    """Only of hidden kernels by default; and it learns what is underneath."""
    net, plain = network(kernels=kind), network()
    params, statistics = jax.jit(net.init)(KEY, IMAGES)
    learned, _ = jax.jit(plain.init)(KEY, IMAGES)
    for name, leaf in flat(learned).items():
        np.testing.assert_array_equal(flat(params)[name], leaf)
    mask = net.config.kernels_mask
    seen, _ = reparametrization.effective(kind, params, statistics, False, mask)
    for name, leaf in flat(seen).items():
        if kind == "plain" or not trees.is_hidden_kernel(name):
            np.testing.assert_array_equal(leaf, flat(learned)[name])
        elif kind == "weight_norm":
            np.testing.assert_allclose(leaf, flat(learned)[name], rtol=1e-6)
        elif kind == "standardized":
            np.testing.assert_allclose(leaf, weight_standardization(flat(learned)[name]))
        else:
            assert np.linalg.norm(leaf, 2) == pytest.approx(1, rel=0.2)  # after fifteen steps
    logits, new = jax.jit(partial(net.apply, train=True))(params, statistics, IMAGES, key=KEY)
    expected = jax.jit(plain.apply)(seen, {}, IMAGES)[0]
    np.testing.assert_allclose(logits, expected, rtol=0.03, atol=0.03)
    assert jax.tree.structure(new) == jax.tree.structure(statistics)

    def total(params: Any) -> jax.Array:
        return jnp.square(net.apply(params, statistics, IMAGES)[0]).sum()

    grads = flat(jax.device_get(jax.jit(jax.grad(total))(params)))
    assert all(np.isfinite(g).all() and (g != 0).any() for g in grads.values())


def test_the_power_iteration_goes_on_in_training_only() -> None:
    net = network(kernels="spectral_norm")
    params, statistics = jax.jit(net.init)(KEY, IMAGES)
    trained = jax.jit(partial(net.apply, train=True))(params, statistics, IMAGES)[1]
    evaluated = jax.jit(net.apply)(params, statistics, IMAGES)[1]
    for a, b in zip(*map(jax.tree.leaves, (statistics, trained)), strict=True):
        assert not np.array_equal(a, b)
    jax.tree.map(np.testing.assert_array_equal, statistics, evaluated)


def test_a_mask_that_matches_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"model\.kernels_mask: mask 'x/\*' matches no kernel of"):
        network(kernels="standardized", kernels_mask="x/*").init(KEY, IMAGES)


@pytest.mark.parametrize("name", ["mlp", "resnet"])
def test_lsuv_starts_with_unit_variances(name: str) -> None:
    options = {"mlp": {}, "resnet": {"depth": 4, "channels": (4,)}}[name]
    net = network(name=name, rescale="lsuv", initializer="orthogonal", **options)
    params, _ = jax.jit(net.init)(KEY, IMAGES)
    capture = partial(net.module.apply, capture_intermediates=True, mutable=["intermediates"])
    _, seen = jax.jit(capture)({"params": params}, IMAGES)
    outputs = {
        k: v for k, v in flat(seen).items() if k.split("/")[1][:4] in ("dens", "head", "stem")
    }
    assert outputs
    for y in outputs.values():
        assert jnp.var(y) == pytest.approx(1, abs=0.03)


def test_fixup_starts_as_its_shortcuts_and_needs_blocks() -> None:
    net = network(name="resnet", depth=6, channels=(4, 4), rescale="fixup")
    params = flat(jax.jit(net.init)(KEY, IMAGES)[0])
    assert not params["block_0_0/conv_1/kernel"].any()
    assert not params["head/kernel"].any()
    assert params["block_0_0/conv_0/kernel"].any()
    with pytest.raises(InputError, match="use a resnet"):
        network(rescale="fixup").init(KEY, IMAGES)
    with pytest.raises(InputError, match="residual blocks"):  # it has blocks, of other layers
        network(name="vit", depth=1, token_width=4, heads=2, rescale="fixup").init(KEY, IMAGES)


def test_dropped_weights_scale_what_is_kept_and_leave_inference_alone() -> None:
    net = network(dropout="connect")
    params, _ = jax.jit(net.init)(KEY, IMAGES)
    apply = jax.jit(net.apply, static_argnames="train")
    plain = apply(params, {}, IMAGES)[0]
    np.testing.assert_array_equal(
        apply(params, {}, IMAGES, train=True, dropout_rate=jnp.float32(0), key=KEY)[0], plain
    )
    np.testing.assert_array_equal(
        apply(params, {}, IMAGES, dropout_rate=jnp.float32(0.5), key=KEY)[0], plain
    )
    nothing = apply(params, {}, IMAGES, train=True, dropout_rate=jnp.float32(1), key=KEY)[0]
    np.testing.assert_allclose(nothing, jnp.broadcast_to(params["head"]["bias"], nothing.shape))


def test_an_average_is_evaluated_with_statistics_of_its_own() -> None:
    """SWA from the start over two epochs of constant gradients, against the means by hand."""
    options = {"optimizer.average": "swa", "model.norm": "batch", "batch_size": 10}
    config, net, numbers, run, data = made(options)
    run_epoch = jax.jit(step.make_run_epoch(config, net))
    visited = []
    for _ in range(2):
        run, measured = run_epoch(numbers, run, data, data)
        visited.append(run.train.params)
    weights = run.train.evaluated()
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *visited)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), weights.params, mean)
    # In one batch of all data, what batch norm measures is what the average's statistics say.
    logits = jax.jit(step.make_predict(config, net))(run.train, data)
    batch = data.take(jnp.arange(20), jnp.ones(20))
    expected = jax.jit(net.apply)(*weights, batch.images)[0]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    whole = Config(model=config.model, batch_size=20)
    of_all = averaging.averaged(
        whole, net, run.train.opt_state, run.train.statistics, data, KEY
    ).statistics
    _, moved = net.apply(weights.params, of_all, batch.images, train=True)
    for a, b in zip(*(jax.tree.leaves(s) for s in (of_all, moved)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)  # a fixed point of its update
    assert jnp.isfinite(measured["valid_loss"])


def own_statistics(net: Network, params: Any, statistics: Any) -> Any:
    """Those of an average over all of `IMAGES`, where other weights left their statistics."""
    moved = jax.tree.map(lambda s: 3 * s + 1, statistics["batch_stats"])
    average = transforms.AverageState(jnp.int32(1), jnp.int32(1), params)
    data = Arrays(IMAGES, jnp.zeros(64, jnp.int32), jnp.float32(0), jnp.float32(1))
    config = Config(model=net.config, batch_size=64)
    kept = {**statistics, "batch_stats": moved}
    return averaging.averaged(config, net, average, kept, data, KEY).statistics["batch_stats"]


def test_an_averages_statistics_are_of_what_inference_shows() -> None:
    """By renormalization as by batch norm, by spectral norm as by the kernels that it gives."""
    plain = network(norm="batch")
    params, statistics = plain.init(KEY, IMAGES)
    expected = own_statistics(plain, params, statistics)
    found = own_statistics(network(norm="batch_renorm"), params, statistics)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    net = network(norm="batch", kernels="spectral_norm")
    params, statistics = net.init(jax.random.key(1), IMAGES)
    params = jax.tree.map(lambda p: p + jax.random.normal(KEY, p.shape), params)  # far from σ = 1
    used, _ = reparametrization.effective(
        "spectral_norm", params, statistics, False, net.config.kernels_mask
    )
    expected = own_statistics(plain, used, statistics)
    found = own_statistics(net, params, statistics)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, expected)


def test_an_averages_statistics_are_exact_however_small_the_momentum() -> None:
    net = network(norm="batch", norm_momentum=1e-4)
    params, statistics = net.init(KEY, IMAGES)
    layer = jax.tree.map(partial(np.asarray, dtype=np.float64), params["dense_0"])
    given = np.asarray(IMAGES, np.float64).reshape(64, -1) @ layer["kernel"] + layer["bias"]
    found = own_statistics(net, params, statistics)["norm_0"]
    np.testing.assert_allclose(found["variance"], given.var(0, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(found["mean"], given.mean(0), rtol=1e-5, atol=1e-6)


def test_without_batch_norm_an_average_has_no_statistics() -> None:
    config, net, _, run, data = made({"optimizer.average": "ema", **RESNET})
    weights = averaging.averaged(config, net, run.train.opt_state, {}, data, KEY)
    assert weights.statistics == {}
    assert jax.tree.structure(weights.params) == jax.tree.structure(run.train.params)
    assert isinstance(data, Arrays)
    assert optax.tree.get(run.train.opt_state, "average") is not None
    assert OptimizerConfig().average == "none"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"initializer": "identity", "widths": (100,), "kernels": "weight_norm"}, "initializer"),
        ({"initializer": "zeros", "kernels": "spectral_norm"}, "initializer"),
        ({"name": "resnet", "depth": 8, "rescale": "fixup", "kernels": "weight_norm"}, "rescale"),
        ({"initializer_scale": 0.0, "kernels": "weight_norm"}, "initializer_scale"),
        (
            {"name": "rnn", "recurrent_initializer": "zeros", "kernels": "spectral_norm"},
            "recurrent_initializer",
        ),
    ],
    ids=str,
)
def test_units_of_zeros_have_no_norm(model: dict[str, Any], said: str) -> None:
    config = Config(data=DataConfig(train=100), model=ModelConfig(**model))
    with pytest.raises(InputError, match=f"model.{said} is .*, which starts units at 0"):
        assembly.assemble(config)
    config.model.kernels = "standardized"
    assert assembly.assemble(config)


@pytest.mark.parametrize(
    ("kernels", "options", "said"),
    [
        ("weight_norm", {"penalty": PenaltyConfig("l1", 0.1, mode="proximal")}, "penalty.mode"),
        ("weight_norm", {"constraint": ConstraintConfig("l1_ball")}, "constraint.name"),
        ("standardized", {"constraint": ConstraintConfig("max_norm")}, "constraint.name"),
        ("spectral_norm", {"constraint": ConstraintConfig("unit")}, "constraint.name"),
    ],
    ids=str,
)
def test_what_acts_on_kernels_that_the_network_does_not_use_is_refused(
    kernels: str, options: dict[str, Any], said: str
) -> None:
    model = ModelConfig(kernels=kernels, kernels_mask="hidden_kernels")
    config = Config(data=DataConfig(train=100), model=model, **options)
    with pytest.raises(InputError, match=rf"{said} is .*; set {said} to .*, or model.k"):
        assembly.assemble(config)
    config.penalty.mask = config.constraint.mask = "head/*"  # which are used as they are
    assert assembly.assemble(config)


def test_what_no_device_can_hold_is_refused() -> None:
    """A compiler would hang over it."""
    config = Config(data=DataConfig(train=100), model=ModelConfig(widths=(10**6, 10**6)))
    with pytest.raises(InputError, match="would take 11,"):
        assembly.assemble(config)
