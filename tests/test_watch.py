"""A run watched: the same numbers, no epoch twice, figures that add up, and where it diverged."""

import dataclasses
import json
import shutil
import struct
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regjax import divergence, feed, trees, watch
from regjax import train as train_lib
from regjax.checkpoint import Checkpoints
from regjax.config import Config, ModelConfig, OptimizerConfig, ParallelConfig, StoppingConfig
from regjax.errors import InputError, Interrupted
from regjax.watch import options, performance
from regjax.workdir import Workdir

from .test_cli import DIGITS, FAST, refused
from .test_train import asked, assert_same_run, config, quiet, rising, update_by_update


def events(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard shows: the scalars of all event files, without what a restart made void."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    shown: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob("events.*"), key=lambda path: path.stat().st_mtime_ns):
        data, at = path.read_bytes(), 0
        while at < len(data):  # a record: length, its checksum, message, its checksum
            (size,) = struct.unpack("<Q", data[at : at + 8])
            event = Event.FromString(data[at + 12 : at + 12 + size])
            at += 16 + size
            if event.session_log.status == SessionLog.START:
                for points in shown.values():
                    for step in [step for step in points if step >= event.step]:
                        del points[step]
            for value in event.summary.value:
                points = shown.setdefault(value.tag, {})
                assert event.step not in points, "an epoch twice"
                points[event.step] = value.simple_value or value.histo.num
    return shown


def said(console: Any) -> str:
    return console.file.getvalue()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "run"
    train_lib.train(config(), path, quiet())
    return path


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("watched") / "run"
    train_lib.train(config(), path, quiet(), watch.parse("tensorboard,jsonl", "2:3"))
    return path


def test_a_watched_run_has_the_same_numbers(plain: Path, watched: Path) -> None:
    assert_same_run(plain, watched, config())
    assert (plain / "config.json").read_text() == (watched / "config.json").read_text()
    assert not (plain / "tensorboard").exists()
    assert not (plain / "profile").exists()


def test_a_batch_that_devices_do_not_divide_is_watched(tmp_path: Path) -> None:
    settings = config(parallel=ParallelConfig("jit", devices=2, sync_norm=False), batch_size=31)
    settings.model.norm, settings.epochs = "batch", 1
    train_lib.train(settings, tmp_path, quiet(), watch.parse("tensorboard"))
    assert "gradients/head/kernel" in events(tmp_path / "tensorboard")


def test_tensorboard_has_every_metric_and_parameter(watched: Path) -> None:
    shown, lines = events(watched / "tensorboard"), Workdir(watched).read_metrics()
    for name in set(lines[0]) - {"epoch"}:
        assert list(shown[name]) == [line["epoch"] for line in lines]
        np.testing.assert_allclose(list(shown[name].values()), [line[name] for line in lines], 1e-6)
    sizes = {"dense_0/kernel": 64 * 16, "head/bias": 10}
    for kind in ("parameters", "gradients"):
        for name, size in sizes.items():
            assert set(shown[f"{kind}/{name}"].values()) == {size}


def test_the_profile_is_of_the_epochs_asked_for(watched: Path) -> None:
    assert len(list((watched / "profile").rglob("*.xplane.pb"))) == 1


def standing(patience: int) -> Config:
    """A run that learns nothing, so its first epoch is its best."""
    settings = config(optimizer=OptimizerConfig("sgd", 1e-30), model=ModelConfig(widths=(16,)))
    return dataclasses.replace(settings, stopping=StoppingConfig(patience=patience))


WATCHED = watch.parse("tensorboard,jsonl", "1:5")


@pytest.fixture(scope="module")
def stood(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six epochs, the first of which was the best."""
    path = tmp_path_factory.mktemp("stood") / "run"
    result = train_lib.train(standing(patience=0), path, quiet(), WATCHED)
    assert (result["best_epoch"], result["epochs"]) == (1, 6)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("done", [0, 1])
def test_a_run_that_goes_on_shows_no_epoch_twice(done: int, stood: Path, tmp_path: Path) -> None:
    """As after a kill: epochs were told of that no checkpoint has."""
    settings, path = standing(patience=0), shutil.copytree(stood, tmp_path / "resumed")
    (path / "result.json").unlink()
    for saved in (path / "checkpoints").iterdir():
        if int(saved.name) > 9 * done:  # updates
            shutil.rmtree(saved)
    with (path / "watch.jsonl").open("a") as file:
        file.write('{"epoch": 7, "tr')  # torn by the kill
    console = quiet()
    train_lib.train(settings, path, console, WATCHED)
    assert_same_run(stood, path, settings)
    assert f"profile of epochs {done + 1} to 5" in said(console)
    epochs = list(range(1, 7))
    assert len(list((path / "tensorboard").iterdir())) == 2
    assert sorted(events(path / "tensorboard")["train_loss"]) == epochs
    lines = (path / "watch.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == epochs


@pytest.mark.slow
def test_interrupted_amid_a_profile_it_shows_each_epoch_once(
    watched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, watch_all, console = tmp_path / "run", watch.parse("tensorboard,jsonl", "2:3"), quiet()
    with monkeypatch.context() as patch:
        update_by_update(patch)
        with pytest.raises(Interrupted, match="epoch 1 and 4 updates"):
            train_lib.train(config(), path, console, watch_all, asked(9 + 4 + 1))
    assert "profile of epochs 2 to 2 in" in said(console)
    train_lib.train(config(), path, console, watch_all)
    assert "profile of epochs 2 to 3 in" in said(console)
    assert_same_run(path, watched, config())
    ours, theirs = (events(folder / "tensorboard") for folder in (path, watched))
    assert ours.keys() == theirs.keys()
    assert ours["valid_loss"] == theirs["valid_loss"]


def test_a_profile_that_never_began_is_told(tmp_path: Path) -> None:
    console = quiet()
    train_lib.train(standing(2), tmp_path / "run", console, watch.parse(profile="6:6"))
    assert "no profile: the run went no further than epoch 3" in said(console)


def test_figures_of_performance(watched: Path) -> None:
    line = json.loads((watched / "watch.jsonl").read_text().splitlines()[-1])
    examples = len(train_lib.assemble(config()).data.splits["train"].labels)
    rate = line["performance/examples_per_second"]
    np.testing.assert_allclose(rate, examples / line["seconds"])
    assert line["performance/memory_bytes"] > 50e6
    assert "performance/peak_share" not in line  # of a CPU it is not known


def test_operations_of_an_epoch_are_those_of_its_products() -> None:
    """A product of (N, m) and (m, n) has 2·N·m·n; the gradient has two of them a layer, or one."""
    settings = config(model=ModelConfig(widths=(256, 256)), optimizer=OptimizerConfig("sgd", 0.1))
    parts = train_lib.assemble(settings)
    counted = performance.epoch_flops(parts)
    train, valid = (len(parts.data.splits[s].labels) for s in ("train", "valid"))
    first, rest = 64 * 256, 256 * 256 + 256 * 10
    steps = -(-train // 128) * 128  # the last batch is padded
    expected = 2 * steps * (2 * first + 3 * rest) + 2 * valid * (first + rest)
    assert counted is not None
    assert expected < counted < 1.1 * expected
    training = performance.epoch_flops(parts, evaluated=False)
    assert training is not None
    forward = 2 * valid * (first + rest)
    assert forward < counted - training < 1.1 * forward
    micro = dataclasses.replace(settings, accumulate=4)
    assert performance.epoch_flops(train_lib.assemble(micro)) == counted
    rnn = dataclasses.replace(settings, model=ModelConfig("rnn"))
    assert performance.epoch_flops(parts._replace(general=rnn)) is None


def test_share_of_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    assert performance.peak("Tesla T4") == 65e12
    assert performance.peak("NVIDIA H100 PCIe") == 756e12
    assert performance.peak("NVIDIA A100-SXM4-40GB") == 312e12
    assert performance.peak("TPU v5 lite") == 197e12
    assert performance.peak("NVIDIA L40S") is None
    monkeypatch.setitem(performance.PEAKS, jax.devices()[0].device_kind, 1e12)
    measured = performance.Performance(train_lib.assemble(config())).figures(0.5)
    np.testing.assert_allclose(measured["peak_share"], measured["flops_per_second"] / 1e12)


def test_wandb_gets_an_epoch_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By a stand-in: the real one wants an account. Its calls are all that regjax makes."""
    logged: list[tuple[int, dict[str, Any]]] = []
    begun: list[dict[str, Any]] = []

    class Run:
        def log(self, values: dict[str, Any], step: int) -> None:
            logged.append((step, values))

        def finish(self) -> None:
            logged.append((0, {}))

    class Module:
        __spec__ = ModuleSpec("wandb", None)
        Histogram = staticmethod(len)

        @staticmethod
        def init(**arguments: Any) -> Run:
            begun.append(arguments)
            return Run()

    monkeypatch.setitem(sys.modules, "wandb", Module)
    settings = config(epochs=2, stopping=StoppingConfig(patience=0))
    train_lib.train(settings, tmp_path / "run", quiet(), watch.parse("wandb"))
    assert [step for step, _ in logged] == [1, 2, 0]
    assert logged[0][1]["parameters/head/bias"] == 10
    assert np.isfinite(logged[1][1]["valid_loss"])
    assert begun[0]["config"]["model.widths"] == (16,)
    assert begun[0]["id"] == (tmp_path / "run" / "wandb_id").read_text()


@pytest.mark.parametrize(
    ("writers", "profile", "message"),
    [
        ("tensorbord", "", r"--watch is 'tensorbord'.*did you mean 'tensorboard'"),
        ("absent", "", "--watch=absent needs the package no_such_package, which is not installed"),
        ("", "3", "--profile is '3', expected START:STOP"),
        ("", "0:2", "--profile is '0:2', expected START:STOP"),
        ("", "4:2", "--profile is '4:2', expected START:STOP"),
        ("", "2:-1", "--profile is '2:-1', expected START:STOP"),
        ("", "2:7", "--profile is '2:7', but epochs is 6"),
    ],
)
def test_what_cannot_be_watched_is_told(
    writers: str, profile: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(options.NEEDS, "absent", "no_such_package")
    with pytest.raises(InputError, match=message):
        watch.parse(writers, profile, epochs=6)


def test_the_command_line_refuses_in_one_line(tmp_path: Path) -> None:
    workdir = f"--workdir={tmp_path / 'run'}"
    line = refused("train", DIGITS, workdir, *FAST, "--profile=2:9")
    assert line.endswith("--profile is '2:9', but epochs is 3; lower STOP")
    assert not (tmp_path / "run").exists()


def test_a_diverged_run_says_where(tmp_path: Path) -> None:
    console = quiet()
    result = train_lib.train(rising(), tmp_path / "run", console)
    found = result["diverged"]
    lines = Workdir(tmp_path / "run").read_metrics()
    assert found["epoch"] == result["epochs"] == len(lines)
    assert np.isfinite(found["last_loss"])
    before = found["last_finite_epoch"]
    assert before["epoch"] == found["epoch"] - 1
    assert before["valid_loss"] == lines[-2]["valid_loss"]
    told = [line for line in said(console).splitlines() if "the network diverged in" in line]
    assert len(told) == 1
    assert told[0].endswith(f"epoch {result['best_epoch']}, the best, is kept")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["diverged"] == found
    with Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.about(checkpoints.best())["best"] == checkpoints.best()


def test_a_run_that_never_was_finite_says_where(tmp_path: Path) -> None:
    settings = config(optimizer=OptimizerConfig("sgd", 1e30), model=ModelConfig(widths=(16,)))
    where = r"diverged in epoch 1, step 2: the gradient of dense_0/kernel \(the last finite loss"
    with pytest.raises(InputError, match=where):
        train_lib.train(settings, tmp_path / "run", quiet())


def start(settings: Config) -> tuple[Any, Any, Any, Any]:
    parts = train_lib.assemble(settings)
    functions = parts.program()
    fed = feed.resident(parts)
    return parts, functions.run_epoch, functions.init(*parts.start()), (fed.whole, fed.held_out)


@pytest.mark.slow
def test_single_steps_are_those_of_the_epoch() -> None:
    """Dropout, augmentation and batch norm included: what diverges in one does in the other."""
    augment = dataclasses.replace(config().augment, degrees=10.0, mix="mixup", mix_alpha=0.2)
    parts, run_epoch, run, arrays = start(config(augment=augment))
    *_, (state, _) = divergence.steps(parts, run, arrays[0])
    amid = parts.program().train_steps(
        parts.strengths, jax.tree.map(jnp.copy, run), arrays[0], 0, 4
    )
    rest = [state for state, _ in divergence.steps(parts, amid, arrays[0])]
    assert len(rest) == 9 - 4
    whole, _ = run_epoch(parts.strengths, run, *arrays)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(whole.train), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for a, b in zip(jax.tree.leaves(rest[-1]), jax.tree.leaves(whole.train), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("spoiled", "what", "first"),
    [
        ("params/norm_1/scale", "gradient", "dense_0/kernel"),
        ("opt_state/*/mu/head/bias", "value", "head/bias"),
        ("statistics/batch_stats/norm_1/variance", "statistic", "batch_stats/norm_1/variance"),
    ],
)
def test_the_first_parameter_is_named(spoiled: str, what: str, first: str) -> None:
    parts, run_epoch, run, arrays = start(config(model=ModelConfig(widths=(16, 16), norm="batch")))
    hit = trees.names(run.train, spoiled)
    assert len(hit) == 1
    chosen = trees.mask(run.train, spoiled)
    state = jax.tree.map(lambda x, bad: x * jnp.nan if bad else x, run.train, chosen)
    found = divergence.find(parts, run_epoch, run.replace(train=state), *arrays)
    assert found is not None
    assert found[:4] == (1, 1, what, first)
    assert (found.last_loss is None) == (what == "gradient")


def test_a_sound_run_has_no_divergence() -> None:
    *given, arrays = start(config(epochs=1))
    assert divergence.find(*given, *arrays) is None


def test_modules_are_in_the_order_of_their_calls() -> None:
    model = ModelConfig(widths=(16, 16), norm="batch", kernels="weight_norm")
    parts = train_lib.assemble(config(model=model))
    names = trees.names(parts.shapes().train.params)
    names = sorted(names, key=divergence.module_order(parts))
    modules = list(dict.fromkeys(name.split("/")[0] for name in names))
    assert modules == ["dense_0", "norm_0", "dense_1", "norm_1", "head"]
