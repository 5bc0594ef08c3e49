"""Configs: checked by field, read from files, written as JSON."""

import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regjax import config as config_lib
from regjax.config import (
    Config,
    DataConfig,
    LossConfig,
    OptimizerConfig,
    PenaltyConfig,
    StoppingConfig,
    StudyConfig,
)
from regjax.errors import InputError
from regjax.studies import plan

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_is_valid_and_says_how_it_is_run(path: Path) -> None:
    config = config_lib.load(str(path))
    is_study = isinstance(config, StudyConfig)
    config = plan.check(config) if is_study else config_lib.check(config)
    assert config_lib.from_json(config_lib.to_json(config), "x", type(config)) == config
    command = "study" if is_study else "train"
    assert f"regjax {command} --config=configs/{path.name} --workdir=" in path.read_text()


def test_unknown_field_is_refused_with_the_closest() -> None:
    config = Config()
    with pytest.raises(InputError, match=r"no field 'learning_rte' \(did you mean 'learning_rate'"):
        config.optimizer.learning_rte = 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1.5}, "seed is 1.5 (float), expected an int"),
        ({"seed": True}, "seed is True (bool), expected an int"),
        ({"seed": -1}, "seed is -1, expected a number in [0, 2147483647]"),
        ({"epochs": 0}, "epochs is 0, expected a number in [1, inf)"),
        ({"penalty": PenaltyConfig("l1", -1e-9)}, "penalty.strength is -1e-09, expected"),
        ({"penalty": PenaltyConfig("l1", float("nan"))}, "penalty.strength is nan, expected"),
        ({"penalty": PenaltyConfig("l1", float("inf"))}, "penalty.strength is inf, expected"),
        ({"penalty": PenaltyConfig("l3", 0.0)}, "penalty.name is 'l3', expected one of none, l1"),
        ({"penalty": PenaltyConfig("none", 0.1)}, "so it would do nothing"),
        ({"penalty": "l1"}, "penalty is a str, expected a PenaltyConfig"),
        (
            {"loss": LossConfig(label_smoothing=1.5)},
            "loss.label_smoothing is 1.5, expected a number in [0, 1]",
        ),
        ({"optimizer": OptimizerConfig(learning_rate="a")}, "optimizer.learning_rate is 'a' (str)"),
        ({"optimizer": OptimizerConfig(name="adm")}, "(did you mean 'adam'?)"),
        ({"optimizer": OptimizerConfig(nesterov=True)}, "needs optimizer.momentum above 0"),
        ({"optimizer": OptimizerConfig("adamw", decay="coupled")}, "set optimizer.name to adam"),
        (
            {"optimizer": OptimizerConfig(average="swa", average_start=9.5), "epochs": 10},
            "begins after epoch 10.5",
        ),
        ({"optimizer": OptimizerConfig(b1="x")}, "optimizer.b1 is 'x' (str), expected a float"),
        ({"optimizer": OptimizerConfig(epsilon=0.0)}, "optimizer.epsilon is 0.0, expected"),
        ({"penalty": PenaltyConfig("entropy", 0.1, mode="proximal")}, "no proximal operator"),
        (
            {"data": DataConfig(task="regression")},
            "so set loss.name to mean_squared, stopping.monitor to valid_loss, stopping.mode",
        ),
        ({"stopping": StoppingConfig(monitor="valid_r2")}, "so set stopping.monitor to valid_acc"),
        ({"stopping": StoppingConfig("gl")}, "set it to valid_loss"),
        (
            {"loss": LossConfig("focal", label_smoothing=0.1)},
            "loss.label_smoothing is set but loss.name is 'focal'",
        ),
    ],
)
def test_bad_values_are_named(change: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        config_lib.check(dataclasses.replace(Config(), **change))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numpy_numbers_and_lists_become_plain() -> None:
    config = Config(seed=np.int64(3), loss=LossConfig(label_smoothing=np.float32(0.5)))
    config.model.widths = [np.int32(8)]
    checked = config_lib.check(config)
    assert (type(checked.seed), type(checked.loss.label_smoothing)) == (int, float)
    assert checked.model.widths == (8,)


def test_differences_ignore_where_the_data_lie() -> None:
    a, b = Config(), Config()
    b.data.data_dir = "/elsewhere"
    assert config_lib.differences(a, b) == []
    b.optimizer.learning_rate = 0.5
    assert config_lib.differences(a, b) == ["optimizer.learning_rate: 0.001 there, 0.5 here"]


@given(
    seed=st.integers(0, 2**31 - 1),
    rate=st.floats(1e-12, 1e3),
    widths=st.lists(st.integers(1, 9999), max_size=5),
)
def test_json_round_trip_is_exact(seed: int, rate: float, widths: list[int]) -> None:
    config = Config(seed=seed, optimizer=OptimizerConfig(learning_rate=rate))
    config.model.widths = tuple(widths)
    assert config_lib.from_json(config_lib.to_json(config), "x") == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:", "not valid Python, line 1"),
        ("x = 1", "no function get_config()"),
        ("def get_config():\n  return {}", "returned dict, expected a regjax.config.Config"),
        ("def get_config():\n  pass", "is a return missing?"),
        ("def get_config():\n  raise RuntimeError('a\\nb')", "RuntimeError in line 2: a b"),
        ("import nothing_of_the_kind", "ModuleNotFoundError in line 1"),
        ("raise SystemExit(0)", "SystemExit in line 1"),
        (
            "from regjax.config import *\ndef get_config():\n  return Config(sed=1)",
            "Config has no field 'sed' (did you mean 'seed'?)",
        ),
        (
            "from regjax.config import *\ndef get_config():\n  c = Config()\n  c.sed = 1",
            "Config has no field 'sed' (did you mean 'seed'?)",
        ),
    ],
)
def test_bad_files_are_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "c.py"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        config_lib.load(str(file))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_changed_within_a_second_is_run_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's bytecode knows a file by the second of its change and its size."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "seed.py"
    for seed in (1, 2):
        text = "from regjax.config import Config\n\ndef get_config():\n    return Config(seed={})\n"
        path.write_text(text.format(seed))
        os.utime(path, (1e9, 1e9))
        assert config_lib.load(str(path)).seed == seed
    assert list(tmp_path.iterdir()) == [path]
