"""Losses against PyTorch, optax and Keras, the two conventions of smoothing, and hard numbers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regjax import losses

from .contract import one_program
from .parity import compare

dtypes = st.sampled_from(["float32", "float64"])
seeds = st.integers(0, 2**16)
smoothings = st.sampled_from([0.0, 0.1, 1.0])
EXAMPLES, CLASSES = 12, 7


def draw(seed: int, dtype: str, soft: bool, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are hard or probabilities."""
    rng = np.random.default_rng(seed)
    logits = (scale * rng.normal(size=(EXAMPLES, CLASSES))).astype(dtype)
    if soft:
        return logits, rng.dirichlet(np.ones(CLASSES), EXAMPLES).astype(dtype)
    return logits, rng.integers(0, CLASSES, EXAMPLES)


def onehot(labels: np.ndarray, dtype: str) -> np.ndarray:
    return labels if labels.ndim == 2 else np.eye(CLASSES, dtype=dtype)[labels]


def value_and_pull(loss: Callable[[Any], Any], logits: Any) -> tuple[jax.Array, jax.Array]:
    """The losses, and the gradient of their sum."""
    value, pull = jax.vjp(loss, logits)
    return value, pull(jnp.ones_like(value))[0]


def torch_cross_entropy(logits: np.ndarray, labels: np.ndarray, smoothing: float) -> list:
    import torch

    x = torch.tensor(logits, requires_grad=True)
    value = torch.nn.functional.cross_entropy(
        x, torch.tensor(labels), reduction="none", label_smoothing=smoothing
    )
    value.sum().backward()
    assert x.grad is not None
    return [value.detach().numpy(), x.grad.numpy()]


@pytest.mark.parity
@given(dtype=dtypes, seed=seeds, soft=st.booleans(), smoothing=smoothings)
def test_cross_entropy_is_torchs_and_optaxs(
    dtype: str, seed: int, soft: bool, smoothing: float
) -> None:
    logits, labels = draw(seed, dtype, soft, scale=10)
    expected = torch_cross_entropy(logits, labels, smoothing)
    with jax.enable_x64(dtype == "float64"):
        x, y = jnp.asarray(logits), jnp.asarray(labels)
        ours = value_and_pull(lambda x: losses.cross_entropy(x, y, smoothing), x)
        targets = optax.smooth_labels(jnp.asarray(onehot(labels, dtype)), smoothing)
        theirs = value_and_pull(lambda x: optax.softmax_cross_entropy(x, targets), x)
    compare("losses.cross_entropy", "torch.nn.functional.cross_entropy", ours, expected)
    compare("losses.cross_entropy", "optax.softmax_cross_entropy", ours, theirs)


@pytest.mark.parity
@given(dtype=dtypes, seed=seeds, soft=st.booleans(), smoothing=smoothings)
def test_others_spreads_over_the_wrong_classes(
    dtype: str, seed: int, soft: bool, smoothing: float
) -> None:
    """PyTorch given the targets themselves; and `all` with ε·K/(K − 1)."""
    logits, labels = draw(seed, dtype, soft, scale=10)
    y = onehot(labels, dtype)
    targets = y + smoothing * ((1 - y) / (CLASSES - 1) - y)
    with jax.enable_x64(dtype == "float64"):
        x, labels = jnp.asarray(logits), jnp.asarray(labels)
        ours = losses.cross_entropy(x, labels, smoothing, convention="others")
        mapped = losses.cross_entropy(x, labels, smoothing * CLASSES / (CLASSES - 1))
    block, owner = "losses.cross_entropy(convention='others')", "torch given the targets"
    compare(block, owner, ours, torch_cross_entropy(logits, targets, 0.0)[0])
    np.testing.assert_allclose(ours, mapped, rtol=1e-6)


def test_one_smoothing_by_two_names() -> None:
    """[.9, .05, .05] is ε = .1 over the others and .15 over all."""
    logits, label = jnp.array([[0.3, -1.0, 2.0]]), jnp.array([0])
    targets = jnp.array([[0.9, 0.05, 0.05]])
    expected = optax.softmax_cross_entropy(logits, targets)
    np.testing.assert_allclose(
        losses.cross_entropy(logits, label, 0.1, convention="others"), expected, rtol=1e-6
    )
    np.testing.assert_allclose(losses.cross_entropy(logits, label, 0.15), expected, rtol=1e-6)


@pytest.mark.parity
@given(
    dtype=dtypes,
    seed=seeds,
    soft=st.booleans(),
    gamma=st.sampled_from([0.0, 0.5, 2.0]),
    weighted=st.booleans(),
)
def test_focal_is_keras(dtype: str, seed: int, soft: bool, gamma: float, weighted: bool) -> None:
    """On logits whose probabilities Keras does not clip."""
    import keras

    logits, labels = draw(seed, dtype, soft, scale=1)
    alpha = np.linspace(0.2, 1.0, CLASSES).astype(dtype) if weighted else None
    with jax.enable_x64(dtype == "float64"):
        x, y = jnp.asarray(logits), jnp.asarray(labels)
        ours = value_and_pull(lambda x: losses.focal(x, y, gamma, alpha), x)
        with jax.numpy_rank_promotion("allow"):
            theirs = value_and_pull(
                lambda x: keras.losses.categorical_focal_crossentropy(
                    onehot(labels, dtype),
                    x,
                    alpha=1.0 if alpha is None else alpha,
                    gamma=gamma,
                    from_logits=True,
                ),
                x,
            )
    compare("losses.focal", "keras.losses.CategoricalFocalCrossentropy", ours, theirs)


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 3, 2)])
def test_mean_squared_is_torchs(dtype: str, shape: tuple[int, ...]) -> None:
    import torch

    rng = np.random.default_rng(0)
    outputs, targets = (rng.normal(size=shape).astype(dtype) for _ in range(2))
    x = torch.tensor(outputs, requires_grad=True)
    expected = torch.nn.functional.mse_loss(x, torch.tensor(targets))
    expected.backward()
    assert x.grad is not None
    with jax.enable_x64(dtype == "float64"):
        y = jnp.asarray(targets)
        ours = jax.value_and_grad(lambda x: losses.mean_squared(x, y).mean())(jnp.asarray(outputs))
        assert losses.mean_squared(jnp.asarray(outputs), y).shape == (6,)
    theirs = (expected.detach().numpy(), x.grad.numpy())
    compare("losses.mean_squared", "torch.nn.functional.mse_loss", ours, theirs)


