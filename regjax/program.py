"""A config's functions as compiled programs: one for all runs that differ in numbers only."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import numpy as np

from regjax import compiling, step
from regjax import config as config_lib
from regjax import state as state_lib
from regjax.batch import Arrays
from regjax.config import Config
from regjax.metrics import Sums
from regjax.network import Network
from regjax.optimizer import decays
from regjax.parallel import ALONE, Parallel
from regjax.state import RunState, TrainState
from regjax.step import Metrics
from regjax.strengths import Strengths, steps_per_epoch


class Program(NamedTuple):
    """What a run calls, each compiled at its first call.

    Attributes:
      init: `init(strengths, inputs, key) -> run`, see `state.init`.
      train_steps: `train_steps(strengths, run, train, start, stop) -> run`; donates the run.
      settle: `settle(run, train) -> run`, see `step.make_settle`, or None; donates the run.
      scores: `scores(state, arrays) -> sums`, see `step.make_scores`.
      end_epoch: `end_epoch(strengths, run, valid) -> (run, metrics)`; donates the run.
      batch_size: in examples.
      evaluate_every: in epochs.
    """

    init: Callable[[Strengths, jax.Array, jax.Array], RunState]
    train_steps: Any
    settle: Any
    scores: Any
    end_epoch: Any
    batch_size: int
    evaluate_every: int

    def steps(self, train: Arrays) -> int:
        """The updates of an epoch."""
        return steps_per_epoch(len(train), self.batch_size)

    def total(self, state: TrainState, arrays: Iterable[Arrays]) -> dict[str, Sums] | None:
        """The sums of several arrays' `scores`; None where there are none."""

        def add(one: dict[str, Sums], other: dict[str, Sums]) -> dict[str, Sums]:
            return {name: one[name] + other[name] for name in one}

        state = state_lib.weights(state)  # of the best epoch there are no more: one program
        sums = [self.scores(state, each) for each in arrays]
        return reduce(add, sums) if sums else None

    def finish(
        self, strengths: Strengths, run: RunState, train: Arrays | None, valid: Iterable[Arrays]
    ) -> tuple[RunState, Metrics]:
        """An epoch after its last update; donates the run.

        Args:
          strengths: the run's numbers.
          run: where it is.
          train: the training split; None: it is streamed.
          valid: the validation split, in pieces.
        """
        if self.settle is not None:
            run = self.settle(run, train)
        every = self.evaluate_every  # asking for the epoch waits for its updates
        if every == 1 or step.evaluated(every, int(run.epoch) + 1):
            return self.end_epoch(strengths, run, self.total(run.train, valid))
        state = state_lib.weights(run.train)
        shapes = [self.scores.eval_shape(state, each) for each in itertools.islice(valid, 1)]
        nothing = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        return self.end_epoch(strengths, run, nothing[0] if nothing else None)

    def run_epoch(
        self, strengths: Strengths, run: RunState, train: Arrays, valid: Iterable[Arrays]
    ) -> tuple[RunState, Metrics]:
        """What is left of an epoch; donates the run."""
        bounds = np.int32(run.progress.position), np.int32(self.steps(train))
        run = self.train_steps(strengths, run, train, *bounds)
        return self.finish(strengths, run, train, valid)

    def compiled(
        self, strengths: Strengths, run: RunState, train: Arrays, valid: Sequence[Arrays]
    ) -> "Program":
        """The same program with an epoch's functions compiled now, for these arguments alone."""
        made = {
            "train_steps": self.train_steps.lower(strengths, run, train, np.int32(0), np.int32(1))
        }
        if self.settle is not None:
            made["settle"] = self.settle.lower(run, train)
        sums = self.total(run.train, valid[:1])  # by being called: others call it too
        made["end_epoch"] = self.end_epoch.lower(strengths, run, sums)
        return self._replace(**{name: lowered.compile() for name, lowered in made.items()})


def make_program(
    config: Config, network: Network, shapes: RunState, parallel: Parallel = ALONE
) -> Program:
    """Returns the functions of a config, to be compiled when they are first called.

    Args:
      config: the run.
      network: its network.
      shapes: a run's structure.
      parallel: its devices.
    """
    spread, where = parallel.spread, parallel.where(shapes)
    settle = step.make_settle(config, network, spread)
    return Program(
        parallel.jit(
            partial(state_lib.init, config, network),
            out=where,
            options=compiling.options_for_one_run(),
        ),
        parallel.compiled(step.make_train_steps(config, network, spread), out=where, donate=(1,)),
        settle and parallel.compiled(settle, out=where, donate=(0,)),
        parallel.compiled(step.make_scores(config, network, spread), out=parallel.everywhere()),
        parallel.compiled(
            step.make_end_epoch(config), out=(where, parallel.everywhere()), donate=(1,)
        ),
        config.batch_size,
        config.evaluate_every,
    )


def generalized(config: Config) -> Config:
    """Returns the config of the program that runs a config: a more general one, shared with others.

    No penalty, L1 and L2 are elastic nets of some λ and l1_ratio, so arms that differ in these need
    one program, compiled once. What it computes is the same.

    >>> l1 = Config(penalty=config_lib.PenaltyConfig("l1", 0.1))
    >>> penalty = generalized(l1).penalty
    >>> penalty.name, penalty.strength, penalty.l1_ratio
    ('elastic', 0.1, 1.0)
    """
    ratios = {"none": 0.0, "l1": 1.0, "l2": 0.0, "elastic": config.penalty.l1_ratio}
    if config.penalty.name not in ratios or config.penalty.mode != "loss":
        return config
    ratio = ratios[config.penalty.name]
    penalty = dataclasses.replace(config.penalty, name="elastic", l1_ratio=ratio)
    return dataclasses.replace(config, penalty=penalty)


def structure(config: Config, strengths: Strengths) -> str:
    """Returns a text that two configs share exactly if one program can run both.

    What is left out: the seed, the data (a program is compiled anew for other shapes) but for the
    task, and the values of the strengths, though not which there are, nor whether weights decay.

    >>> from regjax.strengths import from_config
    >>> texts = [structure(c, from_config(c, 10)) for c in (Config(seed=1), Config(seed=2))]
    >>> texts[0] == texts[1]
    True
    """
    numbers = {name for name, _, metadata in config_lib.fields() if metadata.get("traced")}
    if config.loss.name == "focal":
        numbers -= {"loss.gamma"}  # evaluation has it without strengths
    static = {
        name: value
        for name, value in config_lib.flatten(config)
        if name not in numbers and name != "seed" and not name.startswith(("data.", "study."))
    }
    texts = [static, config.data.task, sorted(strengths), decays(config.optimizer)]
    return json.dumps(texts, sort_keys=True)
