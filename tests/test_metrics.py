"""Metrics against scikit-learn and plain NumPy, whatever the batches, the padding, the devices."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from regjax import evaluate, metrics

from .parity import compare

seeds = st.integers(0, 2**16)
EXAMPLES, CLASSES = 40, 3
METRICS = {
    "accuracy": metrics.accuracy,
    "negative_log_likelihood": metrics.negative_log_likelihood,
    "brier": metrics.brier,
    "calibration": metrics.calibration,
}


def draw(seed: int, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels that agree somewhat."""
    rng = np.random.default_rng(seed)
    labels = np.arange(EXAMPLES) % CLASSES
    logits = 2 * rng.normal(size=(EXAMPLES, CLASSES)) + np.eye(CLASSES)[labels]
    return logits.astype(dtype), labels


@pytest.mark.parity
@given(dtype=st.sampled_from(["float32", "float64"]), seed=seeds)
def test_means_are_scikit_learns(dtype: str, seed: int) -> None:
    import scipy.special
    import sklearn.metrics

    logits, labels = draw(seed, dtype)
    p = scipy.special.softmax(logits.astype(np.float64), axis=-1)
    theirs = {
        "accuracy": sklearn.metrics.accuracy_score(labels, p.argmax(-1)),
        "negative_log_likelihood": sklearn.metrics.log_loss(labels, p),
        "brier": sklearn.metrics.brier_score_loss(
            labels,
            p,
            scale_by_half=False,  # pyright: ignore
        ),
    }
    owners = {
        "accuracy": "accuracy_score",
        "negative_log_likelihood": "log_loss",
        "brier": "brier_score_loss",
    }
    with jax.enable_x64(dtype == "float64"):
        for name, expected in theirs.items():
            ours = METRICS[name](jnp.asarray(logits), jnp.asarray(labels)).compute()
            # Right or wrong is counted in float32 whatever the logits.
            compare(f"metrics.{name}", f"sklearn.metrics.{owners[name]}", ours, np.array(expected))


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_r2_is_scikit_learns_over_merged_padded_batches(dtype: str) -> None:
    import sklearn.metrics

    rng = np.random.default_rng(0)
    targets = rng.normal(size=40).astype(dtype)
    outputs = targets + 0.3 * rng.normal(size=40).astype(dtype)
    expected = sklearn.metrics.r2_score(targets.astype(np.float64), outputs.astype(np.float64))
    with jax.enable_x64(dtype == "float64"):
        first = metrics.r2(jnp.asarray(outputs[:27]), jnp.asarray(targets[:27]))
        mask, padding = np.arange(20) < 13, np.full(7, np.nan, dtype)
        rest = [jnp.asarray(np.concatenate([a[27:], padding])) for a in (outputs, targets)]
        whole = (first + metrics.r2(*rest, mask=jnp.asarray(mask))).compute()
        compare("metrics.r2", "sklearn.metrics.r2_score", whole, np.array(expected))


@given(n=st.integers(1, 3000), value=st.floats(-10, 10, width=32), jit=st.booleans())
def test_r2_of_targets_that_are_all_the_same(n: int, value: float, jit: bool) -> None:
    """What rounding leaves of their spread is none: not R² of millions, of either sign."""

    def r2(outputs: jax.Array, targets: jax.Array) -> jax.Array:
        return metrics.r2(outputs, targets).compute()

    same, compute = jnp.full(n, value), jax.jit(r2) if jit else r2
    assert compute(same + 1, same) == -np.inf
    assert np.isnan(compute(same, same))


@pytest.mark.parametrize("error", [0, 1])
def test_evaluate_has_the_r2_of_training(error: float) -> None:
    targets = np.full(20, 0.1, np.float32)
    outputs = targets + np.float32(error)
    ours = metrics.r2(jnp.asarray(outputs), jnp.asarray(targets)).compute()
    data: Any = SimpleNamespace(target_scale=np.float32(2))
    found = evaluate._regression(data, outputs[:, None], targets)
    np.testing.assert_equal(found["r2"], float(ours))
    assert found["mean_absolute_error"] == pytest.approx(error / 2)


def by_bins(logits: np.ndarray, labels: np.ndarray, bins: int) -> tuple[float, list[tuple]]:
    """Guo et al.'s equations (2), (3) and (5), bin by bin in plain Python."""
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(-1, keepdims=True)
    error, table = 0.0, []
    for b in range(bins):
        inside = [i for i in range(len(p)) if b / bins < p[i].max() <= (b + 1) / bins]
        if not inside:
            table.append((float("nan"), float("nan"), 0))
            continue
        accuracy = sum(p[i].argmax() == labels[i] for i in inside) / len(inside)
        confidence = sum(p[i].max() for i in inside) / len(inside)
        error += len(inside) / len(p) * abs(accuracy - confidence)
        table.append((confidence, accuracy, len(inside)))
    return error, table


@given(seed=seeds, bins=st.sampled_from([1, 10, 15]))
def test_calibration_error_is_its_definition(seed: int, bins: int) -> None:
    logits, labels = draw(seed)
    sums = metrics.calibration(jnp.asarray(logits), jnp.asarray(labels), bins=bins)
    error, table = by_bins(logits, labels, bins)
    np.testing.assert_allclose(sums.compute(), error, rtol=1e-5)
    diagram = sums.bins()
    ours = zip(diagram.confidence, diagram.accuracy, diagram.count, strict=True)
    np.testing.assert_allclose([list(row) for row in ours], table, rtol=1e-5)
    np.testing.assert_allclose(diagram.lower, np.arange(bins) / bins, rtol=1e-6)


