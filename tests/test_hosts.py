"""Many processes train as one does; a lost or a wrong one ends the others in one line."""

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
import pytest

from regjax import cli, divergence, feed, hosts, parallel
from regjax import train as train_lib
from regjax.config import AugmentConfig, Config, ModelConfig, OptimizerConfig, ParallelConfig
from regjax.errors import InputError
from regjax.workdir import read_lines

from . import test_feed, test_parallel, test_stream

ROOT = Path(__file__).parent.parent
# Not Adam: it makes steps of rounding where a gradient is zero, as of a bias before batch norm.
SMALL = (
    "--config=configs/digits.py",
    "--config.batch_size=500",
    "--config.model.widths=(32,)",
    "--config.model.dropout_rate=0",
    "--config.optimizer.name=sgd",
    "--config.optimizer.learning_rate=0.05",
)
LIMIT = 60.0  # seconds that a bad start or a lost peer may take to be told
WHOLE = 300.0  # that a run from start to end may take, whatever else the machine does


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    """What a test that failed has left running is ended."""
    yield
    while STARTED:
        with STARTED.pop() as process:
            process.kill()


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def spawn(*arguments: str, devices: int = 4) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    STARTED.append(process)
    return process


def train(workdir: Path, *flags: str, devices: int = 4) -> subprocess.Popen[str]:
    command = ("-m", "regjax", "train", *SMALL, f"--workdir={workdir}", *flags)
    return spawn(*command, devices=devices)


def pair(workdir: Path, *flags: str) -> list[subprocess.Popen[str]]:
    """Both processes of a run."""
    address = f"--coordinator=127.0.0.1:{port()}"
    both = [f"--process_id={i}" for i in (0, 1)]
    return [train(workdir, address, "--num_processes=2", i, *flags) for i in both]


def ends(process: subprocess.Popen[str], within: float = LIMIT) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=within)
    return process.returncode, out, err


def lines(workdir: Path) -> list[dict[str, Any]]:
    return read_lines(workdir / "metrics.jsonl")


WORK = """
import json, sys
import jax, numpy as np
jax.config.update("jax_numpy_rank_promotion", "raise")
path, process, port = sys.argv[1:]
jax.distributed.initialize("127.0.0.1:" + port, 2, int(process))
from tests import test_hosts
np.savez(path + process, *test_hosts.trained())
with open(path + process, "w") as file:
    json.dump([str(test_hosts.diverged()), *map(test_hosts.refusal, test_hosts.UNFIT)], file)
jax.distributed.shutdown()
"""


def trained() -> list[np.ndarray]:
    """51 steps in float64 on eight devices."""
    config = test_parallel.base(batch_size=19, model=ModelConfig(widths=(8,), norm="batch"))
    where = parallel.on_devices(ParallelConfig())
    return jax.tree.leaves(test_parallel.trained(config, where, epochs=17))


def small(**changes: Any) -> Config:
    return dataclasses.replace(test_parallel.digits(), **changes)


def diverged() -> divergence.Divergence | None:
    wild = {"model": ModelConfig(widths=(8,)), "optimizer": OptimizerConfig("sgd", 1e30)}
    parts = train_lib.assemble(small(**wild, augment=AugmentConfig()))
    functions = parts.program()
    run, fed = functions.init(*parts.start()), feed.resident(parts)
    return divergence.find(parts, functions.run_epoch, run, fed.whole, fed.held_out)


# Of two processes with four devices each.
GHOST = ModelConfig(widths=(8,), norm="ghost_batch", norm_groups=5)
UNFIT: dict[str, Callable[[], Any]] = {
    "divide evenly, but it has 100": lambda: train_lib.assemble(small(model=GHOST)),
    "does not divide the 8 devices": lambda: parallel.on_devices(ParallelConfig(shards=3)),
    "there are 8": lambda: parallel.on_devices(ParallelConfig(devices=9)),
    "2 processes": lambda: parallel.on_devices(ParallelConfig("single")),
    "parallel.devices auto": lambda: parallel.on_devices(ParallelConfig(devices=1)),
}


