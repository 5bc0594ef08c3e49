"""The train step, the epoch around it, and evaluation: pure functions to compile.

A run's data lie on the device. An epoch is a loop over batches drawn by index; the last short batch
is padded and masked, so no example is dropped and none is counted twice.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from regjax import keys, metrics
from regjax.accumulation import make_gradient
from regjax.augmentation import augmented
from regjax.averaging import averaged
from regjax.batch import Arrays, Batch
from regjax.config import Config
from regjax.network import Network
from regjax.objective import example_losses, score, targets_of
from regjax.optimizer import learning_rate, make_optimizer
from regjax.spread import ALONE, Spread
from regjax.state import Progress, RunState, TrainState, begun
from regjax.strengths import Strengths, steps_per_epoch

PyTree = Any
Metrics = dict[str, Any]  # arrays, and sums to be merged

CACHED = 64  # examples


def make_train_step(
    config: Config, network: Network, spread: Spread = ALONE
) -> Callable[[Strengths, TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """Returns `train_step(strengths, state, batch, key) -> (state, metrics)`, pure.

    The metrics are `loss` (without penalty) and `accuracy`, or in regression `r2`, as sums to be
    merged over batches; `penalty` (λ·Ω), `gradient_norm` (of the whole objective, before clipping)
    and `learning_rate`. Of a batch in parts, they and the new state are those of the whole batch.
    """
    of_batch = make_gradient(config, network, spread)

    def train_step(
        strengths: Strengths, state: TrainState, batch: Batch, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        def gradient(params: PyTree) -> tuple[PyTree, Any]:
            arguments = (strengths, state.statistics, batch, spread.key(key))
            grads, parts = of_batch(spread.whole(params), *arguments)
            return spread.total(grads), parts

        grads, parts = gradient(state.params)
        rate = learning_rate(config, strengths, state.step)
        tx = make_optimizer(config, strengths, rate, key)
        updates, opt_state = tx.update(
            grads, state.opt_state, state.params, gradient=lambda params: gradient(params)[0]
        )
        new = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            statistics=spread.average(parts.statistics, batch.mask.sum()),
            opt_state=opt_state,
            averaged=state.averaged,
        )
        return new, {
            **spread.total(parts.sums),
            "penalty": spread.total(parts.penalty),
            "gradient_norm": optax.tree.norm(grads),
            "learning_rate": rate,
        }

    return train_step


def make_draw(
    config: Config, network: Network, spread: Spread = ALONE
) -> Callable[[Strengths, RunState, TrainState, Arrays, Any], tuple[Batch, jax.Array]]:
    """Returns `draw(strengths, run, state, train, rows) -> (batch, key)`: what a step is given.

    The examples of `rows` (indices and mask), augmented, and the key of the step's dropout.
    """
    targets = partial(targets_of, config, outputs=network.classes)

    def draw(
        strengths: Strengths, run: RunState, state: TrainState, train: Arrays, rows: Any
    ) -> tuple[Batch, jax.Array]:
        fill = train.scaled(strengths["augment.fill"])
        changing = spread.key(keys.stream(run.key, keys.AUGMENT, state.step))
        batch = spread.place(train.take(*rows))
        batch = augmented(config.augment, strengths, batch, changing, fill, targets)
        return batch, keys.stream(run.key, keys.DROPOUT, state.step)

    return draw


def in_order(config: Config, run: RunState, train: Arrays, spread: Spread) -> Any:
    """The rows of an epoch's batches: indices and masks, each `(batches, examples)`."""
    if train.part is None:
        shuffle = keys.stream(run.key, keys.SHUFFLE, run.epoch)
        return spread.rows(jax.random.permutation(shuffle, len(train)), config.batch_size)
    return jnp.arange(len(train)), train.part.mask


def _mine(arrays: Arrays, spread: Spread) -> Arrays:
    """Arrays with this part's rows of each batch, where they are of a streamed split."""
    if arrays.part is None:
        return arrays
    part = arrays.part.replace(mask=spread.mine(arrays.part.mask))
    images, labels = spread.mine(arrays.images), spread.mine(arrays.labels)
    return arrays.replace(images=images, labels=labels, part=part)