def test_a_confidence_on_an_edge_is_in_the_lower_bin() -> None:
    sums = metrics.calibration(jnp.zeros((1, 2)), jnp.array([0]), bins=2)
    np.testing.assert_array_equal(sums.count, [1, 0])


@pytest.mark.parametrize("bins", [10, 15, 25, 50, 100])
def test_each_edge_as_a_confidence_is_in_the_lower_bin(bins: int) -> None:
    edges = np.float32(np.arange(1, bins) / bins)
    sums = metrics.confidence_bins(jnp.asarray(edges), jnp.zeros(bins - 1), bins=bins)
    np.testing.assert_array_equal(sums.count, [1] * (bins - 1) + [0])


def test_certain_and_right_is_calibrated_certain_and_wrong_is_not() -> None:
    logits = jnp.array([[1e4, -1e4], [1e4, -1e4]])
    for labels, error in (([0, 0], 0.0), ([1, 1], 1.0), ([0, 1], 0.5)):
        assert metrics.calibration(logits, jnp.array(labels)).compute() == error


@pytest.mark.parametrize("name", METRICS)
@given(seed=seeds, cut=st.sampled_from([1, 16, 39]))
def test_merged_padded_batches_are_the_whole_set(name: str, seed: int, cut: int) -> None:
    logits, labels = draw(seed)
    metric = METRICS[name]
    expected = metric(jnp.asarray(logits), jnp.asarray(labels))
    parts = []
    for rows in (slice(0, cut), slice(cut, None)):
        count = len(labels[rows])
        x = np.full((EXAMPLES, CLASSES), np.nan, np.float32)
        y = np.full(EXAMPLES, -1)
        x[:count], y[:count] = logits[rows], labels[rows]
        mask = np.arange(EXAMPLES) < count
        parts.append(metric(jnp.asarray(x), jnp.asarray(y), jnp.asarray(mask, jnp.float32)))
    merged = parts[0] + parts[1]
    assert type(merged) is type(expected)
    np.testing.assert_array_equal(merged.count, expected.count)
    np.testing.assert_allclose(merged.compute(), expected.compute(), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", METRICS)
def test_8_devices_with_uneven_counts_are_the_whole_set(name: str) -> None:
    logits, labels = draw(0)
    counts = np.array([5, 1, 0, 2, 5, 3, 1, 4])
    mask = np.arange(5) < counts[:, None]
    whole = METRICS[name](jnp.asarray(logits[mask.ravel()]), jnp.asarray(labels[mask.ravel()]))

    def together(axis_name: str, *batch: jax.Array) -> Any:
        return jax.lax.psum(METRICS[name](*batch), axis_name)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    over = jax.shard_map(
        partial(together, "data"),
        mesh=mesh,
        in_specs=PartitionSpec("data"),
        out_specs=PartitionSpec(),
    )
    batch = (jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(mask.ravel()))
    lanes = jax.vmap(partial(together, "lanes"), axis_name="lanes", out_axes=None)
    mapped = lanes(*(x.reshape(8, 5, *x.shape[1:]) for x in batch))
    for ours in (over(*batch), mapped):
        np.testing.assert_array_equal(ours.count, whole.count)
        np.testing.assert_allclose(ours.compute(), whole.compute(), rtol=1e-5)


@pytest.mark.parametrize("name", METRICS)
def test_low_precision_logits_are_summed_in_float32(name: str) -> None:
    logits, labels = draw(0)
    low = jnp.asarray(logits, jnp.bfloat16)
    ours = METRICS[name](low, jnp.asarray(labels)).compute()
    assert ours.dtype == jnp.float32
    exact = METRICS[name](low.astype(jnp.float32), jnp.asarray(labels)).compute()
    np.testing.assert_allclose(ours, exact, rtol=1e-6)


def test_a_diverged_network_gets_nothing_right_and_is_not_calibrated() -> None:
    logits, labels = jnp.full((3, 4), jnp.nan), jnp.zeros(3, int)
    assert metrics.accuracy(logits, labels).compute() == 0
    for name in ("negative_log_likelihood", "brier", "calibration"):
        assert jnp.isnan(METRICS[name](logits, labels).compute())
    assert metrics.correct(jnp.array([[jnp.inf, 0.0]]), jnp.array([0])) == 0


def test_an_impossible_class_can_be_got_right() -> None:
    logits, labels = jnp.array([[2.0, -jnp.inf]]), jnp.array([0])
    assert metrics.accuracy(logits, labels).compute() == 1
    assert metrics.negative_log_likelihood(logits, labels).compute() == 0


@given(values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=4))
def test_mean_is_of_what_counts(values: list[float]) -> None:
    x = jnp.array([*values, jnp.nan, jnp.inf])
    mask = jnp.array([1.0] * len(values) + [0.0] * 2)
    mean = metrics.Mean.of(x, mask)
    np.testing.assert_allclose(mean.compute(), np.mean(values), atol=1e-4)
    gradient = jax.grad(lambda x: metrics.Mean.of(x, mask).compute())(x)
    np.testing.assert_allclose(gradient, mask / len(values))


def test_nothing_has_no_mean_and_changes_none() -> None:
    nothing = metrics.Mean.of(jnp.ones(3), jnp.zeros(3))
    assert jnp.isnan(nothing.compute())
    assert (nothing + metrics.Mean.of(jnp.array([4.0]))).compute() == 4


def test_bad_masks() -> None:
    with pytest.raises(ValueError, match=r"mask must have the shape \(3,\).*got \(3, 1\)"):
        metrics.Mean.of(jnp.ones(3), jnp.ones((3, 1)))