def refusal(message: str) -> str:
    with pytest.raises(InputError, match=message) as found:
        UNFIT[message]()
    return str(found.value)


@pytest.mark.slow
def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    path, free = str(tmp_path / "run"), str(port())
    runs = [spawn("-c", WORK, path, str(i), free) for i in (0, 1)]
    alone = trained()
    for number, run in enumerate(runs):
        code, _, err = ends(run, WHOLE)
        assert code == 0, err
        numbers = np.load(f"{path}{number}.npz")
        assert len(numbers.files) == len(alone) > 10
        for a, b in zip(alone, numbers.values(), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12)
        said = json.loads(Path(f"{path}{number}").read_text())
        assert said[0].startswith("epoch 1, step 2: the gradient of dense_0/kernel")
    assert any(array.dtype == np.float64 for array in alone)


STREAM = """
import json, sys
import jax, numpy as np
path, folder, process, port = sys.argv[1:]
jax.distributed.initialize("127.0.0.1:" + port, 2, int(process))
from tests import test_hosts
numbers, *rest = test_hosts.streamed(folder)
np.savez(path + process, *numbers)
with open(path + process, "w") as file:
    json.dump(rest, file)
jax.distributed.shutdown()
"""


@jax.enable_x64(True)
def streamed(folder: str) -> tuple[list[np.ndarray], dict[str, int], list[int]]:
    """Two epochs of a stream, in float64: numbers at the end, counts, and what was read here.

    Then again, ended amid each epoch, and on from there: with the same bits.
    """
    made = test_feed.config(
        Path(folder),
        epochs=2,
        batch_size=19,
        model=ModelConfig(widths=(8,), norm="batch"),
        optimizer=OptimizerConfig("sgd", 0.05, momentum=0.9),
        parallel=ParallelConfig(),
    )
    parts = train_lib.assemble(made)
    parts, functions = parts._replace(strengths=doubled(parts.strengths)), parts.program()
    read, records = [], type(parts.data.splits["train"].records)

    def reading(self: Any, rows: Any) -> Any:
        read.extend(rows)
        return original(self, rows)

    def started() -> Any:
        run = doubled(functions.init(*parts.start()))
        return jax.jit(lambda x: x, out_shardings=parts.parallel.where(run))(run)

    def gone_on(run: Any, after: int) -> tuple[Any, dict[str, Any]]:
        asked = iter(range(after))
        with feed.feeding(parts, run) as fed:
            ended = (parts, functions, run, fed, lambda: next(asked, None) is None)
            return [*train_lib.epochs(*ended)][-1]

    run, original = started(), records.read
    with mock.patch.object(records, "read", reading):
        run, line = gone_on(run, 1000)
    numbers = [*jax.tree.leaves(jax.device_get((run.train.params, run.train.statistics)))]
    numbers += [np.array([line[name] for name in ("train_loss", "valid_loss", "valid_accuracy")])]
    again, cut = started(), {"seconds": 0.0}
    while "epoch" not in cut or again.epoch < 2:
        again, cut = gone_on(again, 2)
    for a, b in zip(
        numbers, jax.tree.leaves((again.train.params, again.train.statistics)), strict=False
    ):
        np.testing.assert_array_equal(a, jax.device_get(b))
    with feed.once(parts, ("valid", "test")) as given:
        counts = {
            name: sum(int(functions.scores(run.train, x)["accuracy"].count) for x in arrays)  # pyright: ignore
            for name, arrays in given
        }
    return numbers, counts, [int(row) for row in read]


def doubled(tree: Any) -> Any:
    """In float64 what is in float32."""
    return jax.tree.map(lambda x: x.astype("float64") if x.dtype == "float32" else x, tree)