def make_train_steps(
    config: Config, network: Network, spread: Spread = ALONE
) -> Callable[[Strengths, RunState, Arrays, Any, Any], RunState]:
    """Returns `train_steps(strengths, run, train, start, stop) -> run`: some updates of an epoch.

    `start` and `stop` count the epoch's updates and may be traced. However an epoch is cut into
    calls, each example is met once, in the same order, and the result has the same bits.
    """
    draw = make_draw(config, network, spread)
    train_step = make_train_step(config, network, spread)

    def train_steps(
        strengths: Strengths, run: RunState, train: Arrays, start: Any, stop: Any
    ) -> RunState:
        train = _mine(train, spread)
        batches = in_order(config, run, train, spread)
        first = 0 if train.part is None else train.part.first

        def body(i: jax.Array, now: tuple[TrainState, Any]) -> tuple[TrainState, Any]:
            state, sums = now
            rows = [lax.dynamic_index_in_dim(part, i - first, keepdims=False) for part in batches]
            drawn = draw(strengths, run, state, train, rows)
            state, measured = train_step(strengths, state, *drawn)
            return state, _added(sums, measured)

        state, sums = lax.fori_loop(start, stop, body, (run.train, run.progress.sums))
        progress = Progress(jnp.asarray(stop, jnp.int32), sums)
        return run.replace(train=state, progress=progress)

    return train_steps


def make_settle(
    config: Config, network: Network, spread: Spread = ALONE
) -> Callable[[RunState, Arrays | None], RunState] | None:
    """Returns `settle(run, train) -> run`, the average of the weights as what is evaluated.

    None where none is kept. `train` is the training split; None where it is streamed.
    """
    if config.optimizer.average == "none":
        return None

    def settle(run: RunState, train: Arrays | None) -> RunState:
        state = run.train
        key = keys.stream(run.key, keys.DROPOUT, state.step)
        made = averaged(config, network, state.opt_state, state.statistics, train, key, spread)
        return run.replace(train=state.replace(averaged=made))

    return settle


def _added(sums: dict[str, metrics.Sums], measured: Metrics) -> dict[str, metrics.Sums]:
    """An epoch's sums with a step's metrics, each of its plain numbers counted once a step."""
    added = {}
    for name, total in sums.items():
        value = measured[name]
        one = value if isinstance(value, metrics.Sums) else metrics.Mean.of(value[None])
        added[name] = jax.tree.map(lambda a, b: a + b.astype(a.dtype), total, one)
    return added


def make_predict(
    config: Config, network: Network, spread: Spread = ALONE
) -> Callable[[TrainState, Arrays], jax.Array]:
    """Returns `predict(state, arrays) -> logits`, `(n, K)`, in inference form.

    In the order of `Arrays.all_labels`, with the padding that this has.
    """

    def predict(state: TrainState, arrays: Arrays) -> jax.Array:
        mine = _mine(arrays, spread)

        def logits(rows: tuple[jax.Array, jax.Array]) -> jax.Array:
            images = spread.place(mine.take(*rows).images)
            return network.apply(*state.evaluated(), images)[0]

        if mine.part is not None:
            outputs = lax.map(logits, (jnp.arange(len(mine)), mine.part.mask))
            return spread.gather(outputs).reshape(-1, network.classes)
        examples = len(arrays)
        # As many batches as the size asks for, made even: almost nothing is padded.
        count = steps_per_epoch(examples, at_a_time(config.eval_batch_size))
        size = steps_per_epoch(examples, count)
        outputs = lax.map(logits, spread.rows(jnp.arange(examples), size))
        return spread.gather(outputs)[:, :size].reshape(-1, network.classes)[:examples]

    return predict


def at_a_time(most: int) -> int:
    """How many examples are predicted together: on a CPU what its caches hold of a small CNN.

    >>> at_a_time(50)
    50
    """
    return min(most, CACHED) if jax.default_backend() == "cpu" else most


