"""What comes after early stopping: training that also uses the examples that decided when to stop.

Goodfellow, Bengio & Courville (2016), *Deep Learning*, section 7.8. `restart` is their algorithm
7.2: from the same start, on train + valid, for as long as led to the best epoch, in passes or in
updates. `continue` is their algorithm 7.3: from the best epoch's weights, on train + valid, until
the loss of the validation examples is down to what that of the training examples was there. Both
losses are the data loss as evaluation has it (no dropout, augmentation, smoothing or penalty), for
only then can they be compared: the `train_loss` of an epoch is of the network with its noise.

Inputs and targets stay scaled by the training split, and every count of examples (λ/n) is that of
train + valid. The learning rate and SWA follow their schedules as before, to where the refit ends:
by epochs the k-th pass has the k-th epoch's rate, by steps and in `continue` the k-th update has
that of the k-th update.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from regjax import strengths as strengths_lib
from regjax.config import Config, StoppingConfig
from regjax.data import Data
from regjax.data.splits import Split
from regjax.strengths import STEPS_PER_EPOCH, TARGET, Strengths

NO_TARGET = -math.inf  # a loss that no refit comes down to


class Limit(NamedTuple):
    """How long a refit goes, at most.

    Attributes:
      epochs: up to which.
      updates: up to which, where the last epoch may be a part of one; None: all of each.
    """

    epochs: int
    updates: int | None = None


def limit(config: Config, best_epoch: int, examples: int, more_examples: int) -> Limit:
    """Returns where a refit ends.

    Args:
      config: the run, with its `stopping.refit`.
      best_epoch: what early stopping found.
      examples: of train.
      more_examples: of train + valid.

    >>> by_steps = Config(batch_size=10, stopping=StoppingConfig(refit="restart", refit_by="steps"))
    >>> limit(by_steps, 3, 100, 120)  # 12 updates an epoch, 6 of the third
    Limit(epochs=3, updates=30)
    """
    if config.stopping.refit == "continue":
        return Limit(config.epochs)
    if config.stopping.refit_by == "epochs":
        return Limit(best_epoch)
    before, after = (
        strengths_lib.steps_per_epoch(n, config.batch_size) for n in (examples, more_examples)
    )
    updates = best_epoch * before
    return Limit(math.ceil(updates / after), updates)


def merged(data: Data) -> Data:
    """Returns the data with train + valid as `train`, in the pool's order.

    It is the training split that `data.valid=0` draws by the same seed, scaled as before.
    """
    if data.streamed:  # the two are neighbours in one order
        train = dataclasses.replace(data.splits["train"], start=data.splits["valid"].start)
        return data._replace(splits={**data.splits, "train": train})
    valid, train = data.rows["valid"], data.rows["train"]
    rows = np.concatenate([train.indices, valid.indices])
    order = np.argsort(rows)
    both = [
        np.concatenate(arrays)[order]
        for arrays in zip(data.splits["train"], data.splits["valid"], strict=True)
    ]
    return data._replace(
        splits={**data.splits, "train": Split(*both)},
        rows={**data.rows, "train": train._replace(indices=rows[order])},
    )


def phase(config: Config) -> Config:
    """Returns the config of a refit's epochs, which look at the validation examples' loss.

    >>> phase(Config(stopping=StoppingConfig(patience=2, refit="restart"))).stopping.monitor
    'valid_loss'
    """
    watched = StoppingConfig(
        "never", monitor="valid_loss", mode="min", stop_on_nan=config.stopping.stop_on_nan
    )
    return dataclasses.replace(config, stopping=watched, evaluate_every=1)


def numbers(config: Config, before: Strengths, after: Strengths, target: float) -> Strengths:
    """Returns the strengths of a refit.

    Args:
      config: the run, with its `stopping.refit`.
      before: the first phase's.
      after: the config's for train + valid.
      target: the loss that ends it; −inf: none does.
    """
    by_epochs = config.stopping.refit == "restart" and config.stopping.refit_by == "epochs"
    clock = (after if by_epochs else before)[STEPS_PER_EPOCH]
    return {**after, STEPS_PER_EPOCH: clock, TARGET: jnp.float32(target)}


def ended_by(config: Config, reached: bool) -> str:
    """What ended a refit: the number found (`epochs`, `steps`), the `loss`, the limit (`epochs`).

    >>> ended_by(Config(stopping=StoppingConfig(refit="continue")), reached=True)
    'loss'
    """
    if config.stopping.refit == "continue":
        return "loss" if reached else "epochs"
    return config.stopping.refit_by


def summary(about: dict[str, Any]) -> str:
    """A refit in one line, from what `result.json` says of it.

    >>> before = {"test_accuracy": 0.9, "test_loss": 0.3, "valid_accuracy": None}
    >>> summary({"epochs": 3, "updates": 30, "ended_by": "loss", "before": before})
    'refit: epochs 3  updates 30  ended by loss  (before: test_accuracy 0.9000)'
    """
    scores = [
        f"{name} {value:.4f}"
        for name, value in about["before"].items()
        if value is not None and not name.endswith("loss")
    ]
    return (
        f"refit: epochs {about['epochs']}  updates {about['updates']}  ended by "
        f"{about['ended_by']}  (before: {'  '.join(scores)})"
    )
