"""Runs on streamed data: the batches they should see, wherever they are cut and go on again."""

import contextlib
import dataclasses
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from regjax import evaluate, feed, step
from regjax import train as train_lib
from regjax.batch import Batch
from regjax.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ParallelConfig,
    PenaltyConfig,
    StoppingConfig,
)
from regjax.data import stream
from regjax.data.stream import Batches
from regjax.errors import InputError, Interrupted
from regjax.keys import DROPOUT, SHUFFLE
from regjax.keys import stream as key_of
from regjax.objective import example_losses

from .test_stream import numbered, prepare, settings
from .test_train import assert_same_run, figures, weights

pytest.importorskip("grain")
__all__ = ["numbered"]  # a fixture
ROOT = Path(__file__).parent.parent
SMALL = 1.2e-5  # GiB, of which chunks of four batches are made


def config(folder: Path, **changes: Any) -> Config:
    memory = changes.pop("memory", SMALL)
    base = Config(
        epochs=3,
        batch_size=16,
        eval_batch_size=6,
        data=settings(folder, memory=memory, valid=20, select=0, test=17),
        model=ModelConfig(widths=(8,), norm="batch", dropout_rate=0.1),
        # Not Adam: it makes steps of rounding where a gradient is zero (a bias before batch norm).
        optimizer=OptimizerConfig("sgd", 0.002),
        penalty=PenaltyConfig("l2", 1e-4),
        stopping=StoppingConfig(patience=0),
        parallel=ParallelConfig("single"),
    )
    return dataclasses.replace(base, **changes)


def quiet() -> Console:
    return Console(file=io.StringIO())


def run(path: Path, made: Config, **how: Any) -> dict[str, Any]:
    return train_lib.train(made, path, quiet(), **how)


@pytest.fixture(scope="module")
def done(numbered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streamed") / "run"
    run(path, config(numbered))
    return path


def by_hand(parts: train_lib.Assembled) -> tuple[Any, list[Any]]:
    """The state after all epochs, step by step on batches looked up one by one, and its sums."""
    made, split = parts.config, parts.data.splits["train"]
    batches = Batches(split, made.batch_size, stream.seed_of(made.seed, SHUFFLE))
    train_step = jax.jit(step.make_train_step(parts.general, parts.network))
    started = parts.program().init(*parts.start())
    state, losses = started.train, []
    for epoch in range(made.epochs):
        sums = []
        for number in range(len(batches)):
            read = batches.read(epoch, number)
            short = made.batch_size - read.examples
            images = jnp.asarray(np.pad(read.images, ((0, short), (0, 0), (0, 0), (0, 0))))
            images = (images - parts.data.shift) * parts.data.scale
            mask = jnp.arange(made.batch_size) < read.examples
            labels = jnp.asarray(np.pad(read.labels, (0, short)))
            key = key_of(started.key, DROPOUT, state.step)
            batch = Batch(images, labels, mask.astype(jnp.float32))
            state, measured = train_step(parts.strengths, state, batch, key)
            sums.append((float(measured["loss"].total), int(measured["loss"].count)))
        losses.append(np.sum(sums, axis=0))
    return state, losses


@pytest.mark.slow
def test_a_run_takes_the_steps_it_should(numbered: Path, done: Path) -> None:
    parts = train_lib.assemble(config(numbered))
    state, sums = by_hand(parts)
    latest = weights(done, config(numbered))
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]
    for leaf in leaves:  # among all that a checkpoint has
        assert any(x.shape == leaf.shape and np.allclose(x, leaf, 1e-5, 1e-6) for x in latest)
    lines = [json.loads(line) for line in (done / "metrics.jsonl").read_text().splitlines()]
    for line, (total, count) in zip(lines, sums, strict=True):
        assert count == parts.data.splits["train"].examples == 183
        np.testing.assert_allclose(line["train_loss"], total / count, rtol=1e-5)


