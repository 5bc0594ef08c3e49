"""The real command line on real data: good input, bad input, kill.

Training is a subprocess, as is one of each kind of failure; what only reads is called here.
"""

import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regjax import cli

from .conftest import REAL_DATA, ROOT

FAST = ["--config.epochs=3", "--config.model.widths=(16,)", "--config.batch_size=256"]
DIGITS = f"--config={ROOT / 'configs' / 'digits.py'}"
SINGLE = "--config.parallel.mode=single"  # of eight devices, as this process has them
EIGHT = {"JAX_NUM_CPU_DEVICES": "8"}


def regjax(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "regjax", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd or ROOT,
        env=os.environ | env,
        timeout=300,
    )


def here(*arguments: str, **env: str) -> subprocess.CompletedProcess:
    """The same in this process, which has imported JAX, and its own environment."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(list(arguments))
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def good(*arguments: str, run: Any = regjax, **env: str) -> str:
    done = run(*arguments, **env)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def refused(*arguments: str, run: Any = regjax) -> str:
    """Exit code 2, one line on stderr, nothing on stdout; returns the line."""
    done = run(*arguments)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("regjax: error: ")
    return lines[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "run"
    out = good("train", DIGITS, f"--workdir={path}", *FAST)
    assert "epoch 1/3" in out
    assert "test_accuracy" in out
    return path


def test_train_evaluate_and_show(trained: Path) -> None:
    result = json.loads((trained / "result.json").read_text())
    measured = json.loads(good("evaluate", f"--workdir={trained}", "--json"))
    assert abs(measured["accuracy"] - result["test_accuracy"]) < 1e-6
    text = good("evaluate", f"--workdir={trained}", "--split=valid", run=here)
    assert "precision" in text
    assert f"accuracy {result['valid_accuracy']:.6g}" in text
    assert "nothing to do" in good("train", DIGITS, f"--workdir={trained}", *FAST, run=here)
    penalty = ["--config.penalty.name=l1", "--config.penalty.strength=1e-4"]
    shown = good("show", DIGITS, *penalty, run=here)
    assert f"{'dense_0/kernel':14}" in shown
    row = next(line for line in shown.splitlines() if "head/kernel" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        "head/kernel",
        "256 × 10",
        "2,560",
        "torch_default",
        "yes",
        "no",
        "no",
    ]
    assert "86,026" in shown


@pytest.mark.slow
def test_programs_are_kept_and_torn_ones_made_again(tmp_path: Path) -> None:
    def metrics(name: str) -> list[dict[str, Any]]:
        folder = {"JAX_COMPILATION_CACHE_DIR": "", "REGJAX_CACHE_DIR": str(tmp_path)}
        good("train", DIGITS, f"--workdir={tmp_path / name}", *FAST, **folder)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return [{**json.loads(line), "seconds": 0} for line in lines]

    first = metrics("first")
    kept = sorted((tmp_path / "programs").iterdir())
    assert kept
    assert metrics("second") == first
    for file in kept:
        os.truncate(file, 1000)
    assert metrics("third") == first


def test_help_and_version() -> None:
    for arguments in (["--help"], ["train", "--help"], ["evaluate", "--help"], ["show", "-h"]):
        assert "regjax" in good(*arguments)
    assert "optimizer.learning_rate = 0.001" in good("train", "--help")
    assert "study.trials = " in good("study", "--help")
    assert good("--version").startswith("regjax ")


CONFIG = "from regjax.config import *\ndef get_config():\n  "
OTHER = """
from dataclasses import dataclass
from regjax.config import Config

@dataclass
class Other(Config):
    extra: int = 3

