"""Many runs trained at once, for a question about them all."""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from regjax import assembly, state, step
from regjax import config as config_lib
from regjax.batch import Arrays
from regjax.config import Config
from regjax.network import Network
from regjax.state import TrainState
from regjax.studies.lanes import Job, Lanes, OneByOne, Record
from regjax.studies.shared import Shared
from regjax.studies.vectorized import Vectorized

WIDTH = 64  # lanes, at most


def over_seeds(
    config: Config, seeds: Sequence[int], settings: Sequence[Mapping[str, Any]] = ({},)
) -> list[Config]:
    """A config with every setting and every seed; all seeds of the first setting come first.

    >>> runs = over_seeds(Config(), range(2), [{"epochs": 1}, {"epochs": 2}])
    >>> [(run.epochs, run.seed) for run in runs]
    [(1, 0), (1, 1), (2, 0), (2, 1)]
    """
    return [
        config_lib.with_setting(config, {**setting, "seed": seed})
        for setting in settings
        for seed in seeds
    ]


def train(
    runs: Sequence[Config],
    splits: Sequence[str] = ("train", "test"),
    last: bool = False,
    weights: bool = False,
) -> list[Record]:
    """Trains runs, those that differ in numbers and seeds only by one program, most as its lanes.

    Each is a run as `regjax train` has it, up to rounding, and stops as its config says.

    Args:
      runs: their configs.
      splits: where the best epoch's weights are measured.
      last: measure the last epoch's in their place.
      weights: whether a record holds these weights too, see `outputs`.

    Returns:
      For each run, in order, `SPLIT_accuracy`, `SPLIT_loss`, `best_epoch`, `epochs`,
      `stopped_because`, and `curves`, lists of an epoch's numbers by name.

    Raises:
      InputError: a config that cannot work.
    """
    shared, records = Shared(), {}
    programs: dict[str, list[int]] = defaultdict(list)
    checked = [config_lib.check(run) for run in runs]
    for i, run in enumerate(checked):
        key = shared.program_key(shared.assemble(run))
        programs[f"{key} {run.data!r} {run.epochs}"].append(i)
    for numbers in programs.values():
        jobs = deque(
            Job(checked[i], tuple(splits), owner=i, last=last, weights=weights) for i in numbers
        )
        lanes, left = _lanes(shared, checked[numbers[0]], len(numbers)), len(numbers)
        while left:
            while jobs and lanes.free():
                lanes.start(jobs.popleft())
            ended = lanes.epoch()
            records |= {job.owner: record for job, record in ended}
            left -= len(ended)
    return [records[i] for i in range(len(runs))]


def _lanes(shared: Shared, run: Config, count: int) -> Lanes:
    """Side by side, but for convolutions on a CPU: there many kernels at once are no faster."""
    if jax.default_backend() == "cpu" and run.model.name in ("cnn", "resnet"):
        return OneByOne(shared)
    return Vectorized(shared, min(WIDTH, count))


def tuned(
    config: Config, seeds: Sequence[int], settings: Sequence[Mapping[str, Any]]
) -> tuple[np.ndarray, np.ndarray]:
    """Test accuracy with tuned settings: for each seed what the others select, see `by_others`.

    Returns:
      That of each seed, `(seeds,)`, and that of every setting, `(settings, seeds)`.
    """
    records = train(over_seeds(config, seeds, settings), ("select", "test"))
    select, test = (
        column(records, f"{split}_accuracy", len(settings)) for split in ("select", "test")
    )
    return by_others(select, test), test


def follow(
    runs: Sequence[Config], look: Callable[[Network, TrainState, Arrays], Any]
) -> tuple[dict[str, np.ndarray], Any]:
    """Trains runs of one program to their last epoch, and looks at each one on its way.

    Args:
      runs: their configs, which differ in numbers and seeds only; nothing stops them.
      look: `look(network, state, train)` of a run and its training split, a tree of arrays.

    Returns:
      Each epoch's metrics by name, `(runs, epochs)`; and what was seen at the start and after every
      epoch, `(runs, epochs + 1, ...)`.
    """
    shared = Shared()
    parts = [shared.assemble(config_lib.check(run)) for run in runs]
    first = parts[0]
    run_epoch = step.make_run_epoch(first.general, first.network)
    numbers, inputs, keys = _stacked([part.start() for part in parts])
    train, valid = (
        _stacked([part.arrays(split) for part in parts]) for split in ("train", "valid")
    )
    begin = jax.jit(jax.vmap(partial(state.init, first.general, first.network)))
    advance = jax.jit(jax.vmap(run_epoch), donate_argnums=1)
    see = jax.jit(jax.vmap(partial(look, first.network)))
    run = begin(numbers, inputs, keys)
    metrics, seen = [], [jax.device_get(see(run.train, train))]
    for _ in range(runs[0].epochs):
        run, measured = advance(numbers, run, train, valid)
        metrics.append(jax.device_get(measured))
        seen.append(jax.device_get(see(run.train, train)))
    return _over_epochs(metrics), _over_epochs(seen)


def _over_epochs(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *trees)


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def outputs(run: Config, record: Record, split: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """Logits `(N, K)` of a record's weights on a split of its run, and the labels `(N,)`."""
    parts = assembly.assemble(run)
    arrays, weights = parts.whole(split), record["weights"].evaluated()
    every = jnp.arange(parts.data.splits[split].examples)
    batch = arrays.take(every, jnp.ones(len(every)))
    logits, _ = parts.network.apply(weights.params, weights.statistics, batch.images)
    return np.asarray(logits), np.asarray(batch.labels)


def column(records: Sequence[Record], name: str, settings: int = 1) -> np.ndarray:
    """A number of each record of `over_seeds`, `(settings, seeds)`; NaN where there is none.

    >>> column([{"a": 1.0}, {"a": 2.0}, {"a": None}, {}], "a", settings=2)
    array([[ 1.,  2.],
           [nan, nan]])
    """
    values = [np.nan if r.get(name) is None else r[name] for r in records]
    return np.array(values, float).reshape(settings, -1)


def by_others(scores: np.ndarray, results: np.ndarray) -> np.ndarray:
    """For each seed the result of the setting with the best mean score over the *other* seeds.

    So a setting is tuned by all the runs and a seed still says nothing of its own result.

    Args:
      scores: `(settings, seeds)`, larger is better; a setting with a NaN is never chosen, unless
        all have one.
      results: `(settings, seeds)`.

    >>> by_others(np.array([[1.0, 2.0, 9.0], [3.0, 3.0, 3.0]]), np.array([[0] * 3, [1] * 3]))
    array([0, 0, 1])
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    chosen = [np.delete(scores, i, 1).mean(1).argmax() for i in range(scores.shape[1])]
    return results[chosen, np.arange(results.shape[1])]