@pytest.mark.slow
def test_two_processes_stream_as_one_does(tmp_path: Path) -> None:
    """Each reads its rows of every batch, about half; together each example once an epoch."""
    pytest.importorskip("grain")
    folder = str(test_stream.prepare(tmp_path / "data"))
    path, free = str(tmp_path / "run"), str(port())
    runs = [spawn("-c", STREAM, path, folder, str(i), free) for i in (0, 1)]
    alone, counts, read = streamed(folder)
    assert counts == {"valid": 20, "test": 17}
    every = sorted([*range(test_stream.COUNT)] * 2)
    assert sorted(read) == every
    for number, run in enumerate(runs):
        code, _, err = ends(run, WHOLE)
        assert code == 0, err
        for a, b in zip(alone, np.load(f"{path}{number}.npz").values(), strict=True):
            assert a.dtype == b.dtype == np.float64
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12)
    (counts0, read0), (counts1, read1) = (
        json.loads(Path(f"{path}{number}").read_text()) for number in (0, 1)
    )
    assert counts0 == counts1 == counts
    assert sorted(read0 + read1) == every
    # Of 19 examples on eight devices, three on each, the first four have 12; of 6 they have 4.
    batches = (([19] * 9 + [12], 12), ([6, 6, 6, 2], 4))
    assert len(read0) == 2 * sum(min(n, most) for sizes, most in batches for n in sizes)


@pytest.mark.slow
def test_the_command_line_of_two_and_a_kill(tmp_path: Path) -> None:
    """One of two is killed, the other says so; started again they end as one process does.

    Started again they divide the parameters too, which are watched, stop early and refit.
    """
    stops = (
        "--config.epochs=9",
        "--config.stopping.patience=6",
        "--config.stopping.min_delta=1",
        "--config.stopping.refit=restart",
    )
    first, second = pair(tmp_path / "two", *stops, "--heartbeat_timeout=3")
    wait_for_checkpoint(tmp_path / "two", first, second)
    second.send_signal(signal.SIGKILL)
    assert cli.main(["train", *SMALL, f"--workdir={tmp_path / 'one'}", *stops]) == 0
    code, out, err = ends(first)
    assert code == 2
    assert re.fullmatch(r"regjax: error: another process of this run has ended .*\n", err)
    assert "Gloo" not in out
    ends(second)
    assert not (tmp_path / "two" / "result.json").exists()

    watched = ("--config.parallel.shards=8", "--watch=tensorboard,jsonl", "--profile=7:7")
    first, second = pair(tmp_path / "two", *stops, *watched)
    (code, out, err), (code2, out2, err2) = ends(first, WHOLE), ends(second, WHOLE)
    assert (code, code2, err, err2, out2) == (0, 0, "", "", "")
    resumed = re.search(r"resuming '.*' after epoch (\d+)\n", out)
    assert resumed
    same(lines(tmp_path / "two"), lines(tmp_path / "one"))
    two, one = (json.loads((tmp_path / n / "result.json").read_text()) for n in ("two", "one"))
    same(two, one)
    assert (two["stopped_because"], two["epochs"]) == ("patience", 7)
    # The first two may have come to this end before the kill.
    watched_epochs = [line["epoch"] for line in read_lines(tmp_path / "two" / "watch.jsonl")]
    assert watched_epochs == [*range(int(resumed[1]) + 1, 8)]
    assert len([*(tmp_path / "two" / "profile").rglob("*.xplane.pb")]) == bool(watched_epochs)


def wait_for_checkpoint(workdir: Path, *runs: subprocess.Popen[str]) -> None:
    while not any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*")):
        assert not any(run.poll() for run in runs)
        time.sleep(0.05)


@pytest.mark.slow
def test_one_is_asked_to_end(tmp_path: Path) -> None:
    """Both save after the same update, though each has a pace of its own."""
    long = ("--config.epochs=2000", "--config.stopping.patience=2000", "--config.batch_size=50")
    runs = pair(tmp_path, *long)
    wait_for_checkpoint(tmp_path, *runs)
    runs[1].send_signal(signal.SIGTERM)
    told = [ends(run) for run in runs]
    assert [code for code, _, _ in told] == [130, 143]
    assert told[0][2] == told[1][2]
    assert re.fullmatch(
        r"regjax: interrupted; saved after epoch .* goes on from here\n", told[0][2]
    )


