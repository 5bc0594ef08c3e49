"""Stopping: the cases of patience, Prechelt's definitions, and the contract of all members."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regjax import stopping as criteria
from regjax.stopping import EarlyStopping

NAN, INF = float("nan"), float("inf")
update = jax.jit(lambda stopping, *measured: stopping.update(*measured))


def follow(stopping: Any, metrics: list[float], trains: list[float] | None = None) -> tuple:
    """(epoch at which it stops or the last, best epoch)."""
    epoch = 0
    for epoch, metric in enumerate(metrics, start=1):
        stopping = update(stopping, epoch, metric, trains[epoch - 1] if trains else 1.0)
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
        ([INF, 0.2], {"patience": 5}, 2, 2),  # infinite is not a measurement
    ],
)
def test_cases(metrics: list[float], arguments: dict, stops: int, best: int) -> None:
    assert follow(EarlyStopping.create(maximize=True, **arguments), metrics) == (stops, best)


@settings(max_examples=30)
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
    mirrored = [-m for m in metrics]
    pairs = [
        (EarlyStopping.create(3, maximize=False), EarlyStopping.create(3, maximize=True)),
        (criteria.UP.create(2, 2), criteria.UP.create(2, 2, maximize=True)),
    ]
    for down, up in pairs:
        assert follow(down, metrics) == follow(up, mirrored)


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


# Prechelt's definitions over a whole history, in plain Python. Epochs count from 1.


def gl(errors: list[float], t: int) -> float:
    return 100 * (errors[t - 1] / min(errors[:t]) - 1)


def gl_stops(errors: list[float], t: int, alpha: float) -> bool:
    return gl(errors, t) > alpha


def pq_stops(errors: list[float], trains: list[float], t: int, alpha: float, k: int) -> bool:
    if t % k:
        return False
    strip = trains[t - k : t]
    progress = 1000 * (sum(strip) / (k * min(strip)) - 1)
    loss = gl(errors, t)
    return loss / progress > alpha if progress else loss > 0


def up_stops(errors: list[float], t: int, s: int, k: int) -> bool:
    """UP_s stops after t if UP_{s−1} stops after t − k and the error rose since then."""
    if t % k or t - k < 1 or not errors[t - 1] > errors[t - k - 1]:
        return False
    return s == 1 or up_stops(errors, t - k, s - 1, k)


histories = st.lists(
    st.tuples(st.sampled_from([0.25, 0.5, 0.625, 0.75, 1.0]), st.sampled_from([0.25, 0.5, 1.0])),
    min_size=1,
    max_size=14,
)


@settings(max_examples=60)
@given(
    history=histories,
    alpha=st.sampled_from([0.0, 23.0, 49.0, 120.0]),
    quotient=st.sampled_from([0.0, 0.037, 0.23, 1.7]),
    strips=st.integers(1, 3),
    strip=st.integers(1, 3),
)
def test_prechelts_criteria_are_their_definitions(
    history: list[tuple[float, float]], alpha: float, quotient: float, strips: int, strip: int
) -> None:
    errors, trains = [list(column) for column in zip(*history, strict=True)]
    members = [
        (criteria.GL.create(alpha), lambda t: gl_stops(errors, t, alpha)),
        (
            criteria.PQ.create(quotient, strip),
            lambda t: pq_stops(errors, trains, t, quotient, strip),
        ),
        (criteria.UP.create(strips, strip), lambda t: up_stops(errors, t, strips, strip)),
    ]
    for stopping, stops in members:
        end = next((t for t in range(1, len(errors) + 1) if stops(t)), len(errors))
        best = errors.index(min(errors[:end])) + 1
        assert follow(stopping, errors, trains) == (end, best), type(stopping).__name__


@given(history=histories, every=st.integers(2, 3), strip=st.integers(1, 3))
def test_strips_are_of_the_epochs_that_are_judged(
    history: list[tuple[float, float]], every: int, strip: int
) -> None:
    for stopping in (criteria.PQ.create(0.23, strip), criteria.UP.create(1, strip)):
        sparse = stopping
        for epoch, (error, train) in enumerate(history, start=1):
            stopping = stopping.update(epoch, error, train)
            sparse = sparse.update(epoch * every, error, train)
        assert bool(stopping.stopped) == bool(sparse.stopped)
        assert int(stopping.best_epoch) * every == int(sparse.best_epoch)


def test_pq_lets_pass_while_training_moves() -> None:
    """The same overfitting, under training that falls and that stands still."""
    errors = [1.0, 1.2, 1.2, 1.2]
    pq = criteria.PQ.create(alpha=1.0, strip=2)
    assert follow(pq, errors, [1.0, 0.9, 0.8, 0.7])[0] == 4
    assert follow(pq, errors, [1.0, 1.0, 1.0, 1.0])[0] == 2


def test_errors_and_training_losses_of_0() -> None:
    assert follow(criteria.GL.create(alpha=5.0), [0.0, 0.0, 0.1])[0] == 3
    pq = criteria.PQ.create(alpha=5.0, strip=1)
    assert follow(pq, [0.5, 0.5, 0.6], [0.0, 0.0, 0.0])[0] == 3


def test_pq_asks_for_the_training_loss() -> None:
    with pytest.raises(ValueError, match="PQ needs the training loss"):
        criteria.PQ.create(1.0).update(1, 0.5)


# The contract: name -> (strength and options -> member, strengths that differ in when they stop).
MEMBERS: dict[str, tuple[Callable[..., Any], list[float]]] = {
    "EarlyStopping": (lambda s, **o: EarlyStopping.create(s, maximize=False, **o), [1, 6]),
    "GL": (criteria.GL.create, [10.0, 90.0]),
    "PQ": (lambda s, **o: criteria.PQ.create(s, 2, **o), [0.05, 5.0]),
    "UP": (lambda s, **o: criteria.UP.create(s, 2, **o), [1, 3]),
    "Never": (lambda s, **o: criteria.Never.create(maximize=False, **o), [0, 0]),
}
ERRORS = [1.0, 0.5, 0.5, 0.6, 0.7, 0.8, 0.9, 0.4]
TRAINS = [1.0, 0.8, 0.7, 0.6, 0.5, 0.45, 0.4, 0.35]
STEPS = list(zip(range(1, len(ERRORS) + 1), ERRORS, TRAINS, strict=True))
members = pytest.mark.parametrize("name", MEMBERS)


def assert_same(ours: Any, theirs: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@members
def test_contract(name: str) -> None:
    """Pure, of stable structure, jit = eager, vmap over strengths = loop, one program for all."""
    create, strengths = MEMBERS[name]
    traces = []

    @jax.jit
    def compiled(stopping: Any, epoch: int, metric: float, train_loss: float) -> Any:
        traces.append(epoch)
        return stopping.update(epoch, metric, train_loss)

    def spec(x: jax.Array) -> tuple:
        return x.shape, x.dtype, x.weak_type

    ends = []
    for strength in strengths:
        stopping = before = create(strength)
        for step in STEPS:
            new = stopping.update(*step)
            assert jax.tree.map(spec, new) == jax.tree.map(spec, stopping)
            assert_same(compiled(stopping, *step), new)
            stopping = new
        assert_same(before, create(strength))
        ends.append(stopping)
    assert len(traces) == 1
    lanes = jax.vmap(create)(jnp.array(strengths))
    for step in STEPS:
        lanes = jax.vmap(lambda s, step=step: s.update(*step))(lanes)
    assert_same(lanes, jax.tree.map(lambda *leaves: jnp.stack(leaves), *ends))
    stopped = [False, False] if name == "Never" else [True, False]
    np.testing.assert_array_equal(lanes.stopped, stopped)


@members
def test_a_stopped_value_changes_no_more(name: str) -> None:
    create, strengths = MEMBERS[name]
    stopping = create(strengths[0], stop_on_nan=True)
    for step in [(1, 1.0, 1.0), (2, 0.5, 1.0), (3, NAN, 1.0)]:
        stopping = update(stopping, *step)
    assert stopping.stopped
    assert (int(stopping.best_epoch), float(stopping.best)) == (2, 0.5)
    assert_same(update(stopping, 4, 0.1, 0.1), stopping)


@members
def test_nan_is_never_best_and_ties_keep_the_earlier(name: str) -> None:
    create, strengths = MEMBERS[name]
    stopping = create(strengths[1])
    metrics = [NAN, 0.5, 0.5]
    if name in ("GL", "PQ"):  # an infinite error is above every threshold: the tie alone
        metrics = metrics[1:]
    for epoch, metric in enumerate(metrics, start=1):
        stopping = update(stopping, epoch, metric, 1.0)
    assert not stopping.stopped
    assert int(stopping.best_epoch) == len(metrics) - 1


@members
@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_network_that_stays_diverged_stops(name: str, bad: float) -> None:
    """Without `stop_on_nan` too, and whether or not it was ever finite; only Never goes on."""
    create, strengths = MEMBERS[name]
    for metrics in ([bad] * 8, [0.5] + [bad] * 8):
        end, best = follow(create(strengths[1]), metrics, metrics)
        assert best == (metrics[0] == 0.5)
        assert (end < len(metrics)) == (name != "Never")
    assert follow(create(strengths[1], stop_on_nan=True), [0.5, NAN, NAN])[0] == 2
