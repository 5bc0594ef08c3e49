"""Early stopping: the patience-th miss, ties, NaN, and a plain reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regjax.stopping import EarlyStopping

NAN = float("nan")


def follow(stopping: EarlyStopping, metrics: list[float]) -> tuple[int, int]:
    """(epoch at which it stops or the last, best epoch)."""
    epoch = 0
    for epoch, metric in enumerate(metrics, start=1):
        stopping = stopping.update(epoch, metric)
        if stopping.stopped:
            break
    return epoch, int(stopping.best_epoch)


@pytest.mark.parametrize(
    ("metrics", "arguments", "stops", "best"),
    [
        ([0.5, 0.6, 0.6, 0.6, 0.7], {"patience": 2}, 4, 2),  # a tie is a miss, the earlier stays
        ([0.5, 0.6, 0.6, 0.7, 0.1, 0.1], {"patience": 2}, 6, 4),
        ([0.5, 0.4, 0.3], {"patience": 0}, 3, 1),  # 0 never stops
        ([0.5, 0.54, 0.58, 0.65], {"patience": 2, "min_delta": 0.1}, 3, 1),
        ([0.5, 0.4, 0.4, 0.4, 0.4], {"patience": 2, "start_epoch": 4}, 5, 1),
        ([NAN, 0.5, NAN, 0.4], {"patience": 2}, 4, 2),  # a first NaN is no best
        ([0.5, NAN, 0.9], {"patience": 5, "stop_on_nan": True}, 2, 1),
        ([NAN, NAN], {"patience": 2}, 2, 0),
        ([float("inf"), 0.2], {"patience": 5}, 2, 2),  # infinite is not a measurement
    ],
)
def test_cases(metrics: list[float], arguments: dict, stops: int, best: int) -> None:
    assert follow(EarlyStopping.create(maximize=True, **arguments), metrics) == (stops, best)


@settings(max_examples=30, deadline=None)
@given(
    metrics=st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, NAN]), min_size=1, max_size=12),
    patience=st.integers(0, 4),
    maximize=st.booleans(),
)
def test_agrees_with_a_plain_reference(metrics: list[float], patience: int, maximize: bool) -> None:
    best, best_epoch, misses, epoch = None, 0, 0, 0
    for epoch, metric in enumerate(metrics, start=1):
        better = best is None or (metric > best if maximize else metric < best)
        if metric == metric and better:
            best, best_epoch, misses = metric, epoch, 0
        else:
            misses += 1
        if patience and misses == patience:
            break
    stopping = EarlyStopping.create(patience=patience, maximize=maximize)
    assert follow(stopping, metrics) == (epoch, best_epoch)


def test_min_mirrors_max() -> None:
    metrics = list(np.random.default_rng(0).normal(size=30))
    down = follow(EarlyStopping.create(3, maximize=False), metrics)
    assert down == follow(EarlyStopping.create(3, maximize=True), [-m for m in metrics])


def test_lives_in_scan_and_vmap() -> None:
    """Two patiences through one program, as lanes have them."""
    metrics = jnp.array([0.5, 0.6, 0.5, 0.5, 0.5])

    def final(patience: jax.Array) -> EarlyStopping:
        def body(stopping: EarlyStopping, x: tuple) -> tuple[EarlyStopping, None]:
            return stopping.update(*x), None

        start = EarlyStopping.create(patience, maximize=True)
        return jax.lax.scan(body, start, (jnp.arange(1, 6), metrics))[0]

    lanes = jax.jit(jax.vmap(final))(jnp.array([2, 9]))
    np.testing.assert_array_equal(lanes.stopped, [True, False])
    np.testing.assert_array_equal(lanes.best_epoch, [2, 2])