@pytest.mark.slow
def test_scores_are_those_of_all_examples(numbered: Path, done: Path) -> None:
    parts, best = evaluate.best(done)
    result = figures(done)
    for split in ("valid", "test"):
        part = parts.data.splits[split]
        images, labels = map(jnp.asarray, part.read(range(part.examples)))
        images = (images - parts.data.shift) * parts.data.scale
        logits, _ = parts.network.apply(*best.train.evaluated(), images)
        loss = example_losses(parts.config, logits, labels).mean()
        measured = evaluate.evaluate(done, split)
        assert measured["examples"] == part.examples
        for loss_, accuracy in (
            (measured["loss"], measured["accuracy"]),
            (result[f"{split}_loss"], result[f"{split}_accuracy"]),
        ):
            np.testing.assert_allclose(loss_, loss, rtol=1e-5)
            np.testing.assert_allclose(accuracy, (logits.argmax(-1) == labels).mean(), rtol=1e-6)


def test_chunks_change_nothing(numbered: Path, done: Path, tmp_path: Path) -> None:
    parts = train_lib.assemble(config(numbered))
    with feed.once(parts, ("train",)) as given:
        counts = [int(arrays.counted().sum()) for _, found in given for arrays in found]  # pyright: ignore
    assert len(counts) >= 3
    assert sum(counts) == 183
    run(tmp_path / "run", config(numbered, memory=1.0))
    assert_same_run(tmp_path / "run", done, config(numbered))


@pytest.mark.parametrize(
    ("memory", "batches"),
    [(0.01, 1), (4.0, 1), (8.0, 2), (31.0, 7), (32.0, 8), (500.0, 8), (640.0, 10), (9e9, 12)],
)
def test_a_chunk_is_of_some_batches_where_memory_allows(
    numbered: Path, memory: float, batches: int
) -> None:
    """A program's start is paid once for 8 of them, unless a quarter of the memory holds fewer."""
    split = train_lib.assemble(config(numbered)).data.splits["train"]
    of = Batches(split, 16)  # pyright: ignore[reportArgumentType]
    batch = split.empty(16).images.nbytes
    assert feed.batches_of_a_chunk(of, memory * batch) == batches


