"""The verdicts of the claims: their rule, their scripts, the runner and the ledger."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from experiments import claims, cocktail, evidence, lanes, ledger, papers, run
from experiments.evidence import Evidence, Finding, Setting
from regjax import config as config_lib
from regjax.config import Config, DataConfig, ModelConfig, StudyConfig
from regjax.errors import InputError
from regjax.studies.lanes import OneByOne

from .conftest import ROOT

SCRIPTS = run.scripts()
# All that there are: norms, initializers, penalties, ..., the experiment itself, papers' tables.
NAMES = (
    "N1 N2 N3 N4 N5 N6 N7 I1 I2 I3 I4 I5 P1 P2 P3 P4 P5 P6 P7 "
    "D1 G1 O1 O2 O3 A1 A2 A3 R1 S1 S2 B1 X1 T1 T2 T3 T4"
)


def test_every_claim_has_one_script() -> None:
    assert sorted(name for module in SCRIPTS.values() for name in module.CLAIMS) == sorted(
        NAMES.split()
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_say_what_they_do(name: str) -> None:
    module = SCRIPTS[name]
    assert "?" in module.__doc__.splitlines()[0]
    for word in ("Method:", "Figure:", "Verdict:", *(f"{c}. " for c in module.CLAIMS)):
        assert word in module.__doc__, word


@pytest.mark.parametrize("claimed", ["above", "below", "within"])
@pytest.mark.parametrize("mean", [-3.0, 0.0, 3.0])
def test_a_finding_holds_fails_or_is_open(claimed: str, mean: float) -> None:
    """Ten values of spread 1 about a mean that the margin of 1 is well inside or outside of."""
    values = mean + stats.norm.ppf((np.arange(10) + 0.5) / 10)
    truth = {"above": mean > 1, "below": mean < 1, "within": abs(mean) < 1}[claimed]
    assert Finding("", "", values, claimed, 1.0).outcome == ("holds" if truth else "fails")
    assert Finding("", "", 10 * values - 9 * mean, claimed, abs(mean)).outcome == "open"


@pytest.mark.parametrize(
    ("signs", "verdict"),
    [([1, 1], "confirmed"), ([-1, -1], "refuted"), ([1, -1], "depends"), ([1, 0], "depends")],
)
def test_verdict_follows_from_all_findings(signs: list[int], verdict: str) -> None:
    spread = np.linspace(-0.1, 0.1, 5)
    found = [Finding(str(i), "", sign + spread) for i, sign in enumerate(signs)]
    assert evidence.verdict(found) == verdict
    for i, sign in enumerate(signs):
        outcome = {1: "holds", -1: "fails", 0: "cannot be told"}[sign]
        said = {
            part.split(": ")[0]: part.split(": ")[1]
            for part in evidence.condition(found).split(". ")
        }
        assert str(i) in said[outcome].split("; ")


def test_false_verdicts_are_rare() -> None:
    """Where there is no effect, one that is told apart is found in about 5 % of the cases."""
    rng = np.random.default_rng(0)
    outcomes = [Finding("", "", rng.normal(size=10)).outcome for _ in range(300)]
    assert 0.85 < outcomes.count("open") / len(outcomes) <= 1.0


def decided(
    workdir: Path, sign: float, first_seed: int = 0, name: str = "N1", paper: str = ""
) -> dict[str, Any]:
    """Writes a claim's files as a script does."""
    values = sign + np.linspace(-0.1, 0.1, 5)
    finding = Finding("a|b", "gain", values, unit="points", paper=paper)
    found = Evidence([finding], _draw, "numbers")
    setting = Setting("small", range(first_seed, first_seed + 5), workdir)
    module = type(sys)("made_up")
    module.CLAIMS = {name: "It gains."}  # pyright: ignore[reportAttributeAccessIssue]
    module.measure = lambda setting: {name: found}  # pyright: ignore[reportAttributeAccessIssue]
    original = evidence.source
    try:
        evidence.source = lambda module: "made up"
        return evidence.decide(module, setting)[name]
    finally:
        evidence.source = original


def _draw(figure: Figure) -> None:
    figure.subplots().plot([1, 2])


