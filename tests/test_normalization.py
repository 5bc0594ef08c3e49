"""Norms against PyTorch, and the equalities between them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regjax import normalization as norm

SHAPES = {"1d": (6, 8), "2d": (6, 5, 4, 8), "3d": (6, 3, 5, 4, 8)}


def example(shape: tuple[int, ...], seed: int = 0) -> tuple[jax.Array, jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 2, shape).astype(np.float32)
    scale, bias = rng.normal(size=(2, shape[-1])).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(scale), jnp.asarray(bias)


def channels_first(x: Any) -> Any:
    import torch

    return torch.tensor(np.moveaxis(np.asarray(x), -1, 1))


def channels_last(x: Any) -> np.ndarray:
    return np.moveaxis(x.detach().numpy(), 1, -1)


@pytest.mark.parity
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_batch_norm_layer_is_torchs_in_training_and_inference(shape: tuple[int, ...]) -> None:
    import torch

    kind = {2: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}[len(shape)]
    theirs = kind(shape[-1])
    x, scale, bias = example(shape)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(np.asarray(scale)))
        theirs.bias.copy_(torch.tensor(np.asarray(bias)))
    layer = norm.BatchNorm()
    variables = {**layer.init(jax.random.key(0), x, train=False)}
    variables["params"] = {"scale": scale, "bias": bias}
    for seed in range(3):
        x = example(shape, seed)[0]
        ours, updates = layer.apply(variables, x, train=True, mutable=["batch_stats"])
        variables |= updates
        np.testing.assert_allclose(ours, channels_last(theirs(channels_first(x))), atol=2e-5)
    running = variables["batch_stats"]
    np.testing.assert_allclose(running["mean"], theirs.running_mean.numpy(), rtol=1e-5)
    np.testing.assert_allclose(running["variance"], theirs.running_var.numpy(), rtol=1e-5)
    theirs.eval()
    ours = layer.apply(variables, x, train=False)
    np.testing.assert_allclose(ours, channels_last(theirs(channels_first(x))), atol=2e-5)


@pytest.mark.parity
@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_group_norm_is_torchs(shape: tuple[int, ...], groups: int) -> None:
    import torch

    if len(shape) == 2 and groups == 8:
        # One value a group: ours is exactly the bias, torch's has rounding noise times 1/√ε.
        x, scale, bias = example(shape)
        expected = np.broadcast_to(bias, shape)
        np.testing.assert_array_equal(norm.group_norm(x, groups, scale, bias), expected)
        return

    x, scale, bias = example(shape)
    weights = [torch.tensor(np.asarray(w)) for w in (scale, bias)]
    theirs = torch.nn.functional.group_norm(channels_first(x), groups, *weights)
    ours = norm.group_norm(x, groups, scale, bias)
    np.testing.assert_allclose(ours, channels_last(theirs), atol=2e-5)


@pytest.mark.parity
def test_layer_norm_on_vectors_is_torchs() -> None:
    import torch

    x, scale, bias = example((6, 8))
    weights = [torch.tensor(np.asarray(w)) for w in (scale, bias)]
    theirs = torch.nn.functional.layer_norm(torch.tensor(np.asarray(x)), (8,), *weights)
    np.testing.assert_allclose(norm.layer_norm(x, scale, bias), theirs.numpy(), atol=2e-5)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_layer_norm_is_group_norm_with_one_group(shape: tuple[int, ...]) -> None:
    x, scale, bias = example(shape)
    ours = norm.layer_norm(x, scale, bias)
    np.testing.assert_allclose(ours, norm.group_norm(x, 1, scale, bias), atol=1e-5)


def test_group_norm_needs_a_divisor() -> None:
    with pytest.raises(ValueError, match="groups must divide the 8 channels, got 3"):
        norm.group_norm(example((6, 8))[0], 3)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_padding_rows_do_not_count_even_if_nan(shape: tuple[int, ...]) -> None:
    x, scale, bias = example(shape)
    padded = jnp.concatenate([x, jnp.full((2, *shape[1:]), jnp.nan)])
    mask = jnp.array([1.0] * len(x) + [0.0] * 2)
    whole, expected = norm.batch_norm(x, scale, bias)
    part, stats = norm.batch_norm(padded, scale, bias, mask)
    np.testing.assert_allclose(part[: len(x)], whole, atol=1e-5)
    for ours, theirs in zip(stats, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_gradient_through_padding_is_finite_and_that_of_the_rows() -> None:
    x, scale, bias = example((6, 8))
    mask = jnp.array([1.0] * 6 + [0.0] * 2)

    def loss(x: jax.Array, mask: jax.Array | None) -> jax.Array:
        return jnp.sin(norm.batch_norm(x, scale, bias, mask)[0][:6]).sum()

    expected = jax.grad(loss)(x, None)
    padded = jnp.concatenate([x, jnp.ones((2, 8))])
    np.testing.assert_allclose(jax.grad(loss)(padded, mask)[:6], expected, atol=1e-5)


def test_large_means_cost_no_accuracy() -> None:
    x = 1e4 + np.random.default_rng(0).normal(size=(64, 512)).astype(np.float32)
    variances = np.asarray(norm.layer_norm(jnp.asarray(x))).var(axis=1)
    np.testing.assert_allclose(variances, 1, rtol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_keeps_its_dtype_and_computes_in_float32(dtype: Any) -> None:
    x = example((64, 512))[0].astype(dtype)
    y = norm.layer_norm(x)
    assert y.dtype == dtype
    expected = norm.layer_norm(x.astype(jnp.float32))
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=0.02)
    assert norm.statistics(x, (0,)).mean.dtype == jnp.float32


def test_one_value_per_channel_gives_no_nan() -> None:
    y, stats = norm.batch_norm(jnp.array([[3.0]]))
    assert (float(y[0, 0]), float(norm.unbiased(stats)[0, 0])) == (0.0, 0.0)


def test_batch_norm_under_vmap_is_a_loop() -> None:
    xs = jnp.stack([example((6, 8), seed)[0] for seed in range(3)])
    together = jax.vmap(lambda x: norm.batch_norm(x)[0])(xs)
    for x, y in zip(xs, together, strict=True):
        np.testing.assert_allclose(y, norm.batch_norm(x)[0], atol=1e-6)


def test_instance_contrast_is_removed() -> None:
    x = example((6, 5, 4, 8))[0]
    np.testing.assert_allclose(norm.group_norm(3 * x + 2, 8), norm.group_norm(x, 8), atol=1e-3)
