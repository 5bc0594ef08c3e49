"""Runs on disk: best and latest kept, resumed exactly, refused when they are another's."""

import contextlib
import dataclasses
import io
import itertools
import json
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from regjax import checkpoint, pace
from regjax import evaluate as evaluate_lib
from regjax import train as train_lib
from regjax.checkpoint import Checkpoints
from regjax.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ParallelConfig,
    PenaltyConfig,
    ScheduleConfig,
    StoppingConfig,
)
from regjax.errors import InputError, Interrupted
from regjax.workdir import Workdir

TIMES = ("seconds", "compile_seconds")


def config(**changes: Any) -> Config:
    """A run on real digits that takes a second or two."""
    base = Config(
        epochs=6,
        batch_size=128,
        model=ModelConfig(widths=(16,), norm="batch", dropout_rate=0.1),
        optimizer=OptimizerConfig("adam", 0.01),
        stopping=StoppingConfig(patience=3),
        parallel=ParallelConfig("single"),
    )
    return dataclasses.replace(base, **changes)


def quiet() -> Console:
    return Console(file=io.StringIO())


def figures(path: Path) -> dict[str, Any]:
    result = json.loads((path / "result.json").read_text())
    return {name: value for name, value in result.items() if name not in TIMES}


def weights(path: Path, settings: Config) -> list[np.ndarray]:
    """All arrays of the best and the latest checkpoint."""
    parts = train_lib.assemble(settings)
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        latest = checkpoints.latest()
        assert latest is not None
        numbers = {latest, checkpoints.best()}
        runs = [checkpoints.restore(number, parts.shapes()) for number in sorted(numbers)]
    plain = [run.replace(key=jax.random.key_data(run.key)) for run in runs]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(plain)]


def assert_same_run(a: Path, b: Path, settings: Config) -> None:
    assert figures(a) == figures(b)
    for x, y in zip(weights(a, settings), weights(b, settings), strict=True):
        np.testing.assert_array_equal(x, y)
    lines = [[{**line, "seconds": 0} for line in Workdir(p).read_metrics()] for p in (a, b)]
    assert lines[0] == lines[1]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("done") / "run"
    train_lib.train(config(), path, quiet())
    return path


def test_what_a_run_leaves(done: Path) -> None:
    assert {file.name for file in done.iterdir()} == {
        ".lock",
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "result.json",
    }
    lines = Workdir(done).read_metrics()
    result = json.loads((done / "result.json").read_text())
    assert [line["epoch"] for line in lines] == list(range(1, result["epochs"] + 1))
    fields = {"train_loss", "penalty", "valid_loss", "valid_accuracy", "gradient_norm"}
    assert fields | {"learning_rate", "seconds"} <= set(lines[0])
    best = lines[result["best_epoch"] - 1]
    assert best["valid_accuracy"] == max(line["valid_accuracy"] for line in lines)
    np.testing.assert_allclose(result["valid_accuracy"], best["valid_accuracy"], rtol=1e-6)
    kept = {int(path.name) for path in (done / "checkpoints").iterdir()}
    assert kept == {9 * result["best_epoch"], 9 * result["epochs"]}  # of 9 updates each
    for name in ("test_accuracy", "select_accuracy", "stopped_because", "parameters", "device"):
        assert result[name] is not None


def test_evaluate_gives_the_results_figures(done: Path) -> None:
    result = json.loads((done / "result.json").read_text())
    for split in ("test", "select", "valid"):
        measured = evaluate_lib.evaluate(done, split)
        assert abs(measured["accuracy"] - result[f"{split}_accuracy"]) < 1e-6
        assert abs(measured["loss"] - result[f"{split}_loss"]) < 1e-5
        assert sum(row["support"] for row in measured["classes"].values()) == measured["examples"]


def test_the_same_run_twice_is_bit_identical(done: Path, tmp_path: Path) -> None:
    train_lib.train(config(), tmp_path / "run", quiet())
    assert_same_run(done, tmp_path / "run", config())


def asked(times: int) -> Any:
    """Something to listen to that wants the run to end when it is asked so many times."""

    counted = itertools.count(1)
    return lambda: contextlib.nullcontext(lambda: next(counted) >= times)