def ending(after: int) -> Callable[[], Any]:
    """Ends a run when it has been asked so many times."""

    @contextlib.contextmanager
    def listening() -> Iterator[Callable[[], bool]]:
        asked = iter(range(after))
        yield lambda: next(asked, None) is None

    return listening


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 2, 4])
def test_resumed_in_the_middle_of_an_epoch(
    after: int, numbered: Path, done: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        with pytest.raises(Interrupted):
            run(tmp_path / "run", config(numbered), listening=ending(after))
    run(tmp_path / "run", config(numbered))
    assert_same_run(tmp_path / "run", done, config(numbered))


@pytest.mark.slow
def test_many_devices(numbered: Path, tmp_path: Path) -> None:
    """Each batch of a chunk is divided; 3 devices pad it."""
    changes: Any = {"model": ModelConfig(widths=(8,), norm="batch"), "epochs": 2}
    changes["optimizer"] = OptimizerConfig("sgd", 0.05)  # Adam makes steps of rounding alone
    found = {}
    for mode, devices in (("single", 1), ("jit", 3), ("pmap", 3)):
        made = config(numbered, parallel=ParallelConfig(mode, devices), **changes)
        found[mode] = figures_of(run(tmp_path / mode, made))
    np.testing.assert_allclose(found["jit"], found["single"], rtol=1e-4)
    np.testing.assert_allclose(found["pmap"], found["single"], rtol=1e-4)


def figures_of(result: dict[str, Any]) -> list[float]:
    return [result[name] for name in ("valid_loss", "test_loss", "valid_accuracy")]


@pytest.mark.slow
@pytest.mark.parametrize(("how", "by"), [("restart", "steps"), ("continue", "epochs")])
def test_refit(how: str, by: str, numbered: Path, tmp_path: Path) -> None:
    stopping = StoppingConfig(patience=1, refit=how, refit_by=by)
    result = run(tmp_path / "run", config(numbered, stopping=stopping))
    assert result["refit"]["examples"] == 203
    if by == "steps":
        assert result["refit"]["updates"] == 12 * result["best_epoch"]
    measured = evaluate.evaluate(tmp_path / "run")["accuracy"]
    assert measured == pytest.approx(result["test_accuracy"])


def test_averaged_weights_are_evaluated(numbered: Path, tmp_path: Path) -> None:
    model = ModelConfig(widths=(8,), norm="layer")
    optimizer = OptimizerConfig("adam", 0.01, average="ema", average_decay=0.5)
    made = config(numbered, model=model, optimizer=optimizer, epochs=1)
    run(tmp_path / "run", made)
    parts, best = evaluate.best(tmp_path / "run")
    for averaged, last in zip(
        jax.tree.leaves(best.train.evaluated().params),
        jax.tree.leaves(best.train.params),
        strict=True,
    ):
        assert not np.array_equal(averaged, last)
    loss = feed.measured(parts.program(), best.train, parts, ("valid",))["valid"]["loss"]
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    np.testing.assert_allclose(line["valid_loss"], loss, rtol=1e-6)


def test_what_a_streamed_run_refuses(numbered: Path, tmp_path: Path) -> None:
    optimizer = OptimizerConfig("adam", 0.01, average="ema")
    with pytest.raises(InputError, match=r"optimizer\.average is 'ema'.* is streamed; set"):
        run(tmp_path / "run", config(numbered, optimizer=optimizer))
    with pytest.raises(InputError, match=r"evaluate_every is 2, but .* is streamed, each"):
        run(tmp_path / "run", config(numbered, epochs=2, evaluate_every=2))
    assert not (tmp_path / "run").exists()


TRAINS = """
import contextlib, sys
from pathlib import Path
from regjax import train
from tests.test_feed import config, quiet
from regjax.config import ModelConfig

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    found.append(pages)

found = []
listening = lambda: contextlib.nullcontext(resident)
made = config(Path(sys.argv[1]), memory=float(sys.argv[2]), epochs=2, batch_size=64,
              eval_batch_size=64, model=ModelConfig(widths=(4,)))
train.train(made, sys.argv[3], quiet(), listening=listening)
print(*found[len(found) // 2:])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells what resides")
def test_memory_stays_flat_over_an_epoch(tmp_path: Path) -> None:
    """Of twenty times the limit, within ±5 %; read at once, it would be 15 % more."""
    side, limit = 64, 2**22
    count = 20 * limit // (3 * side**2) + 1
    prepare(tmp_path / "data", count, 17, side)
    arguments = (tmp_path / "data", limit / 2**30, tmp_path / "run")
    code = [sys.executable, "-c", TRAINS, *map(str, arguments)]
    done = subprocess.run(code, capture_output=True, text=True, check=True, cwd=ROOT)
    resident = np.array(done.stdout.split(), int)
    assert len(resident) > 100
    assert resident.max() / resident.min() < 1.05 / 0.95


@pytest.mark.parametrize(("valid", "size"), [(0, 559), (1, 128), (300, 300), (1100, 550)])
def test_every_split_is_evaluated_in_pieces_of_one_shape(valid: int, size: int) -> None:
    """Padding counts nowhere, whatever the sizes."""
    sizes = DataConfig(train=559, valid=valid, select=0, test=130, stratified=False)
    monitor = StoppingConfig(monitor="valid_loss" if valid else "train_loss", mode="min")
    made = Config(data=sizes, model=ModelConfig(widths=(8,)), stopping=monitor)
    parts = train_lib.assemble(made)
    functions = parts.program()
    state = functions.init(*parts.start()).train
    for name, split in parts.data.splits.items():
        pieces = feed.pieces(parts, name)
        assert {len(piece) for piece in pieces} <= {size}
        assert sum(int(piece.count) for piece in pieces) == split.examples  # pyright: ignore
        if split.examples:
            whole = functions.scores(state, parts.whole(name))
            total = functions.total(state, pieces)
            for one, other in zip(*map(jax.tree.leaves, (whole, total)), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-6)
