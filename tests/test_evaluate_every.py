"""Evaluation only as often as asked: between, a run trains the same and is not judged."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from regjax import feed
from regjax import train as train_lib
from regjax.config import (
    Config,
    ModelConfig,
    OptimizerConfig,
    ParallelConfig,
    StoppingConfig,
    check,
)
from regjax.errors import InputError
from regjax.studies.lanes import Job, OneByOne
from regjax.studies.shared import Shared
from regjax.studies.vectorized import Vectorized
from regjax.workdir import Workdir

from .conftest import slow_but

EVERY = 3


def config(**changes: Any) -> Config:
    """Seven epochs of digits."""
    base = Config(
        epochs=7,
        batch_size=128,
        evaluate_every=EVERY,
        model=ModelConfig(widths=(16,), norm="batch", dropout_rate=0.1),
        optimizer=OptimizerConfig("adam", 0.01, average="ema", average_decay=0.9),
        stopping=StoppingConfig(patience=0),
        parallel=ParallelConfig("single"),
    )
    return dataclasses.replace(base, **changes)


def trained(settings: Config, path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    result = train_lib.train(settings, path, Console(file=io.StringIO()))
    return result, Workdir(path).read_metrics()


@pytest.mark.parametrize("mode", slow_but(["single", "jit", "pmap"], "single"))
def test_what_is_evaluated_is_what_would_have_been(mode: str, tmp_path: Path) -> None:
    settings = config(parallel=ParallelConfig(mode))
    result, lines = trained(settings, tmp_path / "some")
    _, all_lines = trained(dataclasses.replace(settings, evaluate_every=1), tmp_path / "all")
    measured = {}
    for line, other in zip(lines, all_lines, strict=True):
        due = line["epoch"] % EVERY == 0
        not_compared = ("seconds", "improved")
        valid = ("valid_loss", "valid_accuracy")
        wanted = {k: v for k, v in other.items() if due or k not in valid}
        assert set(line) == set(wanted)
        for name in set(line) - set(not_compared):
            assert line[name] == pytest.approx(wanted[name], rel=1e-6), name
        assert due or not line["improved"]
        if due:
            measured[line["epoch"]] = line["valid_accuracy"]
    assert list(measured) == [3, 6]
    assert result["best_epoch"] == max(measured, key=measured.__getitem__)
    assert result["epochs"] == 7
    assert result["valid_accuracy"] == pytest.approx(max(measured.values()), rel=1e-6)


def test_patience_counts_evaluations(tmp_path: Path) -> None:
    never_better = StoppingConfig(patience=2, min_delta=1e9)
    result, _ = trained(config(epochs=20, evaluate_every=2, stopping=never_better), tmp_path / "r")
    assert (result["best_epoch"], result["epochs"]) == (2, 6)
    assert result["stopped_because"] == "patience"


def test_without_a_validation_split_every_epoch_is_judged(tmp_path: Path) -> None:
    settings = config(stopping=StoppingConfig("never", monitor="train_loss", mode="min"))
    settings.data.valid = 0
    result, lines = trained(settings, tmp_path / "run")
    losses = [line["train_loss"] for line in lines]
    assert result["best_epoch"] == 1 + int(np.argmin(losses)) == 7


@pytest.mark.parametrize("lane", slow_but(["process", "vmap"], "process"))
def test_lanes(lane: str) -> None:
    lanes = OneByOne(Shared()) if lane == "process" else Vectorized(Shared(), 8)
    lines: list[dict[str, Any]] = []
    lanes.start(Job(check(config()), ("valid",), lambda line: not lines.append(line)))
    while not (ended := lanes.epoch()):
        pass
    [(_, record)] = ended
    curve = record["curves"]["valid_accuracy"]
    assert [epoch for epoch, value in enumerate(curve, start=1) if value is not None] == [3, 6]
    assert [line["epoch"] for line in lines if "valid_accuracy" in line] == [3, 6]
    assert record["best_epoch"] == (3 if curve[2] >= curve[5] else 6)
    assert record["valid_accuracy"] == pytest.approx(curve[record["best_epoch"] - 1], rel=1e-6)


def test_a_divergence_between_evaluations_is_found(tmp_path: Path) -> None:
    settings = config(optimizer=OptimizerConfig("sgd", 1e30), model=ModelConfig(widths=(4,)))
    with pytest.raises(InputError, match=r"diverged in epoch 1, step 2: .*no epoch of 3 had"):
        trained(settings, tmp_path / "run")


def test_evaluations_that_no_epoch_reaches_are_refused() -> None:
    with pytest.raises(InputError, match=r"evaluate_every is 8, which none of the 7 epochs"):
        check(config(evaluate_every=8))


def test_an_epoch_without_evaluation_does_not_compute_it() -> None:
    parts = train_lib.assemble(config())
    functions, fed, epochs = parts.program(), feed.resident(parts), []
    run = functions.init(*parts.start())

    class Watched:
        eval_shape = functions.scores.eval_shape

        def __call__(self, state: Any, arrays: Any) -> Any:
            epochs.append(int(state.step) // functions.steps(fed.whole))
            return functions.scores(state, arrays)

    watched = functions._replace(scores=Watched())
    for _ in range(7):
        run, _ = watched.run_epoch(parts.strengths, run, fed.whole, fed.held_out)
    assert epochs == [EVERY, 2 * EVERY]