def same(two: Any, one: Any) -> None:
    """Equal but for rounding, of what does not measure time or name the devices."""
    if isinstance(one, dict):
        assert two.keys() == one.keys()
        for name in one.keys() - {"seconds", "compile_seconds", "device"}:
            same(two[name], one[name])
    elif isinstance(one, list):
        assert len(two) == len(one)
        for pair_of in zip(two, one, strict=True):
            same(*pair_of)
    else:
        assert two == (pytest.approx(one, rel=1e-5) if isinstance(one, float) else one)


def test_configs_that_differ(tmp_path: Path) -> None:
    address = f"--coordinator=127.0.0.1:{port()}"
    seeds = [(f"--process_id={i}", f"--config.seed={i}") for i in (0, 1)]
    runs = [train(tmp_path / "run", address, "--num_processes=2", *flags) for flags in seeds]
    for run in runs:
        code, _, err = ends(run)
        assert code == 2
        assert err.startswith("regjax: error: the config differs between processes (seed: 0 in ")
        assert err.count("\n") == 1


def test_others_that_never_come(tmp_path: Path) -> None:
    """No coordinator; a coordinator without others; a number that two have."""
    address, waits = f"--coordinator=127.0.0.1:{port()}", "--connect_timeout=1"
    other = f"--coordinator=127.0.0.1:{port()}"
    flags = [
        (address, "--num_processes=2", "--process_id=1"),
        (other, "--num_processes=3", "--process_id=0"),
        (other, "--num_processes=3", "--process_id=1"),
        (other, "--num_processes=3", "--process_id=1"),
    ]
    for run in [train(tmp_path / "run", *given, waits) for given in flags]:
        code, _, err = ends(run)
        assert code == 2
        assert re.fullmatch(r"regjax: error: --coordinator 127.0.0.1:\d+.*\n", err)
    assert not (tmp_path / "run").exists()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = (f"--coordinator={address}", "--num_processes=2", "--process_id=0")
        code, _, err = ends(train(tmp_path / "run", *flags))
    assert code == 2
    assert re.fullmatch(rf"regjax: error: --coordinator is {address}, but .* open port .*\n", err)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("h:1", None, None), "--num_processes, --process_id is missing beside --coordinator"),
        ((None, 2, 0), "--coordinator is missing"),
        (("h:1", 2, None), "--process_id is missing"),
        (("h:1", 2, 2), "--process_id is 2, expected 0 to 1"),
        (("h:1", 2, -1), "--process_id is -1"),
        (("h:1", 0, 0), "--num_processes is 0"),
        (("h", 2, 0), "expected HOST:PORT"),
        (("h:99999", 2, 0), "expected HOST:PORT"),
        (("auto", 2, None), "drop --num_processes"),
        (("auto", None, None, 0), "--connect_timeout is 0"),
    ],
)
def test_flags_that_make_no_sense(given: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        hosts.from_flags(*given)


ABORTS = """
import os, sys
from regjax import hosts
hosts.supervise(hosts.Hosts("h:1", 2, 0))
os.write(2, sys.argv[1].encode())
os.abort()
"""
GLOO = "terminate called after throwing an instance of 'gloo::EnforceNotMet'\n  what(): 80 vs 4\n"
TOLD = "regjax: error: no room\n"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (GLOO, f"regjax: error: {hosts.LOST}\n"),
        (TOLD + GLOO, TOLD),
        (TOLD, TOLD),
        (
            "F1128 05:02 a.cc:1] Check failed: a\n",
            "regjax: error: the process was aborted: F1128.*a\n",
        ),
        ("terminate called: b\n", "regjax: error: the process was aborted: terminate called: b\n"),
    ],
)
def test_an_abort_in_the_libraries_is_one_line(said: str, message: str) -> None:
    code, _, err = ends(spawn("-c", ABORTS, said))
    assert code == 2
    assert re.fullmatch(message, err)


def test_nothing_to_find(tmp_path: Path) -> None:
    """Not on SLURM, GKE or a TPU."""
    code, _, err = ends(train(tmp_path / "run", "--coordinator=auto"))
    assert code == 2
    assert re.fullmatch(r"regjax: error: --coordinator=auto failed .*\n", err)
