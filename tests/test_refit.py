"""Refit after stopping: equals a plain run on train + valid, ends by its rule, survives kills."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from regjax import config as config_lib
from regjax import evaluate, keys, refit, step
from regjax import train as train_lib
from regjax.checkpoint import Checkpoints
from regjax.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ParallelConfig,
    SearchConfig,
    StoppingConfig,
    StudyConfig,
)
from regjax.errors import InputError, Interrupted
from regjax.studies import plan
from regjax.workdir import Workdir

from .test_train import TIMES, asked, quiet, update_by_update


def config(how: str, **settings: Any) -> Config:
    """A run on real digits whose best epoch is not its last."""
    base = Config(
        epochs=60,
        batch_size=64,
        checkpoint_every=3,
        data=DataConfig(train=300, valid=90),
        model=ModelConfig(widths=(16,), dropout_rate=0.3),
        optimizer=OptimizerConfig("adam", 0.05),
        stopping=StoppingConfig(monitor="valid_loss", mode="min", patience=2, refit=how),
        parallel=ParallelConfig("single"),
    )
    sections = {k: v for k, v in settings.items() if dataclasses.is_dataclass(v)}
    numbers = {k.replace("__", "."): v for k, v in settings.items() if k not in sections}
    return config_lib.with_setting(dataclasses.replace(base, **sections), numbers)


def train(settings: Config, path: Path) -> dict[str, Any]:
    return train_lib.train(settings, path, quiet())


def lines(path: Path, phase: str = "refit") -> list[dict[str, Any]]:
    return [line for line in Workdir(path).read_metrics() if line.get("phase", "") == phase]


def assert_same(a: Any, b: Any, rtol: float = 0) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same run with each refit."""
    paths = {how: tmp_path_factory.mktemp("refit") / how for how in ("none", "restart", "continue")}
    for how, path in paths.items():
        train(config(how), path)
    return paths


def plain(settings: Config, epochs: int) -> Config:
    """What a user without a refit would do: no validation examples, a given number of epochs."""
    count = settings.data.train + settings.data.valid
    changes = {
        "epochs": epochs,
        "data.train": count,
        "data.valid": 0,
        "stopping.name": "never",
        "stopping.monitor": "train_loss",
        "stopping.refit": "none",
        "stopping.refit_by": "epochs",
    }
    return config_lib.with_setting(settings, changes)


@pytest.mark.slow
def test_restart_is_a_plain_run_on_train_and_valid(runs: dict[str, Path], tmp_path: Path) -> None:
    result = json.loads((runs["restart"] / "result.json").read_text())
    best = result["best_epoch"]
    assert best < result["epochs"]
    train(plain(config("restart"), best), tmp_path / "plain")
    with Checkpoints(tmp_path / "plain" / "checkpoints", read_only=True) as checkpoints:
        parts = train_lib.assemble(plain(config("restart"), best))
        run = checkpoints.restore(checkpoints.best(), parts.shapes())
    refitted = evaluate.best(runs["restart"])[1]
    assert_same(refitted.train, run.train)
    same = ("train_loss", "gradient_norm", "learning_rate")
    for ours, theirs in zip(lines(runs["restart"]), lines(tmp_path / "plain", ""), strict=True):
        assert [ours[name] for name in same] == [theirs[name] for name in same]


def by_hand(settings: Config, first: Config, updates: int) -> Any:
    """So many updates on train + valid by a Python loop, the rate that of the first phase."""
    parts, before = train_lib.assemble(settings), train_lib.assemble(first)
    clock = {"data.steps_per_epoch": before.strengths["data.steps_per_epoch"]}
    strengths = parts.strengths | clock
    arrays = parts.arrays("train")
    assert arrays is not None
    run = parts.program().init(strengths, *parts.start()[1:])
    update = jax.jit(step.make_train_step(parts.general, parts.network))
    state, epoch = run.train, 0
    while True:
        order = jax.random.permutation(keys.stream(run.key, keys.SHUFFLE, epoch), len(arrays))
        for rows in zip(*parts.parallel.spread.rows(order, settings.batch_size), strict=True):
            if int(state.step) == updates:
                return state
            key = keys.stream(run.key, keys.DROPOUT, state.step)
            state, _ = update(strengths, state, arrays.take(*rows), key)
        epoch += 1