def make_scores(
    config: Config, network: Network, spread: Spread = ALONE
) -> Callable[[TrainState, Arrays], dict[str, metrics.Sums]]:
    """Returns `scores(state, arrays) -> {"loss", "accuracy"}` (in regression `"r2"`), as sums.

    The loss is the data loss alone: no label smoothing, no penalty.
    """
    predict = make_predict(config, network, spread)

    def scores(state: TrainState, arrays: Arrays) -> dict[str, metrics.Sums]:
        logits, labels, mask = predict(state, arrays), arrays.all_labels(), arrays.counted()
        losses = metrics.Mean.of(example_losses(config, logits, labels), mask)
        return {"loss": losses, **score(config, logits, labels, mask)}

    return scores


def make_evaluate(
    config: Config, network: Network, spread: Spread = ALONE
) -> Callable[[TrainState, Arrays], Metrics]:
    """Returns `evaluate(state, arrays) -> metrics`: what `scores` sums, as numbers."""
    scores = make_scores(config, network, spread)

    def evaluate(state: TrainState, arrays: Arrays) -> Metrics:
        return {name: sums.compute() for name, sums in scores(state, arrays).items()}

    return evaluate


def evaluated(evaluate_every: int, epoch: Any) -> Any:
    """Whether an epoch, counted from 1, is evaluated on `valid`.

    >>> [evaluated(2, epoch) for epoch in (1, 2, 3)]
    [False, True, False]
    """
    return epoch % evaluate_every == 0


def make_end_epoch(
    config: Config,
) -> Callable[[Strengths, RunState, dict[str, metrics.Sums] | None], tuple[RunState, Metrics]]:
    """Returns `end_epoch(strengths, run, valid) -> (run, metrics)`, after the last update.

    The epoch's metrics, then the decision to stop. `valid` are the scores of the validation split,
    as sums; None where there is no such split. `train_loss` and `train_accuracy` or `train_r2` are
    of the examples as they were met, `penalty` and `gradient_norm` means over the steps,
    `learning_rate` that of the last step; `improved` says whether this epoch is the best so far. An
    epoch that `evaluate_every` leaves out has NaN for the scores of `valid`, and is not judged.
    """

    def end_epoch(
        strengths: Strengths, run: RunState, valid: dict[str, metrics.Sums] | None
    ) -> tuple[RunState, Metrics]:
        epoch = run.epoch + 1
        measured: Metrics = {
            name if name in ("penalty", "gradient_norm") else f"train_{name}": sums.compute()
            for name, sums in run.progress.sums.items()
        }
        measured["learning_rate"] = learning_rate(config, strengths, run.train.step - 1)
        due = evaluated(config.evaluate_every, epoch) | (valid is None)
        if valid is not None:
            found = {f"valid_{name}": sums.compute() for name, sums in valid.items()}
            measured |= {name: jnp.where(due, value, jnp.nan) for name, value in found.items()}
        # An accuracy stays a number when the network has diverged; its loss does not.
        loss = measured["valid_loss" if valid is not None else "train_loss"]
        watched = jnp.where(jnp.isfinite(loss), measured[config.stopping.monitor], jnp.nan)
        judged = run.stopping.update(epoch, watched, measured["train_loss"])
        stopping = jax.tree.map(partial(jnp.where, due), judged, run.stopping)
        measured["improved"] = stopping.best_epoch == epoch
        return RunState(epoch, run.key, run.train, stopping, begun(config)), measured

    return end_epoch


def make_run_epoch(
    config: Config, network: Network
) -> Callable[[Strengths, RunState, Arrays, Arrays | None], tuple[RunState, Metrics]]:
    """Returns `run_epoch(strengths, run, train, valid) -> (run, metrics)`, a whole epoch.

    All updates, evaluation, and the end of the epoch, as one function that `vmap` turns into lanes.
    """
    train_steps, settle = make_train_steps(config, network), make_settle(config, network)
    scores, end_epoch = make_scores(config, network), make_end_epoch(config)

    def run_epoch(
        strengths: Strengths, run: RunState, train: Arrays, valid: Arrays | None
    ) -> tuple[RunState, Metrics]:
        steps = steps_per_epoch(len(train), config.batch_size)
        run = train_steps(strengths, run, train, 0, steps)
        run = run if settle is None else settle(run, train)
        return end_epoch(strengths, run, None if valid is None else scores(run.train, valid))

    return run_epoch