@pytest.mark.parametrize(("again", "verdict"), [(1.0, "confirmed"), (-1.0, "depends")])
def test_ledger_believes_no_verdict_that_other_seeds_contradict(
    tmp_path: Path, again: float, verdict: str
) -> None:
    made = decided(tmp_path / "one", 1.0)
    decided(tmp_path / "two", again, first_seed=100)
    assert made["verdict"] == "confirmed"
    path = ledger.write(tmp_path / "one", tmp_path / "out", tmp_path / "two")
    text = path.read_text()
    assert f"1 {verdict}" in text and "N1" in text and "1 (0.893 to 1.11) points" in text
    assert r"a\|b" in text
    assert (tmp_path / "out" / "claims" / "N1.png").read_bytes()[1:4] == b"PNG"
    assert json.loads((tmp_path / "out" / "claims" / "N1.json").read_text()) == made


def test_ledger_has_papers_in_a_table_of_their_own(tmp_path: Path) -> None:
    decided(tmp_path, 1.0)
    decided(tmp_path, 1.0, name="T1", paper="5 % | better")
    text = ledger.write(tmp_path, tmp_path).read_text()
    claims_part, rest = text.split("## Papers' tables")
    assert "Of 1, 1 confirmed" in claims_part and "[T1]" not in claims_part and "[T1]" in rest
    one, other = rest.split("## N1")[1].split("## T1")
    assert "paper" not in one and r"| 5 % \| better |" in other


def test_ledger_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no claim"):
        ledger.write(tmp_path, tmp_path)


def test_a_torn_record_is_measured_again(tmp_path: Path) -> None:
    decided(tmp_path, 1.0)
    (tmp_path / "N1" / "claim.json").write_text('{"id": "N1", "ver')
    assert ledger.records(tmp_path) == {}
    setting = Setting("small", range(5), tmp_path)
    assert not run.decided(SCRIPTS["norm_identities"], setting)


def test_runner_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    for packages, only, words in (
        ([claims], ["N4"], "give --all, --papers, or"),
        ([], [], "give --all, --papers, or"),
        ([], ["Q7"], "claim 'Q7'"),
    ):
        with pytest.raises(InputError, match=words):
            run.chosen(SCRIPTS, packages, only)


SLEEPS = """
import signal, sys
from experiments import cli, evidence, run
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where tests run in background
sleep = sys.argv.pop()
run.command = lambda module, setting: [sys.executable, "-c", sleep]
evidence.define_flags()
cli.run(run.main)
"""
SLEEP = "import os, sys, time; open({!r}, 'w').write(str(os.getpid())); time.sleep(60)"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_scripts_end_with_their_runner(number: signal.Signals, tmp_path: Path) -> None:
    started = tmp_path / "pid"
    flags = ["--only=N4", f"--workdir={tmp_path / 'out'}", SLEEP.format(str(started))]
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPS, *flags], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as runner:
        while not started.exists() or not started.read_text():
            assert runner.poll() is None
            time.sleep(0.05)
        runner.send_signal(number)
        assert runner.communicate()[1] == "interrupted; the same command goes on from here\n"
    assert runner.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_the_cocktails_study_is_around_the_run_that_is_measured() -> None:
    run, study = (
        config_lib.load(str(ROOT / "configs" / f"{name}_cocktail.py"))
        for name in ("mnist", "study")
    )
    assert isinstance(study, StudyConfig)
    values = dict(config_lib.flatten(run))
    of_arms = ("augment.mix_alpha", "checkpoint_every")
    for name, value in config_lib.flatten(study):
        if name in study.study.ranges:
            at = study.study.ranges[name]
            assert at.low <= values[name] <= at.high
        if name in values and name not in of_arms:
            assert value == values[name], name


