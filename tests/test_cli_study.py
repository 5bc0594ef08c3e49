"""`regjax study` and `regjax report`, on real data: good input, bad input, kill.

What trains is a subprocess; what only reads or refuses is called here.
"""

import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from regjax.config import Config, StudyConfig, to_json

from .conftest import ROOT
from .test_cli import DIGITS, good, here, refused, regjax

CONFIG = """
from regjax import sweeps
from regjax.config import *
from regjax.sweeps import Range

def get_config():
    return StudyConfig(
        epochs=4,
        batch_size=128,
        data=DataConfig(train=256, valid=100, select=200, test=300),
        model=ModelConfig(widths=(8,)),
        study=SearchConfig(
            arms=sweeps.over("model.norm", ["none", "batch"]),
            ranges={"optimizer.learning_rate": Range(1e-3, 1e-1, log=True)},
            trials=4,
            confirm=3,
            lanes=2,
        ),
    )
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("config") / "study.py"
    path.write_text(CONFIG)
    return f"--config={path}"


@pytest.fixture(scope="module")
def whole(config: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A study that has run to its end, and what it said."""
    path = tmp_path_factory.mktemp("study") / "run"
    return path, good("study", config, f"--workdir={path}")


def findings(report: str) -> list[str]:
    """The tables and sentences of a report that do not tell of time."""
    timed = r"training time|from the first trial|regjax study"
    return [line for line in report.splitlines() if not re.search(timed, line)]


@pytest.mark.slow
def test_a_study_ends_with_a_report(whole: tuple[Path, str], config: str) -> None:
    path, out = whole
    assert "2 arms, 4 each: 8 trials, then 3 fresh seeds an arm; 2 lanes" in out
    assert sorted(map(int, re.findall(r"^trial (\d+) ", out, re.M))) == list(range(1, 9))
    assert len(re.findall(r"^confirm ", out, re.M)) == 6
    assert "model.norm" in out
    page = (path / "report.html").read_text()
    assert "http" not in re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)
    for figure in re.findall(r"\((figures/\w+\.png)\)", (path / "report.md").read_text()):
        assert (path / figure).read_bytes()[:4] == b"\x89PNG"
    assert list((path / "workers").iterdir()) == []
    again = good("study", config, f"--workdir={path}", run=here)
    assert not re.search(r"^(trial|confirm) ", again, re.M)
    assert out.splitlines()[-3:] == again.splitlines()[-3:]
    for name in ("grid", "mine"):  # of a report of another time, and the user's own
        (path / "figures" / f"{name}.png").touch()
    with ThreadPoolExecutor() as both:
        list(both.map(lambda _: good("report", f"--workdir={path}"), range(2)))
    left = {figure.name for figure in (path / "figures").iterdir()}
    shown = re.findall(r"figures/(\S+\.png)", (path / "report.md").read_text())
    assert left == {*shown, "mine.png"}


@pytest.mark.slow
def test_lanes_whose_reader_leaves_go_on_without_a_word(config: str, tmp_path: Path) -> None:
    flags = [config, "--config.study.lane=vmap", f"--workdir={tmp_path}"]
    command = [sys.executable, "-m", "regjax", "study", *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 128 + signal.SIGPIPE)
    process.stderr.close()
    good("report", f"--workdir={tmp_path}", run=here)
    assert "| trials | 8 of 8 |" in (tmp_path / "report.md").read_text()


def killed_after_a_trial(*flags: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "regjax", "study", *flags],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("trial "):
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_vmapped_lanes_go_on_after_a_kill(config: str, tmp_path: Path) -> None:
    flags = (config, "--config.study.lane=vmap", f"--workdir={tmp_path}")
    killed_after_a_trial(*flags, "--config.study.lanes=4")
    out = good("study", *flags, "--config.study.lanes=3")
    assert "study.lanes is 3, but the study began with 4: kept" in out
    assert "| trials | 8 of 8 |" in (tmp_path / "report.md").read_text()


@pytest.mark.slow
def test_a_killed_study_goes_on_and_finds_the_same(
    whole: tuple[Path, str], config: str, tmp_path: Path
) -> None:
    killed_after_a_trial(config, f"--workdir={tmp_path}")
    good("report", f"--workdir={tmp_path}", run=here)
    assert "not finished" in (tmp_path / "report.md").read_text()
    assert "resuming" in good("study", config, f"--workdir={tmp_path}")
    reports = [(path / "report.md").read_text() for path in (whole[0], tmp_path)]
    assert findings(reports[0]) == findings(reports[1])


AUTO = "--config.study.lanes=auto"