get_config = Other
"""


def bad_inputs(tmp: Path, trained: Path) -> dict[str, tuple[list[str], str]]:
    """Name: (arguments, what the line must say). Every train and show gets DIGITS if no config."""

    def file(name: str, content: str | bytes = "") -> Path:
        path = tmp / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def npz(name: str, **arrays: Any) -> str:
        np.savez(tmp / name, **arrays)
        return f"--config.data.name=npz:{tmp / name}"

    x, y = np.zeros((40, 3), np.float32), np.arange(40) % 2
    holes = x.copy()
    holes[7] = np.nan
    (tmp / "folder").mkdir()
    (nowhere := tmp / "link").symlink_to(tmp / "gone")
    new = f"--workdir={tmp / 'new'}"
    torn = shutil.copytree(trained, tmp / "torn")
    (torn / "config.json").write_text('{"seed": 0, "epo')
    damaged = shutil.copytree(trained, tmp / "damaged")
    (damaged / "result.json").unlink()
    for data in (damaged / "checkpoints").rglob("d/*"):
        data.write_bytes(data.read_bytes()[:9])
    foreign = shutil.copytree(trained, tmp / "foreign")
    (foreign / "result.json").unlink()
    text = (foreign / "config.json").read_text()
    (foreign / "config.json").write_text(re.sub(r'"widths": \[\s*16\s*\]', '"widths": [17]', text))
    without_best = shutil.copytree(trained, tmp / "without_best")
    best = min((without_best / "checkpoints").iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(best)
    (without_best / "checkpoints" / "99").mkdir()
    no_folder = shutil.copytree(trained, tmp / "no_folder")
    (no_folder / "result.json").unlink()
    shutil.rmtree(no_folder / "checkpoints")
    (no_folder / "checkpoints").touch()
    foreign_result = tmp / "foreign_result"
    foreign_result.mkdir()
    (foreign_result / "result.json").write_text("mine")
    newer = shutil.copytree(trained, tmp / "newer")
    (newer / "config.json").write_text('{"seed": 0, "epoch": 3}')
    empty = tmp / "empty"
    empty.mkdir()
    train = ["train", new]
    return {
        "no command": (["trian"], "unknown command 'trian', expected train"),
        "flag first": (["--workdir=x", "train"], "unknown flag before the command"),
        "no config": (["train", new], "--config is missing"),
        "empty config": (["train", new, "--config="], "--config is missing"),
        "no workdir": (["train", DIGITS], "--workdir is missing"),
        "unknown flag": ([*train, DIGITS, "--wrkdir=x"], "Unknown command line flag 'wrkdir'"),
        "surplus": ([*train, DIGITS, "surplus"], "unexpected argument 'surplus'"),
        "config missing": ([*train, "--config=no.py"], "'no.py' does not exist"),
        "config folder": ([*train, f"--config={tmp / 'folder'}"], "is a folder"),
        "config not python": ([*train, f"--config={file('c.txt')}"], "must end in .py"),
        "config binary": ([*train, f"--config={file('b.py', bytes(range(256)))}"], "config file"),
        "config syntax": ([*train, f"--config={file('s.py', 'def (')}"], "not valid Python"),
        "config raises": (
            [*train, f"--config={file('r.py', CONFIG + '1 / 0')}"],
            "ZeroDivisionError in line 3",
        ),
        "config returns": (
            [*train, f"--config={file('t.py', CONFIG + 'return 3')}"],
            "returned int, expected a regjax.config.Config",
        ),
        "config field": (
            [*train, f"--config={file('f.py', CONFIG + 'return Config(sede=1)')}"],
            "no field 'sede' (did you mean 'seed'?)",
        ),
        "unknown field": (
            [*train, DIGITS, "--config.optimizer.learning_rte=1"],
            "(did you mean 'optimizer.learning_rate'?)",
        ),
        "section": ([*train, DIGITS, "--config.optimizer=sgd"], "no config field 'optimizer'"),
        "word for number": (
            [*train, DIGITS, "--config.seed=abc"],
            "seed is 'abc', expected an int",
        ),
        "fraction for int": (
            [*train, DIGITS, "--config.epochs=1.5"],
            "epochs is '1.5', expected an int",
        ),
        "word for bool": ([*train, DIGITS, "--config.model.residual=ja"], "residual"),
        "word for tuple": ([*train, DIGITS, "--config.model.widths=wide"], "widths"),
        "width 0": ([*train, DIGITS, "--config.model.widths=(0,)"], "widths[0] is 0"),
        "negative strength": (
            [*train, DIGITS, "--config.penalty.name=l1", "--config.penalty.strength=-1"],
            "penalty.strength is -1.0, expected a number in [0, inf)",
        ),
        "nan strength": (
            [*train, DIGITS, "--config.penalty.name=l1", "--config.penalty.strength=nan"],
            "penalty.strength is nan",
        ),
        "rate 1.5": ([*train, DIGITS, "--config.model.dropout_rate=1.5"], "in [0, 1]"),
        "unknown norm": ([*train, DIGITS, "--config.model.norm=bach"], "(did you mean 'batch'?)"),
        "unknown data": ([*train, DIGITS, "--config.data.name=mnist"], "did you mean 'tfds:mnist'"),
        "unknown tfds": ([*train, DIGITS, "--config.data.name=tfds:mnits"], "did you mean 'mnist'"),
        "tfds with tensorflow": (
            [*train, DIGITS, "--config.data.name=tfds:cats_vs_dogs"],
            "needs TensorFlow once",
        ),
        "npz missing": ([*train, DIGITS, "--config.data.name=npz:no.npz"], "does not exist"),
        "npz text": ([*train, DIGITS, f"--config.data.name=npz:{file('t.npz', 'text')}"], "npz"),
        "npz objects": (
            [*train, DIGITS, npz("o.npz", x=np.array([None] * 4), y=y[:4])],
            "Python objects",
        ),
        "npz nan": ([*train, DIGITS, npz("n.npz", x=holes, y=y)], "first in row 7"),
        "npz shapes": ([*train, DIGITS, npz("s.npz", x=x, y=y[:5])], "y has shape (5,)"),
        "npz labels": ([*train, DIGITS, npz("l.npz", x=x, y=y * 5)], "labels out of range"),
        "npz empty": ([*train, DIGITS, npz("e.npz", x=x[:0], y=y[:0])], "no rows"),
        "npz small": ([*train, DIGITS, npz("m.npz", x=x, y=y)], "splits ask for"),
        "splits": ([*train, DIGITS, "--config.data.train=5000"], "splits ask for 5540"),
        "cnn on 8 × 8": ([*train, DIGITS, "--config.model.name=cnn"], "set model.name to mlp"),
        "shift out of sight": ([*train, DIGITS, "--config.augment.shift=8"], "out of sight"),
        "workdir with a bracket": (["train", DIGITS, f"--workdir={tmp}/lr[0.1]"], "has a '['"),
        "evaluate in brackets": (["evaluate", f"--workdir={tmp}/a[b]/c"], "has a '['"),
        "workdir a link to nowhere": (["train", DIGITS, f"--workdir={nowhere}"], "leads nowhere"),
        "config of another class": ([*train, f"--config={file('o.py', OTHER)}"], "is a Other"),
        "config with a zero byte": (
            [*train, f"--config={file('z.py', chr(0))}"],
            "cannot contain null bytes",  # of a SyntaxError, before Python 3.11.4 of a ValueError
        ),
        "workdir a file": (
            ["train", DIGITS, f"--workdir={file('plain')}"],
            "is a file; give a folder",
        ),
        "workdir below a file": (
            ["train", DIGITS, f"--workdir={tmp / 'plain' / 'x'}"],
            "cannot be written",
        ),
        "workdir not writable": (["train", DIGITS, "--workdir=/proc/run"], "cannot be written"),
        "other config": (
            ["train", DIGITS, f"--workdir={trained}"],
            "epochs: 3 there, 100 here",
        ),
        "torn checkpoint": (["train", DIGITS, f"--workdir={damaged}", *FAST], "is damaged"),
        "torn checkpoint evaluated": (["evaluate", f"--workdir={damaged}"], "is damaged"),
        "foreign checkpoint": (
            [
                "train",
                DIGITS,
                f"--workdir={foreign}",
                FAST[0],
                "--config.model.widths=(17,)",
                FAST[2],
            ],
            "is of another run: ",
        ),
        "checkpoint emptied": (["evaluate", f"--workdir={without_best}"], "is damaged"),
        "checkpoints a file": (["train", DIGITS, f"--workdir={no_folder}", *FAST], "is no folder"),
        "foreign result": (["train", DIGITS, f"--workdir={foreign_result}"], "has result.json but"),
        "workdir not UTF-8": (["train", DIGITS, "--workdir=b\udcff"], "is not valid UTF-8"),
        "no field name": ([*train, DIGITS, "--config.=3"], "there is no config field ''"),
        "beyond float32": (
            [*train, DIGITS, "--config.optimizer.learning_rate=1e300"],
            "that float32 can hold",
        ),
        "below float32": (
            [*train, DIGITS, "--config.optimizer.learning_rate=1e-50"],
            "that float32 can hold",
        ),
        "config async": (
            [*train, f"--config={file('a.py', 'async def get_config(): pass')}"],
            "returned coroutine",
        ),
        "torn config": (["train", DIGITS, f"--workdir={torn}"], "is not a regjax config"),
        "other version": (["evaluate", f"--workdir={newer}"], "no field 'epoch'"),
        "evaluate nothing": (["evaluate", f"--workdir={empty}"], "holds no run"),
        "evaluate nowhere": (["evaluate", f"--workdir={tmp / 'nowhere'}"], "holds no run"),
        "unknown split": (["evaluate", f"--workdir={trained}", "--split=tset"], "--split=tset"),
    }


# One of each kind ends a process of its own: before JAX is up, after it, amid the data, after
# threads that read a checkpoint. What is no text is an argument of a process only.
OWN_PROCESS = {
    "no command",
    "unknown field",
    "config raises",
    "npz nan",
    "workdir not writable",
    "torn checkpoint",
    "checkpoint emptied",
    "workdir not UTF-8",
}


def test_bad_inputs_end_with_one_line_and_leave_nothing(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    wrong = {}
    cases = bad_inputs(tmp_path, trained)
    assert len(cases) >= 25
    assert cases.keys() >= OWN_PROCESS
    before = {path: path.lstat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))}
    for name, (arguments, message) in cases.items():
        try:
            line = refused(*arguments, run=regjax if name in OWN_PROCESS else here)
            assert message in line, line
        except AssertionError as error:
            wrong[name] = str(error)
    assert not wrong
    after = {path: path.lstat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))}
    assert after == before


def test_no_arguments_prints_the_usage_and_fails() -> None:
    done = regjax()
    assert done.returncode == 2
    assert "usage: regjax COMMAND" in done.stdout


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_run_goes_on_later(tmp_path: Path) -> None:
    options = ["train", DIGITS, f"--workdir={tmp_path}", "--config.epochs=2"]
    # A limit on file sizes, set by the process itself: a `preexec_fn` would fork this one.
    code = """if True:
        import resource, runpy
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        runpy.run_module("regjax", run_name="__main__")
    """
    command = [sys.executable, "-c", code, *options]
    # The tests' cache of compiled programs could not be written either.
    env = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=300)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "checkpoints cannot be written" in done.stderr
    good(*options, SINGLE, run=here)


def test_damaged_metrics_and_results_do_not_stop_a_run(trained: Path, tmp_path: Path) -> None:
    path = shutil.copytree(trained, tmp_path / "run")
    (path / "metrics.jsonl").write_bytes(b'\xff\xfe\n[1]\n{"a": 1}\n{"epoch": 1, "se')
    (path / "result.json").write_text('{"test_acc')
    good("train", DIGITS, f"--workdir={path}", *FAST, SINGLE, run=here)
    results = [json.loads((p / "result.json").read_text()) for p in (trained, path)]
    assert results[0]["test_accuracy"] == results[1]["test_accuracy"]


@pytest.mark.slow
def test_closed_output_and_a_plain_locale(tmp_path: Path) -> None:
    command = f"{sys.executable} -m regjax show {DIGITS}"
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for shell in (f"{command} >&-", f"{command} 2>&-", f"{command} | head -n 1", command):
        done = subprocess.run(
            shell, shell=True, capture_output=True, env=environment, cwd=ROOT, timeout=100
        )
        assert (done.returncode, done.stderr) == (0, b""), shell


def twelve_epochs(path: Path) -> list[str]:
    often = ["--config.epochs=12", "--config.checkpoint_every=1"]
    return ["train", DIGITS, f"--workdir={path}", *FAST, *often, SINGLE]


def start(path: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "regjax", *twelve_epochs(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | EIGHT,
    )


def wait_for_epoch(process: subprocess.Popen, epoch: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"epoch {epoch}/"):
            return
    raise AssertionError(process.stderr and process.stderr.read())


ENDS = {
    signal.SIGKILL: (-9, ""),
    signal.SIGINT: (130, r"regjax: interrupted; [^\n]*the same command goes on from here\n"),
    signal.SIGTERM: (143, r"regjax: interrupted; [^\n]*the same command goes on from here\n"),
}


@pytest.mark.slow
def test_killed_runs_end_as_one_never_killed(tmp_path: Path) -> None:
    """Each signal at a random moment of training; experiments/ has the long version.

    What was never killed ran in this process, and what was goes on in another or here.
    """
    good(*twelve_epochs(tmp_path / "whole"), run=here)
    rng = random.Random(0)
    for end, (code, told) in ENDS.items():
        path = tmp_path / end.name
        process = start(path)
        wait_for_epoch(process, rng.randrange(1, 8))
        time.sleep(rng.random() * 0.1)
        process.send_signal(end)
        _, err = process.communicate(timeout=100)
        assert process.returncode == code
        assert re.fullmatch(told, err)
        again = regjax if end == signal.SIGKILL else here
        assert "resuming" in good(*twelve_epochs(path), run=again, **EIGHT)
        results = [json.loads((p / "result.json").read_text()) for p in (tmp_path / "whole", path)]
        for result in results:
            del result["seconds"], result["compile_seconds"]
        assert results[0] == results[1]


def test_brackets_are_shown_as_they_are() -> None:
    """rich would take them for markup."""
    masks = ["--config.penalty.name=l2", "--config.penalty.mask=[a-h]*/kernel,*[/]kernel"]
    assert "'[a-h]*/kernel,*[/]kernel'" in good("show", DIGITS, *masks, run=here)


def test_a_config_that_interrupts_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "i.py").write_text("raise KeyboardInterrupt")
    done = here("show", f"--config={tmp_path / 'i.py'}")
    assert (done.returncode, done.stderr) == (130, "regjax: interrupted\n")


def test_a_reader_that_leaves_is_told_by_the_exit_code_alone() -> None:
    """As `| head -1` does: of a run that was amid an epoch, 0 would say that it has ended."""
    show = [sys.executable, "-m", "regjax", "show", DIGITS]
    process = subprocess.Popen(show, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert (process.stderr.read(), process.wait()) == (b"", 128 + signal.SIGPIPE)
    process.stderr.close()


def test_a_signal_while_python_ends_changes_no_exit_code() -> None:
    ends = (
        "import atexit, os, signal; from regjax import cli; cli.main = lambda argv: 0;"
        "atexit.register(os.kill, os.getpid(), signal.SIGTERM); cli.run()"
    )
    done = subprocess.run([sys.executable, "-c", ends], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.realdata
def test_a_users_own_table(tmp_path: Path) -> None:
    """Wine quality, red or white, from its 11 features, through npz."""
    tables = [
        np.loadtxt(
            REAL_DATA / "wine_quality" / f"winequality-{kind}.csv", delimiter=";", skiprows=1
        )
        for kind in ("red", "white")
    ]
    x = np.concatenate(tables)[:, :11]
    y = np.repeat([0, 1], [len(table) for table in tables])
    np.savez(tmp_path / "wine.npz", x=x, y=y)
    own = [f"--config.data.name=npz:{tmp_path / 'wine.npz'}", "--config.data.scaling=standardize"]
    good("train", DIGITS, f"--workdir={tmp_path / 'run'}", *own, *FAST, SINGLE, run=here)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test_accuracy"] > 0.95


@pytest.mark.realdata
def test_a_users_own_csv(tmp_path: Path) -> None:
    """Red wine's grades as classes, read as they were published: semicolons, quoted names."""
    name = REAL_DATA / "wine_quality" / "winequality-red.csv"
    own = [f"--config.data.name=csv:{name}", "--config.data.target=quality"]
    own += ["--config.data.scaling=standardize", "--config.data.stratified=false"]
    short = ["--config.epochs=15", SINGLE]
    good("train", DIGITS, f"--workdir={tmp_path / 'run'}", *own, *short, run=here)
    measured = json.loads(good("evaluate", f"--workdir={tmp_path / 'run'}", "--json", run=here))
    assert list(measured["classes"]) == ["3", "4", "5", "6", "7", "8"]
    assert measured["accuracy"] > 0.5