def test_cocktail_tells_both_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(workdir: Path, seed: int, values: Any) -> list[str]:
        before = {"test_accuracy": 0.9 + seed / 100}
        result = {"best_epoch": 1, "test_accuracy": 0.99, "refit": {"before": before}}
        workdir.mkdir()
        (workdir / "result.json").write_text(json.dumps(result))
        return [sys.executable, "-c", f"raise SystemExit({values.code})"]

    monkeypatch.setattr(cocktail, "command", command)
    values: Any = SimpleNamespace(
        config="a.py", workdir=tmp_path, first_seed=0, seeds=3, jobs=2, code=0
    )
    assert cocktail.main(values) == 1  # .91 is below the bar
    told = json.loads(capsys.readouterr().out.split("s\n")[-1])
    assert told["train"]["mean"] == pytest.approx(0.91)
    assert told["train"]["each"] == pytest.approx([0.9, 0.91, 0.92])
    assert told["train + valid"]["mean"] == pytest.approx(0.99)
    values.workdir, values.code = tmp_path / "failed", 2
    values.workdir.mkdir()
    with pytest.raises(InputError, match=r"seed \d failed"):
        cocktail.main(values)


def test_runner_holds_its_workdir(tmp_path: Path) -> None:
    """One process at a time, of one kind of settings."""

    def enter(seeds: int, folder: Path = tmp_path) -> None:
        setting = Setting("small", range(seeds), folder)
        busy = pytest.raises(InputError, match="another process is measuring")
        with run.held(setting), busy, run.held(setting):
            raise AssertionError

    enter(3)
    enter(3)
    with pytest.raises(InputError, match="give another --workdir"):
        enter(4)
    with pytest.raises(InputError, match="cannot be written"):
        enter(3, tmp_path / "setting.json")


def test_runner_takes_claims_or_papers_or_one_of_either() -> None:
    of_claims, of_papers = run.chosen(SCRIPTS, [claims], []), run.chosen(SCRIPTS, [papers], [])
    assert not set(of_claims) & set(of_papers) and {**of_claims, **of_papers} == SCRIPTS
    assert list(run.chosen(SCRIPTS, [], ["T1", "N6", "N4"])) == ["dropout_table", "norm_identities"]


def test_a_script_may_have_more_seeds() -> None:
    """From the same first one on, so that two runs share none."""
    setting = Setting("small", range(5, 15), Path())
    assert setting.of(SCRIPTS["batch_sizes"]).seeds == range(5, 25)
    assert setting.of(SCRIPTS["elastic_net"]) == setting


@pytest.mark.slow
def test_runner_decides_once(tmp_path: Path) -> None:
    """The command on the quickest script; then it has nothing to do, and a mistake is a line."""
    command = [sys.executable, "-m", "experiments.run", "--only=N4,N6", f"--workdir={tmp_path}"]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "N4  refuted" in first.stdout and "N6  confirmed" in first.stdout
    assert "[N6](#n6)" in (tmp_path / "LEDGER.md").read_text()
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert again.stdout.startswith("1 of 1 scripts have been run\nledger: ")
    wrong = subprocess.run([*command, "--seeds=1"], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 2 and wrong.stderr.strip().splitlines()[-1].startswith("error: ")


@pytest.mark.slow
@pytest.mark.parametrize("one_by_one", [False, True])
def test_lanes_are_runs_in_the_order_asked(
    monkeypatch: pytest.MonkeyPatch, one_by_one: bool
) -> None:
    """Of two programs, each lane's last or best weights; outputs are those that were measured."""
    if one_by_one:  # as convolutions on a CPU are
        monkeypatch.setattr(lanes, "_lanes", lambda shared, run, count: OneByOne(shared))
    data = DataConfig(train=60, valid=40, select=0, test=100)
    config = Config(epochs=3, data=data, model=ModelConfig(widths=(8,)))
    settings = [{"model.norm": "batch"}, {}, {"optimizer.learning_rate": 0.05}]
    runs = lanes.over_seeds(config, [4, 5], settings)
    records = lanes.train(runs, ("test",), last=True, weights=True)
    assert [record["seed"] for record in records] == [4, 5, 4, 5, 4, 5]
    table = lanes.column(records, "test_accuracy", len(settings))
    for at in (1, 4):
        logits, labels = lanes.outputs(runs[at], records[at])
        assert np.mean(logits.argmax(axis=1) == labels) == pytest.approx(table.ravel()[at])
    best = lanes.train(runs[4:], ("test",))
    assert best[0]["curves"] == records[4]["curves"]
    assert best[0]["best_epoch"] == 1 + int(np.argmax(best[0]["curves"]["valid_accuracy"]))