def test_dry_run_trains_nothing(config: str, tmp_path: Path) -> None:
    out = good("study", config, f"--workdir={tmp_path / 'none'}", "--dry_run", AUTO)
    for words in ("8 trials, 14 runs", "2 programs to compile", "MiB", "an epoch", "log scale"):
        assert words in out
    assert not (tmp_path / "none").exists()


def test_configs_left_behind_are_configs(whole: tuple[Path, str], tmp_path: Path) -> None:
    left = f"--config={whole[0] / 'config.json'}"
    assert "8 trials" in good("study", left, "--dry_run", run=here)
    line = refused("train", left, f"--workdir={tmp_path / 'x'}", run=here)
    assert "is that of a study" in line


OWN_PROCESS = {"every trial NaN", "storage of another"}  # with workers to end; after Optuna


@pytest.mark.slow
def test_bad_studies_end_with_one_line(
    whole: tuple[Path, str], config: str, tmp_path: Path
) -> None:
    path, _ = whole
    there = f"--workdir={path}"
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "config.json").write_text("{")
    (tmp_path / "file").write_text("")
    fresh = f"--workdir={tmp_path / 'fresh'}"
    every = "--config.optimizer.learning_rate=1"
    nan = tmp_path / "nan.py"
    nan.write_text(CONFIG.replace("Range(1e-3, 1e-1", "Range(1e36, 1e38").replace('"none", ', ""))
    cases = {
        "run's config": ([DIGITS, fresh], "not of a study"),
        "no workdir": ([config], "--workdir is missing"),
        "unknown field": ([config, fresh, "--config.study.trails=3"], "'study.trials'"),
        "arms by flag": ([config, fresh, "--config.study.arms=3"], "no config field"),
        "no trials": ([config, fresh, "--config.study.trials=0"], "study.trials is 0"),
        "lanes": ([config, fresh, "--config.study.lanes=all"], "study.lanes is 'all', expected"),
        "no select": ([config, fresh, "--config.data.select=0"], "data.select is 0"),
        "other config": ([config, there, every], "optimizer.learning_rate: 0.001 there, 1.0"),
        "torn config": ([config, f"--workdir={torn}"], "is not a regjax config"),
        "workdir a file": ([config, f"--workdir={tmp_path / 'file'}"], "is a file"),
        "storage kind": ([config, fresh, "--storage=redis"], "of no known kind"),
        "storage away": ([config, fresh, "--storage=sqlite:////no/x.db"], "cannot be used"),
        "storage in memory": ([config, fresh, "--storage=sqlite://"], "of one process"),
        "storage of another": (
            [config, fresh, f"--storage=journal:{path / 'journal.log'}", every],
            "another study named 'study'",
        ),
        "every trial NaN": ([f"--config={nan}", f"--workdir={tmp_path / 'nan'}"], "finite loss"),
    }
    before = (path / "journal.log").read_bytes()
    wrong = {}
    for name, (arguments, message) in cases.items():
        done = (regjax if name in OWN_PROCESS else here)("study", *arguments)
        lines = done.stderr.splitlines()
        if done.returncode != 2 or len(lines) != 1 or message not in lines[0]:
            wrong[name] = (done.returncode, done.stderr)
    assert not wrong, json.dumps(wrong, indent=2)
    assert (path / "journal.log").read_bytes().startswith(before)  # Optuna notes who looked
    assert "holds no study" in refused("report", f"--workdir={tmp_path / 'nowhere'}", run=here)
    report = (path / "report.md").read_text()
    for storage in (f"sqlite:///{tmp_path / 'typo.db'}", f"journal:{tmp_path / 'typo.log'}"):
        assert "does not exist" in refused("report", there, f"--storage={storage}", run=here)
    assert (path / "report.md").read_text() == report
    assert not list(tmp_path.glob("typo*"))


def test_a_runs_folder_is_no_studys_nor_the_other_way_round(config: str, tmp_path: Path) -> None:
    run, study = tmp_path / "run", tmp_path / "study"
    for folder, kind in ((run, Config()), (study, StudyConfig())):
        folder.mkdir()
        (folder / "config.json").write_text(to_json(kind))
    before = list(run.iterdir())
    assert "is of a run, expected that of a study" in refused(
        "report", f"--workdir={run}", run=here
    )
    assert "is of a run" in refused("study", config, f"--workdir={run}", run=here)
    assert [p for p in run.iterdir() if p.name != ".lock"] == before
    for command in (["train", DIGITS], ["evaluate"], ["inspect"]):
        assert "is of a study" in refused(*command, f"--workdir={study}", run=here)
    assert "does not exist, so there are no trials" in refused(
        "report", f"--workdir={study}", run=here
    )