@pytest.mark.slow
def test_restart_by_steps_does_as_many_updates(tmp_path: Path) -> None:
    """Under a schedule, whose rate at the last update is that of the best epoch's last."""
    settings = config(
        "restart", epochs=4, stopping__refit_by="steps", optimizer__schedule__name="cosine"
    )
    result = train(settings, tmp_path / "run")
    about = result["refit"]
    assert about["updates"] == 5 * result["best_epoch"]  # 300 examples in batches of 64
    assert about["updates"] % 7  # 390 examples: the last epoch is a partial one
    assert about["epochs"] == -(-about["updates"] // 7) == len(lines(tmp_path / "run"))
    rates = [line["learning_rate"] for line in lines(tmp_path / "run", "")]
    assert lines(tmp_path / "run")[-1]["learning_rate"] == rates[result["best_epoch"] - 1]
    state = by_hand(plain(settings, settings.epochs), settings, about["updates"])
    refitted = evaluate.best(tmp_path / "run")[1].train
    assert int(refitted.step) == about["updates"]
    assert_same(refitted.params, state.params, rtol=1e-4)
    assert_same(refitted.statistics, state.statistics, rtol=1e-4)


@pytest.mark.slow
def test_restart_refits_the_average_under_the_same_schedule(tmp_path: Path) -> None:
    """By epochs the schedule goes over `epochs` and is left where the refit ends."""
    settings = config(
        "restart",
        epochs=4,
        model__norm="batch",
        optimizer__average="swa",
        optimizer__average_start=1.0,
        optimizer__schedule__name="cosine",
        stopping__patience=0,
    )
    result = train(settings, tmp_path / "run")
    parts = train_lib.assemble(plain(settings, settings.epochs))
    functions, arrays = parts.program(), (parts.arrays("train"), [])
    run = functions.init(*parts.start())
    for _ in range(result["best_epoch"]):
        run = functions.run_epoch(parts.strengths, run, *arrays)[0]
    refitted = evaluate.best(tmp_path / "run")[1]
    assert_same(refitted.train, run.train, rtol=1e-6)
    assert refitted.train.averaged is not None
    measured = evaluate.evaluate(tmp_path / "run", "test")["loss"]
    np.testing.assert_allclose(measured, result["test_loss"], rtol=1e-5)


@pytest.mark.slow
def test_continue_ends_when_valid_loss_is_what_the_train_loss_was(runs: dict[str, Path]) -> None:
    about = json.loads((runs["continue"] / "result.json").read_text())["refit"]
    target = evaluate.evaluate(runs["none"], "train")["loss"]
    np.testing.assert_allclose(about["target_loss"], target, rtol=1e-5)
    losses = [line["valid_loss"] for line in lines(runs["continue"])]
    assert about["epochs"] == len(losses) > 0
    assert about["ended_by"] == "loss"
    assert losses[-1] <= about["target_loss"] < min(losses[:-1], default=np.inf)
    best = evaluate.best(runs["none"])[1]
    refitted = evaluate.best(runs["continue"])[1]
    assert int(refitted.epoch) == int(best.epoch) + about["epochs"]
    assert int(refitted.train.step) == int(best.train.step) + 7 * about["epochs"]


@pytest.mark.slow
def test_continue_ends_at_the_epochs_limit_or_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: dict[str, Path]
) -> None:
    monkeypatch.setattr(train_lib, "_train_loss", lambda *_: -1.0)
    epochs = len(lines(runs["none"], ""))
    short = config("continue", epochs=epochs)
    result = train(short, tmp_path / "short")
    assert result["refit"]["ended_by"] == "epochs"
    assert lines(tmp_path / "short")[-1]["epoch"] == epochs
    monkeypatch.setattr(train_lib, "_train_loss", lambda *_: 9.0)
    result = train(config("continue"), tmp_path / "none")
    assert (result["refit"]["epochs"], result["refit"]["ended_by"]) == (0, "loss")
    assert not lines(tmp_path / "none")
    assert_same(evaluate.best(tmp_path / "none")[1].train, evaluate.best(runs["none"])[1].train)
    assert {name: result[name] for name in result["refit"]["before"]} == result["refit"]["before"]


