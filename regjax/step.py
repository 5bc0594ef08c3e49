"""The train step, the epoch around it, and evaluation: pure functions to compile.

A run's data lie on the device. An epoch is one `lax.scan` over batches drawn by index; the last
short batch is padded and masked, so no example is dropped and none is counted twice.
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
from regjax.state import RunState, TrainState
from regjax.strengths import Strengths, steps_per_epoch

PyTree = Any
Metrics = dict[str, Any]  # arrays, and sums to be merged


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
    shuffle = keys.stream(run.key, keys.SHUFFLE, run.epoch)
    return spread.rows(jax.random.permutation(shuffle, len(train)), config.batch_size)


def make_train_epoch(
    config: Config, network: Network, spread: Spread = ALONE, steps: int | None = None
) -> Callable[[Strengths, RunState, Arrays], tuple[TrainState, Metrics]]:
    """Returns `train_epoch(strengths, run, train) -> (state, metrics)`: every example once.

    With `steps` the epoch ends after so many of its batches.

    `train_loss` and `train_accuracy` or `train_r2` are of the examples as they were met, `penalty`
    and `gradient_norm` means over the steps, `learning_rate` that of the last step.
    """
    draw = make_draw(config, network, spread)
    train_step = make_train_step(config, network, spread)

    def train_epoch(
        strengths: Strengths, run: RunState, train: Arrays
    ) -> tuple[TrainState, Metrics]:
        indices, masks = (rows[:steps] for rows in in_order(config, run, train, spread))

        def body(state: TrainState, rows: Any) -> tuple[TrainState, Metrics]:
            return train_step(strengths, state, *draw(strengths, run, state, train, rows))

        state, of_steps = lax.scan(body, run.train, (indices, masks))
        if config.optimizer.average != "none":
            evaluated = averaged(config, network, state.opt_state, state.statistics, train, spread)
            state = state.replace(averaged=evaluated)
        return state, {
            **{f"train_{name}": merged.compute() for name, merged in _merged(of_steps).items()},
            "penalty": of_steps["penalty"].mean(),
            "gradient_norm": of_steps["gradient_norm"].mean(),
            "learning_rate": of_steps["learning_rate"][-1],
        }

    return train_epoch


def _merged(steps: Metrics) -> dict[str, metrics.Sums]:
    """The sums among the metrics of all steps, merged."""
    sums = {name: value for name, value in steps.items() if isinstance(value, metrics.Sums)}
    return jax.tree.map(lambda of_steps: of_steps.sum(axis=0), sums)


def make_predict(
    config: Config, network: Network, spread: Spread = ALONE
) -> Callable[[TrainState, Arrays], jax.Array]:
    """Returns `predict(state, arrays) -> logits`, `(N, K)`, in inference form."""

    def predict(state: TrainState, arrays: Arrays) -> jax.Array:
        examples = len(arrays)
        # As many batches as the config's size asks for, made even: almost nothing is padded.
        count = steps_per_epoch(examples, config.eval_batch_size)
        size = steps_per_epoch(examples, count)
        indices, masks = spread.rows(jnp.arange(examples), size)

        def logits(rows: tuple[jax.Array, jax.Array]) -> jax.Array:
            images = spread.place(arrays.take(*rows).images)
            return network.apply(*state.evaluated(), images)[0]

        outputs = spread.gather(lax.map(logits, (indices, masks)))[:, :size]
        return outputs.reshape(-1, network.classes)[:examples]

    return predict


def make_evaluate(
    config: Config, network: Network, spread: Spread = ALONE
) -> Callable[[TrainState, Arrays], Metrics]:
    """Returns `evaluate(state, arrays) -> {"loss", "accuracy"}` (in regression `"r2"`) of all.

    The loss is the data loss alone: no label smoothing, no penalty.
    """
    predict = make_predict(config, network, spread)

    def evaluate(state: TrainState, arrays: Arrays) -> Metrics:
        logits, labels = predict(state, arrays), arrays.all_labels()
        scored = score(config, logits, labels).items()
        return {
            "loss": example_losses(config, logits, labels).mean(),
            **{name: merged.compute() for name, merged in scored},
        }

    return evaluate


def make_run_epoch(
    config: Config, network: Network, spread: Spread = ALONE, steps: int | None = None
) -> Callable[[Strengths, RunState, Arrays, Arrays | None], tuple[RunState, Metrics]]:
    """Returns `run_epoch(strengths, run, train, valid) -> (run, metrics)`.

    One epoch of training, then evaluation on `valid` (None: none), then the decision to stop; the
    step of a run that `jit` compiles and that `vmap` turns into lanes. The metrics say in
    `improved` whether this epoch is the best so far. With `steps` the epoch has so many batches.
    """
    train_epoch = make_train_epoch(config, network, spread, steps)
    evaluate = make_evaluate(config, network, spread)

    def run_epoch(
        strengths: Strengths, run: RunState, train: Arrays, valid: Arrays | None
    ) -> tuple[RunState, Metrics]:
        epoch = run.epoch + 1
        state, measured = train_epoch(strengths, run, train)
        if valid is not None:
            measured |= {f"valid_{k}": v for k, v in evaluate(state, valid).items()}
        # An accuracy stays a number when the network has diverged; its loss does not.
        loss = measured["valid_loss" if valid is not None else "train_loss"]
        watched = jnp.where(jnp.isfinite(loss), measured[config.stopping.monitor], jnp.nan)
        stopping = run.stopping.update(epoch, watched, measured["train_loss"])
        measured["improved"] = stopping.best_epoch == epoch
        return RunState(epoch, run.key, state, stopping), measured

    return run_epoch
