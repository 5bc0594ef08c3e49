"""Studies: what is planned, that trials depend on their number only, that none is lost."""

import contextlib
import dataclasses
import datetime
import json
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from rich.console import Console
from sklearn.datasets import load_diabetes

import regjax
from regjax import drawing, sweeps
from regjax import train as train_lib
from regjax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    PenaltyConfig,
    SearchConfig,
    StoppingConfig,
    StudyConfig,
    from_json,
    to_json,
)
from regjax.errors import InputError
from regjax.studies import (
    choose,
    coordinator,
    folder,
    outlook,
    plan,
    plots,
    progress,
    report,
    result,
    words,
)
from regjax.studies import ledger as ledger_lib
from regjax.studies.lanes import Lanes, OneByOne, Threads
from regjax.studies.ledger import FINISHED, NUMBER, RECORD, Ledger, Worker
from regjax.studies.shared import Shared
from regjax.studies.storage import JOURNAL, open_storage
from regjax.studies.vectorized import Vectorized
from regjax.studies.worker import TrialWorker
from regjax.sweeps import Range

ARMS = sweeps.product(
    sweeps.over("model.norm", ["none", "batch"]), sweeps.over("penalty.name", ["none", "l1"])
)
RANGES = {
    "optimizer.learning_rate": Range(1e-3, 1e-1, log=True),
    "penalty.strength": Range(1e-5, 1e-2, log=True, when={"penalty.name": ["l1"]}),
}


def small(**search: Any) -> StudyConfig:
    """A study of seconds on real digits."""
    options = {"arms": ARMS, "ranges": RANGES, "trials": 3, "confirm": 2, **search}
    return plan.check(
        StudyConfig(
            epochs=3,
            batch_size=128,
            data=DataConfig(train=256, valid=100, select=200, test=300),
            model=ModelConfig(widths=(8,)),
            stopping=StoppingConfig(patience=1),
            study=SearchConfig(**options),
        )
    )


def trained(study: StudyConfig, path: Path, lanes: Lanes | None = None) -> list[dict[str, Any]]:
    """Runs one worker to the end in a folder, and returns the trials."""
    folder.claim(path, study)
    TrialWorker(study, "", path, lanes or OneByOne(Shared())).work()
    return trials(study, path)


def trials(study: StudyConfig, path: Path, phase: str = "search") -> list[dict[str, Any]]:
    """The finished trials, without what differs from run to run: times."""
    ledger = Ledger(open_storage("", path), study, phase)
    rows = [
        {
            "number": trial.user_attrs[NUMBER],
            "params": trial.params,
            "value": trial.value,
            **json.loads(json.dumps(trial.user_attrs[RECORD])),
        }
        for trial in ledger.trials()
        if trial.state in FINISHED
    ]
    for row in rows:
        for run in row["runs"]:
            del run["seconds"]
    return rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyConfig, Path]:
    """A study that has run in order."""
    path = tmp_path_factory.mktemp("study")
    study = small()
    assert len(trained(study, path)) == 12
    return study, path


def _trial(entry: plan.Entry, value: float | None, seed: int, **record: Any) -> Any:
    """A finished trial that measured a value; None: it diverged."""
    run = {"seconds": 1.0, "epochs": 1, "curves": {}, "seed": seed, "stopped_because": "epochs"}
    run |= {"best_epoch": int(value is not None)}
    ended = optuna.trial.TrialState.PRUNED if value is None else optuna.trial.TrialState.COMPLETE
    now = datetime.datetime(2026, 1, 1)
    return optuna.trial.FrozenTrial(
        number=entry.number,
        trial_id=entry.number,
        state=ended,
        value=value,
        params=entry.params,
        distributions={},
        user_attrs={NUMBER: entry.number, RECORD: {"runs": [run], "setting": {}, **record}},
        system_attrs={},
        intermediate_values={},
        datetime_start=now,
        datetime_complete=now,
    )


def made_up(
    study: StudyConfig, searched: Sequence[float | None], **confirmed: Sequence[float | None]
) -> result.StudyResult:
    """A study's result had its trials, and each arm on each seed, measured this; None: diverged."""
    entries = plan.search_entries(study)[: len(searched)]
    search = [_trial(e, v, study.seed) for e, v in zip(entries, searched, strict=True)]
    best = choose.best_of_arms(study, search)
    entries, seeds = plan.confirm_entries(study, best), plan.confirm_seeds(study)
    scores = [confirmed[arm][i] for i in range(len(seeds)) for arm in best] if confirmed else []
    confirm = [
        _trial(e, v, e.params["seed"]) for e, v in zip(entries[: len(scores)], scores, strict=True)
    ]
    return result.collect(study, search, confirm)


NORMS = sweeps.over("model.norm", ["none", "batch", "layer"])