def update_by_update(patch: pytest.MonkeyPatch) -> None:
    """Has runs ask before every update."""
    patch.setattr(train_lib, "Pace", partial(pace.Pace, seconds=0.0))


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 4])
def test_interrupted_between_any_two_updates_it_ends_the_same(
    every: int, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 9 updates an epoch: before the first, amid epochs, at their ends, without an update."""
    settings, path = config(checkpoint_every=every), tmp_path / "run"
    calls = np.cumsum([0, 5, 0, 4, 8, 1, 10])
    wheres = [f"epoch {n // 9}" + f" and {n % 9} update" * bool(n % 9) for n in calls]
    with monkeypatch.context() as patch:
        update_by_update(patch)
        for more, where in zip(np.diff(calls, prepend=0), wheres, strict=True):
            with pytest.raises(Interrupted, match=f"saved after {where}.*; the same command goes"):
                train_lib.train(settings, path, quiet(), listening=asked(int(more) + 1))
    console = quiet()
    train_lib.train(settings, path, console, listening=asked(1_000_000))
    assert "after epoch 3 and 1 update\n" in console.file.getvalue()  # pyright: ignore
    lines = Workdir(path).read_metrics()
    assert all(0 < line["seconds"] < 60 for line in lines)
    assert figures(path) == figures(done)
    assert_same_run(path, done, config())


def test_the_seconds_of_an_epoch_include_those_before_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, steps = config(epochs=1), 0
    update_by_update(monkeypatch)

    @contextlib.contextmanager
    def slowly() -> Iterator[Any]:
        def ask() -> bool:
            nonlocal steps
            steps += 1
            time.sleep(0.2)
            return steps == 6

        yield ask

    with pytest.raises(Interrupted):
        train_lib.train(settings, tmp_path / "run", quiet(), listening=slowly)
    result = train_lib.train(settings, tmp_path / "run", quiet())
    assert result["seconds"] > 6 * 0.2
    assert Workdir(tmp_path / "run").read_metrics()[0]["seconds"] == result["seconds"]


def test_checkpoints_of_an_earlier_version_are_refused(done: Path, tmp_path: Path) -> None:
    path = shutil.copytree(done, tmp_path / "run")
    (path / "result.json").unlink()
    for about in path.glob("checkpoints/*/about/metadata"):
        said = json.loads(about.read_text())
        del said["best"]
        about.write_text(json.dumps(said | {"best_epoch": 3}))
    for use in (lambda: train_lib.train(config(), path, quiet()), lambda: evaluate_lib.best(path)):
        with pytest.raises(InputError, match=r"of an earlier version of regjax, .*new --workdir"):
            use()


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["metrics", "saved", "compiled", "result"])
@pytest.mark.parametrize("every", [1, 4])
def test_killed_and_started_again_ends_the_same(
    moment: str, every: int, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(checkpoint_every=every)
    calls = 0

    def third(function: Any, at: int = 3) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                raise Killed
            return function(*args, **kwargs)

        return wrapped

    with monkeypatch.context() as patch:
        if moment == "metrics":
            patch.setattr(Workdir, "add_metrics", third(Workdir.add_metrics))
        elif moment == "saved":
            patch.setattr(Checkpoints, "save", third(Checkpoints.save))
        elif moment == "compiled":
            patch.setattr(train_lib, "showing", third(train_lib.showing, 1))
        else:
            patch.setattr(Workdir, "write_result", third(Workdir.write_result, 1))
        with pytest.raises(Killed):
            train_lib.train(settings, tmp_path / "run", quiet())
    assert not (tmp_path / "run" / "result.json").exists()
    train_lib.train(settings, tmp_path / "run", quiet())
    if every == 1:
        assert_same_run(done, tmp_path / "run", settings)
    else:
        assert figures(done) == figures(tmp_path / "run")


def test_a_line_torn_by_a_kill_is_trained_again(done: Path, tmp_path: Path) -> None:
    path = shutil.copytree(done, tmp_path / "run")
    (path / "result.json").unlink()
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 7, "train_lo')
    train_lib.train(config(), path, quiet())
    assert_same_run(done, path, config())


def test_a_finished_run_is_not_trained_again(done: Path) -> None:
    console = quiet()
    before = (done / "result.json").read_bytes()
    train_lib.train(config(), done, console)
    assert "nothing to do" in console.file.getvalue()
    assert (done / "result.json").read_bytes() == before


def test_resuming_says_so(done: Path, tmp_path: Path) -> None:
    path = shutil.copytree(done, tmp_path / "run")
    (path / "result.json").unlink()
    console = quiet()
    train_lib.train(config(), path, console)
    assert "resuming" in console.file.getvalue()


def test_another_config_is_refused_with_the_fields_that_differ(done: Path) -> None:
    other = config(seed=1, optimizer=OptimizerConfig("sgd", 0.01))
    with pytest.raises(InputError) as caught:
        train_lib.train(other, done, quiet())
    assert "seed: 0 there, 1 here" in str(caught.value)
    assert "optimizer.name: 'adam' there, 'sgd' here" in str(caught.value)


def test_two_at_once_are_refused(done: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    with (
        Workdir(path).claim(config()),
        pytest.raises(InputError, match="another process is training"),
        Workdir(path).claim(config()),
    ):
        pass


def damage(path: Path, how: str) -> None:
    files = [file for file in path.rglob("*") if file.is_file()]
    files.sort(key=lambda file: file.stat().st_size)  # by name, which of them matter is chance
    for file in files if how == "emptied" else files[len(files) // 2 :]:
        if how == "removed":
            file.unlink()
        else:
            file.write_bytes(
                b"" if how == "emptied" else file.read_bytes()[: file.stat().st_size // 2]
            )


@pytest.mark.slow
# On a busy machine orbax's other reads may end after the one that failed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", ["removed", "emptied", "halved"])
def test_a_torn_checkpoint_is_told_and_nothing_is_lost(
    how: str, done: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(done, tmp_path / "run")
    (path / "result.json").unlink()
    latest = max(int(p.name) for p in (path / "checkpoints").iterdir())
    damage(path / "checkpoints" / str(latest), how)
    before = (path / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"damaged|no checkpoint") as caught:
        train_lib.train(config(), path, quiet())
    assert "\n" not in str(caught.value)
    assert (path / "metrics.jsonl").read_bytes() == before
    assert not (path / "result.json").exists()


def test_a_flipped_bit_of_a_checkpoint_is_told(done: Path, tmp_path: Path) -> None:
    """In the values themselves, which nothing else would notice."""
    path = shutil.copytree(done, tmp_path / "run")
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        best = checkpoints.best()
    files = [f for f in (path / "checkpoints" / str(best)).rglob("d/*") if f.is_file()]
    file = max(files, key=lambda f: f.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"is damaged"):
        evaluate_lib.evaluate(path, "test")


def test_a_checksum_that_only_one_side_knows_says_nothing(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where one process saved and several go on, none of which has all values."""
    path = shutil.copytree(done, tmp_path / "run")
    expected = evaluate_lib.evaluate(path, "test")
    monkeypatch.setattr(checkpoint, "_checksum", lambda run: None)
    assert evaluate_lib.evaluate(path, "test") == expected


def test_another_runs_checkpoints_are_refused(done: Path, tmp_path: Path) -> None:
    wide = config(model=ModelConfig(widths=(17,), norm="batch", dropout_rate=0.1))
    other = tmp_path / "other"
    with Workdir(other).claim(wide):
        shutil.copytree(done / "checkpoints", other / "checkpoints")
    with pytest.raises(InputError, match="of another run"):
        train_lib.train(wide, other, quiet())
    seeded = config(seed=1)
    other = tmp_path / "seeded"
    with Workdir(other).claim(seeded):
        shutil.copytree(done / "checkpoints", other / "checkpoints")
    with pytest.raises(InputError, match="trained on other data"):
        train_lib.train(seeded, other, quiet())
    orphan = tmp_path / "orphan"
    shutil.copytree(done / "checkpoints", orphan / "checkpoints")
    with pytest.raises(InputError, match=r"no config\.json"):
        train_lib.train(config(), orphan, quiet())


def rising() -> Config:
    """A run that diverges some epochs after its best.

    Once the rising rate passes 1, every step multiplies the weights by 1 − 2·rate.
    """
    endless_warmup = dataclasses.replace(config().optimizer.schedule, warmup_epochs=1e30)
    return config(
        epochs=60,
        optimizer=OptimizerConfig("sgd", 1e30, schedule=endless_warmup),
        penalty=PenaltyConfig("l2", 1.0),
        stopping=StoppingConfig(patience=0, stop_on_nan=True),
        model=ModelConfig(widths=(16,)),
    )


def test_a_diverged_run_keeps_its_best_and_says_why_it_stopped(tmp_path: Path) -> None:
    result = train_lib.train(rising(), tmp_path / "run", quiet())
    assert result["stopped_because"] == "nan"
    assert 1 <= result["best_epoch"] < result["epochs"] < 60
    assert np.isfinite(result["valid_loss"])


def test_a_network_that_diverges_at_once_is_told(tmp_path: Path) -> None:
    settings = config(optimizer=OptimizerConfig("sgd", 1e30), model=ModelConfig(widths=(16,)))
    for _ in range(2):  # and again when it is started again
        with pytest.raises(InputError, match=r"diverged.*lower optimizer\.learning_rate"):
            train_lib.train(settings, tmp_path / "run", quiet())
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert line["valid_loss"] is None


def test_ties_keep_the_earlier_checkpoint_and_nan_is_never_best(tmp_path: Path) -> None:
    parts = train_lib.assemble(config())
    run = parts.program().init(*parts.start())
    with Checkpoints(tmp_path / "c") as checkpoints:
        for epoch, metric in enumerate([0.5, 0.7, 0.7, jnp.nan, 0.6], start=1):
            stopping = run.stopping.update(epoch, metric)
            train = run.train.replace(step=jnp.int32(10 * epoch))
            run = run.replace(epoch=jnp.int32(epoch), train=train, stopping=stopping)
            checkpoints.save(run, {})
        checkpoints.wait()
        assert sorted(int(p.name) for p in (tmp_path / "c").iterdir()) == [20, 50]


def test_one_example_in_the_last_batch_and_batch_norm(tmp_path: Path) -> None:
    settings = config(batch_size=3, data=dataclasses.replace(config().data, train=100))
    with pytest.raises(InputError, match="so the last batch, or a group of it, has one example"):
        train_lib.train(settings, tmp_path / "run", quiet())
    assert not (tmp_path / "run").exists()


def test_no_validation_data_needs_another_monitor(tmp_path: Path) -> None:
    without = dataclasses.replace(config().data, valid=0)
    with pytest.raises(InputError, match=r"data\.valid is empty"):
        train_lib.assemble(config(data=without))
    stopping = StoppingConfig(monitor="train_loss", mode="min")
    settings = config(data=without, stopping=stopping, epochs=2)
    result = train_lib.train(settings, tmp_path / "run", quiet())
    assert result["valid_accuracy"] is None
    assert result["test_accuracy"] > 0.5


def test_the_result_names_the_criterion_that_ended_the_run(tmp_path: Path) -> None:
    """A rate at which the loss goes up and down."""
    stopping = StoppingConfig("up", monitor="valid_loss", mode="min", strip=2, strips=1)
    settings = config(epochs=40, stopping=stopping)
    settings.optimizer.learning_rate = 0.05
    result = train_lib.train(settings, tmp_path / "run", quiet())
    assert result["stopped_because"] == "up"
    assert result["epochs"] < 40


@pytest.mark.slow
def test_linear_regression_reaches_least_squares(tmp_path: Path) -> None:
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import LinearRegression

    x, y = load_diabetes(return_X_y=True)
    x = x[:, [0, 1, 2, 3, 6, 9]]  # without those that nearly repeat others, and take long
    np.savez(tmp_path / "diabetes.npz", x=x, y=y)
    settings = config(
        epochs=30,
        batch_size=64,
        data=DataConfig(
            f"npz:{tmp_path / 'diabetes.npz'}", task="regression", scaling="standardize"
        ),
        model=ModelConfig(widths=()),
        loss=LossConfig("mean_squared"),
        optimizer=OptimizerConfig("adam", 0.1, schedule=ScheduleConfig("cosine")),
        stopping=StoppingConfig("never", monitor="train_loss", mode="min"),
    )
    result = train_lib.train(settings, tmp_path / "run", quiet())
    splits = train_lib.assemble(settings).data.splits
    fitted = LinearRegression().fit(splits["train"].images, splits["train"].labels)
    for split in ("valid", "test"):
        expected = fitted.score(splits[split].images, splits[split].labels)
        assert abs(result[f"{split}_r2"] - expected) < 0.01
    measured = evaluate_lib.evaluate(tmp_path / "run", "test")
    error = np.abs(fitted.predict(splits["test"].images) - splits["test"].labels).mean()
    np.testing.assert_allclose(measured["mean_absolute_error"], error, rtol=0.02)