@pytest.mark.slow
@pytest.mark.realdata
def test_a_number_of_a_users_own_csv(tmp_path: Path) -> None:
    """The same grades as numbers; the errors are in grades."""
    name = REAL_DATA / "wine_quality" / "winequality-red.csv"
    own = [f"--config.data.name=csv:{name}", "--config.data.target=quality"]
    regression = "--config=configs/regression.py"
    short = ["--config.epochs=30", SINGLE]
    out = good("train", regression, f"--workdir={tmp_path / 'run'}", *own, *short, run=here)
    assert "valid r2" in out and "test_r2" in out
    measured = json.loads(good("evaluate", f"--workdir={tmp_path / 'run'}", "--json", run=here))
    assert measured["r2"] > 0.3
    assert 0.4 < measured["mean_absolute_error"] < measured["root_mean_squared_error"] < 0.8
    assert "root_mean_squared_error" in good("evaluate", f"--workdir={tmp_path / 'run'}", run=here)


@pytest.mark.slow
def test_the_readmes_examples_run_as_they_stand(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    section = readme.split("## Your own data and network")[1].split("\n## ")[0]
    blocks = re.findall(r"```(sh|python)\n(.*?)```", section, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["sh", "sh", "sh", "python", "sh"]
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for kind, text in blocks:
        if kind == "python":
            (tmp_path / "net.py").write_text(text)
            continue
        script = text.replace("regjax train", f"{sys.executable} -m regjax train")
        script = script.replace("python -c", f"{sys.executable} -c")
        script = script.replace("digits.py ", "digits.py --config.epochs=8 ")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"XLA_FLAGS": ""},  # as users run it
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    for run in ("wine", "mine", "net"):
        result = json.loads((tmp_path / "runs" / run / "result.json").read_text())
        assert result["test_accuracy"] > 0.8, run
    assert json.loads((tmp_path / "runs/diabetes/result.json").read_text())["test_r2"] > 0.3