def test_an_arm_that_diverges_on_some_seeds_is_no_best() -> None:
    """Its mean is over the seeds that it survived; it is told, and not dropped in silence."""
    study = small(arms=NORMS, ranges={}, trials=1, confirm=4)
    none, layer = [0.5, 0.51, 0.52, 0.5], [0.7, 0.71, 0.72, 0.71]
    scores = {"none": none, "batch": [0.9, None, None, 0.91], "layer": layer}
    found = made_up(study, [0.5, 0.9, 0.7], **scores)
    assert [(arm.label, arm.diverged) for arm in found.arms][-1] == ("batch", 2)
    told = " ".join(words.conclusion(found))
    assert "Among the arms that never diverged, layer is the best arm" in told
    assert "batch diverged on 2 of 4 seeds" in told
    row = report.cells(found)[-1]
    assert (row[:2], row[-1]) == (["batch", "90.50 (2 of 4 seeds)"], "-")
    assert report._facts(found)["diverged"] == "0 trials, 2 runs of the confirmation"
    told = " ".join(words.conclusion(made_up(study, [0.5] * 3, **scores | {"layer": [None] * 4})))
    assert "none is the only arm that never diverged" in told
    assert "batch diverged on 2 of 4 seeds, layer on 4;" in told
    every = made_up(study, [0.5] * 3, **dict.fromkeys(scores, [None] * 4))
    assert "No arm had a finite loss" in " ".join(words.conclusion(every))
    assert "arms" not in plots.plots(every)


def test_an_arm_without_a_result_is_told_and_not_compared_with() -> None:
    study = small(arms=NORMS, ranges={}, trials=2, confirm=3)
    scores = {"batch": [0.6, 0.61, 0.62], "layer": [0.6, 0.62, 0.61]}
    found = made_up(study, [None, 0.6, 0.6] * 2, **scores)
    assert "against batch" in report.columns(found)
    told = " ".join(words.conclusion(found))
    assert "none is not compared: none of its 2 trials ended with a number." in told


def worker_of(study: StudyConfig, path: Path, name: str) -> tuple[Worker, Ledger]:
    """A worker in a folder, and the search's trials as it sees them."""
    folder.claim(path, study)
    worker = Worker(path, name)
    return worker, Ledger(open_storage("", path), study, "search", worker, local=True)


def planned(study: StudyConfig, path: Path, name: str) -> tuple[Worker, Ledger]:
    """The same, once it has enqueued what is missing."""
    worker, ledger = worker_of(study, path, name)
    ledger.mend(plan.search_entries(study))
    return worker, ledger


def enqueued_backwards(study: StudyConfig, path: Path) -> None:
    worker, ledger = worker_of(study, path, "other")
    ledger.mend(list(reversed(plan.search_entries(study))))
    worker.close()


def test_lanes_in_threads_have_the_same_bits(
    whole: tuple[StudyConfig, Path], tmp_path: Path
) -> None:
    """Pruned, told and trained side by side, by what is compiled once."""
    study, path = whole
    shared = Shared()
    lanes = Threads([OneByOne(shared) for _ in range(3)])
    assert trained(study, tmp_path / "three", lanes) == trials(study, path)
    assert len(shared._programs) == 2
    pruned = small(trials=4, confirm=0, pruner="halving")
    rows = trained(pruned, tmp_path / "pruned", Threads([OneByOne(shared) for _ in range(2)]))
    assert [row["number"] for row in rows] == list(range(16))


def test_what_a_lane_in_a_thread_cannot_go_on_with_is_raised(tmp_path: Path) -> None:
    class Broken(OneByOne):
        def epoch(self) -> Any:
            raise InputError("a disk is full")

    lanes = Threads([OneByOne(Shared()), Broken(Shared())])
    with pytest.raises(InputError, match="a disk is full"):
        trained(small(confirm=0), tmp_path, lanes)


@pytest.mark.slow
def test_vectorized_lanes(whole: tuple[StudyConfig, Path], tmp_path: Path) -> None:
    """On 8 devices, 1 or 2 lanes each: the same bits in any order, and what one lane does."""
    study = small(confirm=0)
    lanes = Vectorized(Shared(), 8, programs=2)
    rows = trained(study, tmp_path / "forth", lanes)
    assert 0 < lanes.useful <= lanes.advanced
    epochs = [run["epochs"] for row in rows for run in row["runs"]]
    assert lanes.useful == sum(epochs)
    enqueued_backwards(study, tmp_path / "back")
    assert trained(study, tmp_path / "back", Vectorized(Shared(), 5, programs=2)) == rows
    narrow = trained(study, tmp_path / "two", Vectorized(Shared(), 16))
    for row, two, alone in zip(rows, narrow, trials(*whole), strict=True):
        for other in (two, alone):
            assert row["params"] == other["params"]
            first, second = (r["runs"][0]["curves"]["train_loss"][0] for r in (row, other))
            np.testing.assert_allclose(first, second, rtol=1e-3)


@pytest.mark.slow
def test_a_study_of_a_number(tmp_path: Path) -> None:
    """The target is standardized by each lane's own split."""
    x, y = load_diabetes(return_X_y=True)
    np.savez(tmp_path / "diabetes.npz", x=x, y=y)
    base = small(trials=2, seeds=2, confirm=3)
    study = dataclasses.replace(
        base,
        study=dataclasses.replace(base.study, objective="select_r2"),
        data=DataConfig(
            f"npz:{tmp_path / 'diabetes.npz'}", task="regression", scaling="standardize"
        ),
        loss=LossConfig("mean_squared"),
        augment=AugmentConfig(mix="mixup"),
        stopping=StoppingConfig(monitor="valid_r2", patience=1),
    )
    rows = trained(study, tmp_path / "one")
    lanes = trained(study, tmp_path / "lanes", Vectorized(Shared(), 8))
    for row, other in zip(rows, lanes, strict=True):
        for run, same in zip(row["runs"], other["runs"], strict=True):
            # Not R²: a bias before a batch norm has no gradient but rounding, which Adam makes
            # steps of; training does not see them, the running mean lags behind them.
            first, second = (r["curves"]["train_loss"] for r in (run, same))
            np.testing.assert_allclose(first, second, rtol=1e-4)
    found = coordinator.read(tmp_path / "one")
    assert len(found.arms) == 4
    assert "R²" in " ".join(words.conclusion(found))


