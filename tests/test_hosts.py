"""Many processes train as one does; a lost or a wrong one ends the others in one line."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from regjax import hosts
from regjax.errors import InputError

ROOT = Path(__file__).parent.parent
# Not Adam: it makes steps of rounding where a gradient is zero, as of a bias before batch norm.
SMALL = (
    "--config=configs/digits.py",
    "--config.batch_size=500",
    "--config.optimizer.name=sgd",
    "--config.optimizer.learning_rate=0.05",
)
LIMIT = 60.0  # seconds that a bad start or a lost peer may take to be told


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


def ends(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=LIMIT)
    return process.returncode, out, err


def lines(workdir: Path) -> list[dict[str, float]]:
    file = workdir / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


FLOAT64 = """
import sys
import jax, numpy as np
jax.config.update("jax_numpy_rank_promotion", "raise")
if int(sys.argv[2]) > 1:
    jax.distributed.initialize("127.0.0.1:" + sys.argv[4], int(sys.argv[2]), int(sys.argv[3]))
from regjax import parallel
from regjax.config import ParallelConfig
from tests import test_parallel

assert jax.device_count() == 8
where = parallel.on_devices(ParallelConfig())
run = test_parallel.trained(test_parallel.base(batch_size=19), where, epochs=17)
if jax.process_index() == 0:
    np.savez(sys.argv[1], *jax.tree.leaves(run))
jax.distributed.shutdown()
"""


def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    """51 steps in float64."""
    free, one, two = str(port()), tmp_path / "one.npz", tmp_path / "two.npz"
    runs = [spawn("-c", FLOAT64, str(two), "2", str(i), free) for i in (0, 1)]
    runs.append(spawn("-c", FLOAT64, str(one), "1", "0", devices=8))
    for run in runs:
        code, _, err = ends(run)
        assert code == 0, err
    a, b = np.load(one), np.load(two)
    assert len(a.files) == len(b.files) > 10
    assert any(a[key].dtype == np.float64 for key in a.files)
    for key in a.files:
        np.testing.assert_allclose(b[key], a[key], rtol=1e-9, atol=1e-12)


def test_the_command_line_of_two_and_a_kill(tmp_path: Path) -> None:
    """One of two is killed, the other says so; started again they end as one process does.

    Started again they divide the parameters too, and read and write checkpoints of these.
    """
    epochs = ("--config.epochs=4", "--config.stopping.name=never")
    first, second = pair(tmp_path / "two", *epochs, "--heartbeat_timeout=3")
    while not (tmp_path / "two" / "checkpoints" / "1").exists():
        assert first.poll() is None and second.poll() is None
        time.sleep(0.05)
    second.send_signal(signal.SIGKILL)
    alone = train(tmp_path / "one", *epochs, devices=8)  # while the first waits for the second
    code, out, err = ends(first)
    assert code == 2
    assert re.fullmatch(r"regjax: error: another process of this run has ended .*\n", err)
    assert "Gloo" not in out
    ends(second)
    assert ends(alone)[0] == 0
    assert not (tmp_path / "two" / "result.json").exists()

    first, second = pair(tmp_path / "two", *epochs, "--config.parallel.shards=8")
    (code, out, err), (code2, out2, err2) = ends(first), ends(second)
    assert (code, code2, err, err2, out2) == (0, 0, "", "", "")
    assert "resuming" in out
    for one, two in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        for name in ("train_loss", "valid_loss", "valid_accuracy", "gradient_norm"):
            assert two[name] == pytest.approx(one[name], rel=1e-5), (one["epoch"], name)
    results = [json.loads((tmp_path / n / "result.json").read_text()) for n in ("one", "two")]
    assert results[1]["test_accuracy"] == pytest.approx(results[0]["test_accuracy"], abs=1e-6)
    assert results[1]["best_epoch"] == results[0]["best_epoch"]


def test_configs_that_differ(tmp_path: Path) -> None:
    address = f"--coordinator=127.0.0.1:{port()}"
    seeds = [(f"--process_id={i}", f"--config.seed={i}") for i in (0, 1)]
    runs = [train(tmp_path / "run", address, "--num_processes=2", *flags) for flags in seeds]
    for run in runs:
        code, _, err = ends(run)
        assert code == 2
        assert err.startswith("regjax: error: the config differs between processes (seed: 0 in ")
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.parallel.mode=single", "has 2 processes, for which parallel.mode must be jit"),
        ("--config.parallel.shards=3", "does not divide the 8 devices"),
    ],
)
def test_devices_that_do_not_fit(flag: str, message: str, tmp_path: Path) -> None:
    for run in pair(tmp_path / "run", flag):
        code, _, err = ends(run)
        assert code == 2
        assert message in err and err.count("\n") == 1


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


def test_nothing_to_find(tmp_path: Path) -> None:
    """Not on SLURM, GKE or a TPU."""
    code, _, err = ends(train(tmp_path / "run", "--coordinator=auto"))
    assert code == 2
    assert re.fullmatch(r"regjax: error: --coordinator=auto failed .*\n", err)