@pytest.mark.slow
def test_the_result_is_of_the_refitted_weights(runs: dict[str, Path]) -> None:
    results = {how: json.loads((runs[how] / "result.json").read_text()) for how in runs}
    assert "refit" not in results["none"]
    for how in ("restart", "continue"):
        before = results[how]["refit"]["before"]
        assert before == {name: results["none"][name] for name in before}
        assert results[how]["best_epoch"] == results["none"]["best_epoch"]
        for split in ("test", "select", "valid"):
            measured = evaluate.evaluate(runs[how], split)
            assert measured["refit"]
            np.testing.assert_allclose(measured["loss"], results[how][f"{split}_loss"], rtol=1e-5)
            assert abs(measured["loss"] - before[f"{split}_loss"]) > 1e-4
    assert not evaluate.evaluate(runs["none"])["refit"]


@pytest.mark.slow
def test_until_the_refit_has_ended_the_best_weights_are_evaluated(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    import shutil

    path = shutil.copytree(runs["restart"], tmp_path / "run")
    (path / "result.json").unlink()
    measured = evaluate.evaluate(path)
    assert (measured["refit"], measured["loss"]) == (False, evaluate.evaluate(runs["none"])["loss"])


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


# What is killed, and at which of its calls after the first phase has had all of its own.
MOMENTS = {
    "the first phase's last save": (Checkpoints, "save", 0),
    "before the start": (train_lib, "_refit_start", 1),
    "the first save": (Checkpoints, "save", 1),
    "a line": (Workdir, "add_metrics", 2),
    "a save": (Checkpoints, "save", 2),
    "the result": (Workdir, "write_result", 1),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "moment"),
    [
        ("restart", "the first phase's last save"),
        ("restart", "a line"),
        ("restart", "the result"),
        ("continue", "before the start"),
        ("continue", "the first save"),
        ("continue", "a save"),
    ],
)
def test_killed_and_started_again_ends_the_same(
    how: str, moment: str, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, at = MOMENTS[moment]
    first = lines(runs["none"], "")
    # Saved are the epochs that improve, each third, and the last.
    saved = sum(x["improved"] or x["epoch"] % 3 == 0 or x is first[-1] for x in first)
    at += {"add_metrics": len(first), "save": saved}.get(name, 0)
    calls, function = 0, getattr(owner, name)

    def killing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            raise Killed
        return function(*args, **kwargs)

    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killing)
        with pytest.raises(Killed):
            train(config(how), path)
    assert not (path / "result.json").exists()
    train(config(how), path)
    assert_same_run(path, runs[how])