def test_trials_do_not_depend_on_their_order(
    whole: tuple[StudyConfig, Path], tmp_path: Path
) -> None:
    study, path = whole
    enqueued_backwards(study, tmp_path)
    assert trained(study, tmp_path) == trials(study, path)


def test_a_trial_is_a_run_of_regjax_train(whole: tuple[StudyConfig, Path], tmp_path: Path) -> None:
    study, path = whole
    for row in trials(study, path)[3::4]:
        config = plan.config_of(study, row["setting"], study.seed)
        done = train_lib.train(config, tmp_path / str(row["number"]), Console(quiet=True))
        (run,) = row["runs"]
        for name in ("select_accuracy", "select_loss", "best_epoch", "epochs", "stopped_because"):
            assert run[name] == done[name], name
        lines = (tmp_path / str(row["number"]) / "metrics.jsonl").read_text().splitlines()
        assert run["curves"]["valid_loss"] == [json.loads(line)["valid_loss"] for line in lines]


def test_every_arm_has_the_same_points_seeds_and_splits(
    whole: tuple[StudyConfig, Path],
) -> None:
    study, path = whole
    rows = trials(study, path)
    rates: dict[str, list[float]] = {}
    for row in rows:
        arm = plan.label(ARMS, plan.arm_of(ARMS, row["params"]))
        rates.setdefault(arm, []).append(row["params"]["optimizer.learning_rate"])
        assert [run["seed"] for run in row["runs"]] == [study.seed]
        assert ("penalty.strength" in row["params"]) == (arm.endswith("l1"))
    assert len(rates) == 4
    assert len({tuple(r) for r in rates.values()}) == 1


def test_the_confirmation_is_of_the_best_on_fresh_seeds(
    whole: tuple[StudyConfig, Path],
) -> None:
    study, path = whole
    found = result.collect(
        study,
        *(Ledger(open_storage("", path), study, phase).trials() for phase in ("search", "confirm")),
    )
    assert found.finished
    assert len(found.confirm_rows) == 8
    assert {row["seed"] for row in found.confirm_rows} == {1, 2}
    for arm in found.arms:
        mine = [row for row in found.rows if row["arm"] == arm.label]
        assert arm.search == max(row["value"] for row in mine)
    assert list(found.table["arm"]) == [arm.label for arm in found.arms]
    assert len(found.trials) == 12
    assert all(words.conclusion(found))


def test_a_dead_workers_trial_is_given_back(
    whole: tuple[StudyConfig, Path], tmp_path: Path
) -> None:
    """Also one that died before it had signed for its trial, and one that left a torn line."""
    study, path = whole
    dead, ledger = planned(study, tmp_path, "dead")
    assert ledger.claim() is not None
    unsigned = ledger._study.ask()
    assert unsigned.user_attrs[NUMBER] == 1
    dead._lock.release()  # as the end of its process would
    with (tmp_path / JOURNAL).open("a") as file:
        file.write('{"op_code": 4, "wor')
    assert trained(study, tmp_path) == trials(study, path)