# Hard numbers and the contract: each loss of logits as (logits, labels, strength).
FAMILY: dict[str, Callable[..., jax.Array]] = {
    "cross_entropy": losses.cross_entropy,
    "cross_entropy_others": lambda x, y, e: losses.cross_entropy(x, y, e, convention="others"),
    "focal": losses.focal,
    "focal_weighted": lambda x, y, gamma: losses.focal(x, y, gamma, jnp.array([1.0, 0.5, 0.2])),
}
HARD, SOFT = jnp.array([0, 1, 2]), jnp.array([[1.0, 0.0, 0.0], [0.2, 0.8, 0.0], [0.0, 0.0, 1.0]])
LABELS = pytest.mark.parametrize("labels", [HARD, SOFT], ids=["hard", "soft"])
LOGITS = jnp.array([[1.0, -2.0, 0.5], [0.1, 0.2, 0.3], [-1.0, 3.0, 2.0]])
STRENGTHS = jnp.array([0.0, 0.1, 0.6])


@LABELS
@pytest.mark.parametrize("name", FAMILY)
def test_contract(name: str, labels: jax.Array) -> None:
    """One value an example in float32, jit = eager, vmap = loop, one program for all strengths."""
    loss = FAMILY[name]
    for values in one_program(lambda s: loss(LOGITS, labels, s), STRENGTHS, rtol=1e-5):
        assert values.shape == (3,)
    for dtype in (jnp.bfloat16, jnp.float16):
        low = loss(LOGITS.astype(dtype), labels, 0.5)
        assert low.dtype == jnp.float32
        exact = loss(LOGITS.astype(dtype).astype(jnp.float32), labels, 0.5)
        np.testing.assert_allclose(low, exact, rtol=1e-6)


@LABELS
@pytest.mark.parametrize("size", [30.0, 1e4])
@pytest.mark.parametrize("name", FAMILY)
def test_huge_logits_cost_no_finiteness(name: str, size: float, labels: jax.Array) -> None:
    """Probabilities of 0 and 1: sure and right, sure and wrong, and a tie."""
    logits = size * jnp.array([[1.0, -1.0, -1.0], [1.0, -1.0, -1.0], [1.0, -1.0, 1.0]])
    for strength in STRENGTHS:
        value, gradients = jax.value_and_grad(
            lambda x, s: FAMILY[name](x, labels, s).sum(), argnums=(0, 1)
        )(logits, strength)
        assert jnp.isfinite(value)
        assert all(jnp.isfinite(g).all() for g in gradients)


@LABELS
@pytest.mark.parametrize("name", FAMILY)
def test_an_impossible_wrong_class_costs_nothing(name: str, labels: jax.Array) -> None:
    """A logit of −inf, as masks of classes have, is the class left out."""
    logits = LOGITS.at[0, 2].set(-jnp.inf).at[1, 2].set(-jnp.inf)[:2]
    strength = 0.0 if name.startswith("cross") else 0.5
    labels, few = labels[:2], labels[:2, :2] if labels.ndim == 2 else labels[:2]

    def loss(x: jax.Array) -> jax.Array:
        return FAMILY[name](x, labels, strength).sum()

    value, gradient = jax.value_and_grad(loss)(logits)
    if name == "focal_weighted":
        expected = losses.focal(logits[:, :2], few, strength, jnp.array([1.0, 0.5])).sum()
    else:
        expected = FAMILY[name](logits[:, :2], few, strength).sum()
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert jnp.isfinite(gradient).all()


def test_gamma_0_is_cross_entropy_exactly_and_large_gamma_forgets_the_easy() -> None:
    np.testing.assert_array_equal(
        losses.focal(LOGITS, HARD, 0.0), losses.cross_entropy(LOGITS, HARD)
    )
    easy, hard = losses.focal(jnp.array([[4.0, 0.0], [0.0, 4.0]]), jnp.zeros(2, int), 5.0)
    assert easy < 1e-8 * hard


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: losses.cross_entropy(LOGITS, HARD, convention="half"),
            "'all' or 'others'.*'half'",
        ),
        (
            lambda: losses.cross_entropy(LOGITS[:, :1], HARD, 0.1, "others"),
            "needs other classes, got 1",
        ),
        (lambda: losses.cross_entropy(LOGITS, HARD[:2]), r"need labels of shape \(3,\).*\(2,\)"),
        (lambda: losses.focal(LOGITS, SOFT[:, :2]), r"need labels of shape \(3,\).*\(3, 2\)"),
        (lambda: losses.mean_squared(jnp.ones((3, 1)), jnp.ones(3)), r"shape \(3, 1\), got \(3,\)"),
    ],
)
def test_bad_arguments(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