@pytest.mark.slow
@pytest.mark.parametrize(("how", "by", "at"), [("restart", "steps", -1), ("continue", "epochs", 3)])
def test_interrupted_amid_an_epoch_it_ends_the_same(
    how: str, by: str, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second phase; by steps also in its last epoch, which is a part of one."""
    settings = config(how, stopping__refit_by=by)
    whole = train(settings, tmp_path / "whole")
    updates = whole["refit"]["updates"]
    before = 5 * len(lines(tmp_path / "whole", ""))  # 300 examples in batches of 64
    with monkeypatch.context() as patch:
        update_by_update(patch)
        for times in (before + at % updates + 1, 1):
            with pytest.raises(Interrupted, match=r"after refit epoch \d+ and \d+ update"):
                train_lib.train(settings, tmp_path / "run", quiet(), listening=asked(times))
    result = train(settings, tmp_path / "run")
    assert result["refit"]["updates"] == updates
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def assert_same_run(a: Path, b: Path) -> None:
    results = [json.loads((path / "result.json").read_text()) for path in (a, b)]
    kept = [{k: v for k, v in result.items() if k not in TIMES} for result in results]
    assert kept[0] == kept[1]
    metrics = [[{**x, "seconds": 0} for x in Workdir(path).read_metrics()] for path in (a, b)]
    assert metrics[0] == metrics[1]
    states = [evaluate.best(path)[1] for path in (a, b)]
    plain = [run.replace(key=jax.random.key_data(run.key)) for run in states]
    assert_same(plain[0], plain[1])


def test_numbers_stay_scaled_by_the_first_phases_training_split(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype(np.float32)
    np.savez(tmp_path / "own.npz", x=x, y=x @ [3.0, -2.0, 1.0] + rng.normal(size=200))
    data = DataConfig(f"npz:{tmp_path / 'own.npz'}", task="regression", scaling="standardize")
    settings = config(
        "continue",
        epochs=10,
        data=data,
        loss=LossConfig("mean_squared"),
        model=ModelConfig(widths=(8,)),
    )
    result = train(settings, tmp_path / "run")
    assert result["test_r2"] > 0.5
    assert "before" in result["refit"]
    parts = train_lib.assemble(settings)
    again = train_lib.refitted(parts).data
    assert len(again.splits["train"].labels) == 140  # of 200, without 40 for test and 20 for select
    for name in ("shift", "scale", "target_shift", "target_scale"):
        np.testing.assert_array_equal(getattr(again, name), getattr(parts.data, name))


def test_the_start_is_the_first_phases(tmp_path: Path) -> None:
    """Also where it looks at examples."""
    settings = config("restart", model=ModelConfig(widths=(8, 8), rescale="lsuv"))
    parts = train_lib.assemble(settings)
    best = parts.program().init(*parts.start())
    start = train_lib._refit_start(parts, train_lib.refitted(parts), best, 0.0)
    assert_same(start.train.params, best.train.params)


def test_merged_is_what_no_validation_set_draws() -> None:
    for data in (DataConfig(train=300, valid=90), DataConfig(valid=0.2, stratified=False)):
        parts = train_lib.assemble(config("restart", data=data))
        whole = plain(config("restart", data=dataclasses.replace(data)), 1)
        if data.train == -1:
            whole.data.train = -1
        expected = train_lib.assemble(whole).data.splits["train"]
        for ours, theirs in zip(refit.merged(parts.data).splits["train"], expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_many_devices_refit_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one of them goes on with what they have begun."""
    monkeypatch.setattr(refit, "limit", lambda *_: refit.Limit(5))
    how, quiet = "continue", {"epochs": 3, "model__dropout_rate": 0.0, "stopping__patience": 0}
    alone = train(config(how, **quiet), tmp_path / "alone")
    many = config(how, **quiet, parallel=ParallelConfig("jit", devices=4, shards=2))
    result = train(many, tmp_path / "many")
    assert result["refit"]["epochs"] == 5 - result["best_epoch"]
    assert result["refit"]["epochs"] == alone["refit"]["epochs"]
    np.testing.assert_allclose(result["test_loss"], alone["test_loss"], rtol=1e-3)
    (tmp_path / "many" / "result.json").unlink()
    again = train(config(how, **quiet), tmp_path / "many")
    np.testing.assert_allclose(again["test_loss"], result["test_loss"], rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"stopping__monitor": "train_loss"},
            "stopping.refit is 'restart' but stopping.monitor is 'train_loss', so nothing held out",
        ),
        (
            {"stopping__refit": "continue", "stopping__refit_by": "steps"},
            "stopping.refit_by is 'steps' but stopping.refit is 'continue'",
        ),
        ({"stopping__refit": "again"}, "expected one of none, restart, continue"),
        ({"data__valid": 0}, "data.valid is empty but stopping.refit is 'restart'"),
        (
            {"data__train": 300, "data__valid": 85, "model__norm": "batch"},  # 385 = 6 · 64 + 1
            "stopping.refit trains on train + valid: batch_size is 64 and data.train 385",
        ),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        train_lib.assemble(config("restart", **changes))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_study_refuses() -> None:
    for study in (
        StudyConfig(stopping=StoppingConfig(refit="restart")),
        StudyConfig(study=SearchConfig(arms=[{}, {"stopping.refit": "continue"}])),
    ):
        with pytest.raises(InputError, match=r"stopping\.refit is .*, which a study cannot do"):
            plan.check(study)


def test_a_refit_that_diverges_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that only the second phase is given."""
    numbers = refit.numbers

    def diverging(*args: Any) -> Any:
        return numbers(*args) | {"optimizer.learning_rate": np.float32(np.inf)}

    monkeypatch.setattr(refit, "numbers", diverging)
    for _ in range(2):  # and again when it is started again
        with pytest.raises(InputError, match=r"the refit diverged: epoch 1 .*set stopping\.refit"):
            train(config("restart", epochs=3), tmp_path / "run")