def test_what_nobody_has_signed_for_is_given_back_beside_another_worker(
    whole: tuple[StudyConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed as it took a trial, resumed by two, of which neither knows it from the other's."""
    study, path = whole
    other, ledger = planned(study, tmp_path, "other")
    ledger._study.ask()
    monkeypatch.setattr(ledger_lib, "UNSIGNED", 0.1)
    assert trained(study, tmp_path) == trials(study, path)
    other.close()


def test_a_trial_that_was_given_back_is_not_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker was too slow to sign for it: it takes the next."""
    study = small(trials=1, confirm=0)
    worker, ledger = planned(study, tmp_path, "slow")
    ask = ledger._study.ask

    def slowly() -> Any:
        trial = ask()
        if trial.user_attrs[NUMBER] == 0:
            ledger._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        return trial

    monkeypatch.setattr(ledger._study, "ask", slowly)
    claim = ledger.claim()
    assert claim is not None
    assert claim.number == 1
    worker.close()


def test_a_trial_is_given_back_however_often_its_worker_is_killed(
    whole: tuple[StudyConfig, Path], tmp_path: Path
) -> None:
    study, path = whole
    for i in range(5):
        dead, ledger = planned(study, tmp_path, f"dead{i}")
        while claim := ledger.claim():
            plan.suggest(claim.trial, study)
        dead._lock.release()
    assert trained(study, tmp_path) == trials(study, path)


DEADLY = """#!{python}
import os, sys
from pathlib import Path
from regjax.config import StudyConfig
from regjax.studies import plan
from regjax.studies.ledger import Ledger, Worker
from regjax.studies.storage import open_storage
from regjax.workdir import read_config

path = Path(sys.argv[3])
study = read_config(path, StudyConfig)
worker = Worker(path, f"{{os.getpid()}}-x")
ledger = Ledger(open_storage("", path), study, "search", worker, local=True)
ledger.mend(plan.search_entries(study))
plan.suggest(ledger.claim().trial, study)
print("out of memory", file=sys.stderr, flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_worker_whose_parent_has_ended_trains_nothing(tmp_path: Path) -> None:
    """It may have while the worker started."""
    study = small(trials=1, confirm=0)
    folder.claim(tmp_path, study)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    command = [sys.executable, "-m", "regjax.studies.worker", str(tmp_path), str(ended.pid)]
    assert subprocess.run(command, input=b"2\n", check=False).returncode == 1
    assert trials(study, tmp_path) == []


def executable(path: Path, script: str) -> str:
    path.write_text(script.format(python=sys.executable))
    path.chmod(0o755)
    return str(path)


def test_workers_that_always_die_end_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the trial at which they do, and loses none."""
    study = small(trials=1, confirm=0, lanes=1)
    script = executable(tmp_path / "deadly", DEADLY)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", script)
        with pytest.raises(InputError, match=r"workers in a row died \(out of.*\) at trial 3 \({"):
            coordinator.run(study, tmp_path / "study", console=Console(quiet=True))
    assert len(trained(study, tmp_path / "study")) == 4


AT_ONE_TRIAL = """#!{python}
import os, sys
from regjax.studies import lanes, worker

start = lanes.OneByOne.start
def deadly(self, job):
    if (job.config.model.norm, job.config.penalty.name) == ("batch", "none"):
        print("out of memory", file=sys.stderr, flush=True)
        os.kill(os.getpid(), 9)
    start(self, job)
lanes.OneByOne.start = deadly
worker.main(*sys.argv[3:])
"""


@pytest.mark.slow
def test_a_deadly_trial_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though two lanes share a process, and though it kills faster than others train."""
    study = small(trials=1, confirm=0, lanes=2)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", executable(tmp_path / "deadly", AT_ONE_TRIAL))
        with pytest.raises(InputError, match=r"workers in a row died \(out.*\) at trial 3 \({"):
            coordinator.run(study, tmp_path / "study", console=Console(quiet=True))
    rows = trials(study, tmp_path / "study")
    assert [row["number"] for row in rows] == [0, 1, 3]


def test_two_plans_at_once_make_no_duplicate(tmp_path: Path) -> None:
    study = small(trials=1, confirm=0)
    worker, ledger = worker_of(study, tmp_path, "one")
    for entry in plan.search_entries(study) * 2:  # as two workers that saw none planned
        ledger._study.enqueue_trial(entry.params, user_attrs={NUMBER: entry.number})
    worker.close()
    assert [row["number"] for row in trained(study, tmp_path)] == [0, 1, 2, 3]
    every = optuna.load_study(study_name="study", storage=open_storage("", tmp_path)).trials
    assert sum(trial.state == optuna.trial.TrialState.COMPLETE for trial in every) == 4


def trained_once(
    study: StudyConfig, path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    """The records of three trials, of which the first alone was run."""
    runs = []
    start = OneByOne.start
    monkeypatch.setattr(OneByOne, "start", lambda *a: runs.append(1) or start(*a))
    rows = trained(study, path)
    assert len(runs) == 1
    assert [row.get("same_as") for row in rows] == [None, 0, 0]
    return rows


def test_what_was_trained_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small(arms=ARMS[:1], ranges={}, trials=3, confirm=0)
    rows = trained_once(study, tmp_path, monkeypatch)
    assert len({row["value"] for row in rows}) == 1


def test_what_diverged_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has diverged again by the record, whatever a pruner was told of it."""
    arms: list[dict[str, Any]] = [{"optimizer.name": "sgd", "optimizer.learning_rate": 1e30}]
    study = small(arms=arms, ranges={}, trials=3, confirm=0, pruner="halving")
    trained_once(study, tmp_path, monkeypatch)
    found = coordinator.read(tmp_path)
    assert [result.diverged(row) for row in found.rows] == [True] * 3


def test_what_was_pruned_is_no_answer(tmp_path: Path) -> None:
    """Beside other trials it may have gone on."""
    worker, ledger = planned(small(trials=1, confirm=0), tmp_path, "one")
    for ended, again in (("pruned", False), ("nan", True)):
        claim = ledger.claim()
        assert claim is not None
        claim.trial.set_user_attr(ledger_lib.KEY, ended)
        ledger.tell(claim, {"runs": [{"stopped_because": ended}]}, None)
        assert (ledger.same(ended) is not None) == again
    worker.close()


def test_workers_that_begin_together_enqueue_each_trial_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small(trials=2, confirm=0)
    both = [worker_of(study, tmp_path, name) for name in ("one", "two")]
    seen = threading.Barrier(2)
    for _, ledger in both:
        enqueue = ledger._study.enqueue_trial

        def slowly(*args: Any, enqueue: Any = enqueue, **options: Any) -> None:
            with contextlib.suppress(threading.BrokenBarrierError):
                seen.wait(0.3)  # for the other, had it planned the same
            enqueue(*args, **options)

        monkeypatch.setattr(ledger._study, "enqueue_trial", slowly)
    entries = plan.search_entries(study)
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda worker: worker[1].mend(entries), both))
    assert len(both[0][1]._study.get_trials()) == len(entries)
    for worker, _ in both:
        worker.close()


@pytest.mark.parametrize(
    "sampler", ["tpe", "cmaes", "random", "qmc", pytest.param("gp", marks=pytest.mark.parity)]
)
def test_one_search_over_arms_and_ranges(sampler: str, tmp_path: Path) -> None:
    """The protocol of the original; started again it proposes the same."""
    study = small(protocol="optuna", sampler=sampler, trials=12, confirm=0)
    rows = trained(study, tmp_path / "a")
    assert [row["number"] for row in rows] == list(range(12))
    # A sampler that learns may come back to an end of the range.
    assert len({row["params"]["optimizer.learning_rate"] for row in rows}) >= 9
    if sampler == "tpe":
        assert trained(study, tmp_path / "b") == rows


def test_pruning_and_patience(tmp_path: Path) -> None:
    study = small(pruner="halving", patience=4, confirm=0)
    study.stopping.patience = 0
    rows = trained(study, tmp_path)
    assert len(rows) <= 12
    found = Ledger(open_storage("", tmp_path), study, "search").trials()
    last = choose.stopped_after(study, found)
    assert last is None or (last + 1) % 4 == 0


def test_a_pruner_judges_what_was_evaluated(tmp_path: Path) -> None:
    """Of bad rates, halving ends some early, and only at the epochs that had an evaluation."""
    ranges = {"optimizer.learning_rate": Range(1e-5, 1e-1, log=True)}
    study = small(arms=ARMS[:1], ranges=ranges, trials=12, pruner="halving", confirm=0)
    study.epochs, study.evaluate_every, study.stopping.patience = 9, 2, 0
    runs = [run for row in trained(study, tmp_path) for run in row["runs"]]
    ends = {run["epochs"] for run in runs if run["stopped_because"] == "pruned"}
    assert ends
    assert all(end % 2 == 0 for end in ends)


def test_a_pruned_trial_has_no_value(tmp_path: Path) -> None:
    """Optuna gives it the last score that its pruner was told, which is of another split."""
    study = small(arms=ARMS[:1], ranges=dict([next(iter(RANGES.items()))]), trials=3, confirm=1)
    _, ledger = planned(study, tmp_path, "one")
    for value in (0.5, None, float("nan")):
        claim = ledger.claim()
        assert claim is not None
        plan.suggest(claim.trial, study)
        claim.trial.report(0.99, 1)
        run = {"seconds": 0.0, "epochs": 1, "best_epoch": 1, "curves": {}, "seed": 0}
        run |= {"stopped_because": "epochs" if value == 0.5 else "pruned"}
        ledger.tell(claim, {"setting": {}, "runs": [run]}, value)
    found = ledger.trials()
    assert [choose.value(trial) for trial in found] == [0.5, None, None]
    rows = result.collect(study, found, []).rows
    np.testing.assert_array_equal([row["value"] for row in rows], [0.5, np.nan, np.nan])


def test_diverged_trials_are_never_best(tmp_path: Path) -> None:
    ranges = {"optimizer.learning_rate": Range(1e-3, 1e38, log=True)}
    study = small(arms=ARMS[:1], ranges=ranges, trials=4, confirm=1)
    rows = trained(study, tmp_path)
    values = [row["value"] for row in rows]
    assert None in values
    best = choose.best_of_arms(study, Ledger(open_storage("", tmp_path), study, "search").trials())
    (chosen,) = plan.confirm_entries(study, best)
    diverged = [row["params"] for row in rows if row["value"] is None]
    assert {k: v for k, v in chosen.params.items() if k != "seed"} not in diverged


def test_both_ends_of_a_range_are_tried_on_the_data() -> None:
    """65 examples are a batch of 64 and one more."""
    ranges = {"batch_size": Range(10, 64, integer=True)}
    study = small(arms=[{"model.norm": "batch"}], ranges=ranges)
    study.data.train = 65
    with pytest.raises(InputError, match="batch_size is 64"):
        coordinator.check(study)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no arms": ({"arms": []}, "study.arms is empty"),
    "arm no dict": ({"arms": ["batch"]}, "expected a dict of fields"),
    "arms of one run": (
        {"arms": [{"model.dropout_rate": 0}, {"model.dropout_rate": 0.0}], "ranges": {}},
        "are the same run",
    ),
    "an arm of the config's own values": (
        {"arms": [{}, {"batch_size": 128}], "ranges": {}},
        "are the same run",
    ),
    "arm field": ({"arms": [{"model.nrom": "batch"}]}, "did you mean 'model.norm'"),
    "arm value": ({"arms": [{"model.norm": "bach"}], "ranges": {}}, "did you mean 'batch'"),
    "arm seed": ({"arms": [{"seed": 1}]}, "which a study sets itself"),
    "arms twice": ({"arms": [{}, {}], "ranges": {}}, "are the same run"),
    "arm not JSON": ({"arms": [{"model.norm": object()}]}, "what JSON cannot"),
    "range empty": ({"ranges": {"penalty.strength": Range(1, 0.1)}}, "the smaller first"),
    "range 0 log": ({"ranges": {"optimizer.learning_rate": Range(0, 1, True)}}, "has no 0"),
    "range name": ({"ranges": {"penalty.strenth": Range(0, 1)}}, "did you mean 'penalty.strength'"),
    "range text": ({"ranges": {"model.norm": Range(0, 1)}}, "is no number"),
    "range int": ({"ranges": {"batch_size": Range(8, 64)}}, "set integer=True"),
    "range outside": ({"ranges": {"model.dropout_rate": Range(0, 2)}}, "in [0, 1]"),
    "range and arm": (
        {"arms": [{"batch_size": 3}], "ranges": {"batch_size": Range(8, 64, integer=True)}},
        "leave it to one of them",
    ),
    "range never": (
        {"arms": [{}], "ranges": {"optimizer.b1": Range(0, 0.9, when={"model.norm": ["layer"]})}},
        "never be drawn",
    ),
    "range no Range": ({"ranges": {"optimizer.b1": (0, 0.9)}}, "expected a Range(low, high)"),
    "range of no field": ({"ranges": {1: Range(0, 1)}}, "give a field's name"),
    "range's when": (
        {"ranges": {"optimizer.b1": Range(0, 0.9, when={"epochs": [object()]})}},
        "what JSON cannot",
    ),
    "no trials": ({"trials": 0}, "study.trials is 0"),
    "sampler": ({"sampler": "tpa"}, "did you mean 'tpe'"),
    "grid": ({"sampler": "grid", "trials": 5}, "choose one of these"),
    "nothing to adapt": ({"sampler": "tpe", "ranges": {}}, "study.ranges is empty"),
    "ranges no dict": ({"ranges": [Range(0, 1)]}, "expected a dict"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_studies_are_refused(name: str) -> None:
    search, message = BAD[name]
    with pytest.raises(InputError) as told:
        small(**search)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([0, 0.9], "study.ranges['optimizer.b1'] is [0, 0.9], expected a Range"),
        ({"low": 0}, "a Range lacks 'high'"),
        ({"low": 0, "hihg": 0.9}, "Range has no field 'hihg' (did you mean 'high'?)"),
    ],
)
def test_a_bad_range_of_a_file_is_told_in_one_line(ranges: Any, message: str) -> None:
    values = json.loads(to_json(small()))
    values["study"]["ranges"] = {"optimizer.b1": ranges}
    with pytest.raises(InputError) as told:
        from_json(json.dumps(values), "x", StudyConfig)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("config", "path", "message"),
    [
        (Config(), "x", "the config is a Config, expected a StudyConfig"),
        (None, "x", "the config is a NoneType"),
        (StudyConfig(), None, "the workdir is None, expected the path"),
        (StudyConfig(), 123, "the workdir is 123"),
        (StudyConfig(), "", "the workdir is ''"),
    ],
)
def test_bad_arguments_of_the_api_are_told_in_one_line(
    config: Any, path: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as told:
        regjax.study(config, path)
    assert message in str(told.value)
    assert not list(tmp_path.iterdir())


def test_another_study_in_the_folder_or_the_storage_is_refused(
    whole: tuple[StudyConfig, Path], tmp_path: Path
) -> None:
    _, path = whole
    other = small(trials=2)
    with pytest.raises(InputError, match=r"another config \(study.trials: 3 there, 2 here\)"):
        folder.claim(path, other)
    with pytest.raises(InputError, match=r"another study named 'study' \(study.trials: 3 there"):
        Ledger(open_storage(f"journal:{path / JOURNAL}", tmp_path), other, "search")


def test_a_storage_that_is_forgotten_or_comes_too_late_is_refused(tmp_path: Path) -> None:
    """Else the whole study would be trained again."""
    study, url = small(), f"sqlite:///me:secret@{tmp_path / 'trials.db'}"
    away, here = tmp_path / "away", tmp_path / "here"
    for _ in range(2):
        folder.claim(away, study, url)
        folder.claim(here, study, f"journal:{here / JOURNAL}")  # where it is by default
    with pytest.raises(InputError, match=r"has its trials in --storage 'sqlite:///me@/"):
        folder.claim(away, study)
    folder.claim(here, study)
    open_storage("", here)
    with pytest.raises(InputError, match=r"has its trials in 'journal.log', not in --storage 'sql"):
        folder.claim(here, study, url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:////nowhere/at/all.db", "cannot be used"),
        ("postgresql://me:secret@localhost:1/none", "cannot be used"),
        ("redis", "is of no known kind"),
        ("journal:/nowhere/at/all.log", "cannot be used"),
    ],
)
def test_a_storage_out_of_reach_is_told_without_its_password(
    url: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as told:
        open_storage(url, tmp_path)
    assert message in str(told.value)
    assert "secret" not in str(told.value)


def test_sqlite_is_a_storage_too(tmp_path: Path) -> None:
    study = small(arms=ARMS[:2], trials=1, confirm=1)
    folder.claim(tmp_path, study)
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    TrialWorker(study, url, tmp_path, OneByOne(Shared())).work()
    for phase, count in (("search", 2), ("confirm", 2)):
        assert len(Ledger(open_storage(url, tmp_path), study, phase).trials()) == count


def test_a_run_has_the_studys_config_but_for_the_study() -> None:
    study = small()
    run = plan.config_of(study, {"model.norm": "batch", "penalty.strength": 0.0}, 7)
    assert type(run) is Config
    assert (run.seed, run.model.norm, run.epochs) == (7, "batch", 3)
    with pytest.raises(InputError, match=r"with penalty.name='l1', penalty.strength=-1"):
        plan.config_of(study, {"penalty.name": "l1", "penalty.strength": -1}, 0)


def test_labels_and_factors() -> None:
    grid = plan.factors(ARMS)
    assert grid == {"model.norm": ["none", "batch"], "penalty.name": ["none", "l1"]}
    for arm in ARMS:
        assert plan.arm_of(ARMS, plan.params_of(ARMS, arm)) == arm
    uneven = [*ARMS[:3], {"model.widths": [4, 4]}]
    labels = plan.factors(uneven)["arm"]
    assert labels == ["none/none/-", "none/l1/-", "batch/none/-", "-/-/[4, 4]"]
    for arm in uneven:
        assert plan.arm_of(uneven, plan.params_of(uneven, arm)) == arm


def test_a_field_that_an_arm_leaves_out_is_the_configs_own() -> None:
    """Not null, which is a value too, and no level beside the same value where it is given."""
    base = StudyConfig(model=ModelConfig(norm="batch"))
    base.optimizer.weight_decay = 0.1
    cases: list[tuple[list[dict[str, Any]], list[str]]] = [
        ([{}, {"optimizer.weight_decay": None}], ["0.1", "null"]),
        ([{}, {"model.norm": "layer"}], ["batch", "layer"]),
        ([{"epochs": 3}, {"epochs": 4, "model.dropout_rate": 0}], ["3", "4"]),
        ([{}, {"model.widths": (8,)}], ["[128]", "[8]"]),
    ]
    base.model.widths = (128,)
    for arms, labels in cases:
        base.study = SearchConfig(arms=arms)
        checked = plan.check(base)
        found = checked.study.arms
        assert [plan.label(found, arm) for arm in found] == labels
        assert [plan.arm_of(found, plan.params_of(found, arm)) for arm in found] == found
        assert plan.check(checked) == checked
        assert from_json(to_json(checked), "x", StudyConfig) == checked
    study = small(arms=[{}, {"model.norm": "layer"}], ranges={}, trials=1, confirm=2)
    found = made_up(study, [0.5, 0.6], none=[0.5, 0.5], layer=[0.6, 0.7])
    assert [row[0] for row in report.cells(found)] == ["layer", "none"]
    grid = [{}, {"model.norm": "layer"}, {"epochs": 9}, {"model.norm": "layer", "epochs": 9}]
    assert plan.factors(small(arms=grid, ranges={}).study.arms) == {
        "model.norm": ["none", "layer"],
        "epochs": ["3", "9"],
    }


@pytest.mark.parametrize("ranged", [False, True])
def test_epochs_may_be_varied(ranged: bool, tmp_path: Path) -> None:
    """How many a trial was given is not how many it trained."""
    ranges = {"epochs": Range(10, 30, integer=True)} if ranged else {}
    study = small(arms=[{}] if ranged else sweeps.over("epochs", [3, 5]), ranges=ranges, trials=2)
    points = [entry.params["epochs"] for entry in plan.search_entries(study)]
    scores = {"all": [0.7, 0.8]} if ranged else {"3": [0.5, 0.6], "5": [0.7, 0.8]}
    found = made_up(study, [0.5, 0.6] * (len(points) // 2), **scores)
    assert [row["epochs"] for row in found.rows] == [p if ranged else int(p) for p in points]
    assert {row["trained_epochs"] for row in found.rows} == {1}
    assert found.arms[0].setting == {"epochs": points[1] if ranged else 5}
    report.write(found, tmp_path)


def test_a_trend_is_of_trials_that_were_trained() -> None:
    """A copy of another is no evidence of its own."""
    study = small(arms=[{}], ranges={"optimizer.b1": Range(0, 0.9)}, trials=4, confirm=0)
    assert "optimizer.b1" in made_up(study, [0.1, 0.2, 0.3, 0.4]).trends
    first, *others = plan.search_entries(study)
    copies = [_trial(entry, 0.1, 0, same_as=0) for entry in others]
    assert not result.collect(study, [_trial(first, 0.1, 0), *copies], []).trends


def test_a_split_that_is_fixed_is_not_called_fresh() -> None:
    study = small(arms=NORMS, ranges={}, trials=1, confirm=2)
    for split_seed, where in ((-1, "fresh seeds and splits"), (5, "fresh seeds of one split")):
        study.data.split_seed = split_seed
        found = made_up(study, [0.5] * 3, none=[0.5, 0.6], batch=[0.5, 0.6], layer=[0.5, 0.6])
        assert f"2 {where} an arm" in report.headline(found)
        assert f"on {where}." in words.note(found)


@pytest.mark.parametrize(("objective", "best"), [("select_r2", -0.25), ("select_loss", -1.5)])
def test_the_bar_shows_the_best_with_its_sign(objective: str, best: float) -> None:
    study = small(arms=ARMS[:1], ranges={}, trials=2)
    study.study.objective = objective
    entries = plan.search_entries(study)
    done = [_trial(e, v, 0) for e, v in zip(entries, (-0.25, -1.5), strict=True)]
    shown = progress._Trials(study, Console(quiet=True), None)._summary([done, []], 2)
    assert f"best {best:.4f}" in shown


def test_a_condition_on_a_tuple_is_that_of_its_file(tmp_path: Path) -> None:
    ranges = {"optimizer.b1": Range(0, 0.9, when={"model.widths": [(8,)]})}
    for arms in (NORMS, sweeps.over("model.widths", [(8,), (16,)])):
        study = small(arms=arms, ranges=ranges)
        assert "optimizer.b1" in plan.applying(study, study.study.arms[0])
        assert from_json(to_json(study), "x", StudyConfig) == study
        folder.claim(tmp_path / str(len(arms)), study)


def test_a_single_arm_is_told_too() -> None:
    study = small(arms=[{}], ranges={}, trials=1, confirm=3)
    (told,) = words.conclusion(made_up(study, [0.5], all=[0.5, 0.5, 0.5]))
    assert told == (
        "The arm's test accuracy is 50.00, the mean over 3 seeds (95 % interval 50.00 to 50.00)."
    )
    told = " ".join(words.conclusion(made_up(study, [0.5], all=[0.5, None, None])))
    assert "is 50.00, the mean over 1 seed. In the confirmation the arm diverged on 2 of 3" in told


def test_trials_that_diverged_are_counted_and_the_plots_trials_are_whole() -> None:
    found = made_up(small(arms=NORMS, ranges={}, trials=2, confirm=0), [0.5, None, 0.6, None])
    assert "The best of 4 trials (2 without a number) is layer" in words.conclusion(found)[0]
    _, draw, height = plots.plots(found)["search"]
    axes: list[Any] = []
    drawing.render(lambda a: (draw(a), axes.append(a)), drawing.LIGHT, height)
    assert all(tick == round(tick) for tick in axes[0].get_xticks())


OUTLOOKS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a larger, longer arm behind a small one": (
        {"arms": [{"epochs": 2}, {"epochs": 200, "model.widths": (512,)}], "ranges": {}},
        # 2 trials and 2 runs of the confirmation an arm, a second a compilation.
        ["2 programs to compile", "about 512 MiB", "0.512 s an epoch", "about 6.9 min if no"],
    ),
    "a range over structure": (
        {"arms": [{}], "ranges": {"batch_size": Range(8, 128, integer=True)}, "trials": 5},
        ["up to 5 programs to compile", "about 8 MiB", "0.008 s an epoch"],
    ),
    "an end at which a number is left out": (
        {"arms": [{}], "ranges": {"model.dropout_rate": Range(0, 0.5)}, "trials": 5},
        ["up to 2 programs to compile"],
    ),
    "numbers only": ({"arms": ARMS, "ranges": RANGES}, ["\n2 programs to compile"]),
    "one search": (
        {"arms": ARMS, "ranges": {}, "protocol": "optuna", "trials": 1},
        ["\n1 program to compile"],
    ),
}


@pytest.mark.parametrize("name", OUTLOOKS)
def test_what_a_study_takes_is_told_of_its_largest_arm(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, expected = OUTLOOKS[name]

    def measure(parts: Any) -> outlook.Cost:
        size = parts.config.model.widths[0]
        return outlook.Cost(1.0, size / 1000, size * 2.0**20)

    monkeypatch.setattr(outlook, "_measure", measure)
    console = Console(width=200)
    with console.capture() as told:
        outlook.show(small(**{"trials": 2, "confirm": 2, "lanes": 1, **search}), console)
    for sentence in expected:
        assert sentence in told.get()


def test_no_two_arms_have_one_label() -> None:
    """Masks and paths have slashes, as labels do."""
    masks = ["*", "*/*", "-", '"*"', "*/*/*"]
    grid = sweeps.product(
        sweeps.over("penalty.mask", masks), sweeps.over("optimizer.decay_mask", masks)
    )
    for arms in (grid, grid[1:], [*grid, {"penalty.mask": "*"}]):
        labels = [plan.label(arms, arm) for arm in arms]
        assert len(set(labels)) == len(arms)
        for arm in arms:
            assert plan.arm_of(arms, plan.params_of(arms, arm)) == arm


ODD = ["*/*", "[a-h]*/kernel,*[/]x,$\\frac{$,<script>|", f"*,{'unheard_of_layer' * 8},λ中"]


def test_a_report_shows_any_name_as_it_is(tmp_path: Path) -> None:
    """No markup, of HTML, Markdown, rich or TeX, is read out of names."""
    arms = sweeps.product(sweeps.over("penalty.name", ["l1"]), sweeps.over("penalty.mask", ODD))
    ranges = {"penalty.strength": Range(1e-5, 1e-2, log=True)}
    study = small(arms=arms, ranges=ranges, trials=1, confirm=2, name="<script>a|b</script>")
    trained(study, tmp_path)
    found = coordinator.read(tmp_path)
    report.write(found, tmp_path)
    page, text = ((tmp_path / name).read_text() for name in (report.HTML, report.MARKDOWN))
    assert "<script" not in page + re.sub("`[^`]*`", "", text)
    assert "&lt;script&gt;a|b&lt;/script&gt;" in page
    rows = [line for line in text.splitlines() if "[a-h]" in line and line.startswith("| ")]
    assert len({line.replace("\\|", "").count("|") for line in rows[:1]}) == 1
    console = Console(width=400)
    with console.capture() as told:
        console.print(report.table(found))
    assert all(mask in told.get() for mask in ODD)
    assert {path.name for path in (tmp_path / "figures").iterdir()} >= {"arms.png", "search.png"}


def test_penalty_defaults_of_the_study_reach_every_arm() -> None:
    study = small()
    study.penalty = PenaltyConfig(mask="all")
    assert plan.config_of(study, ARMS[1], 0).penalty.mask == "all"
