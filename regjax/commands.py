"""The commands of `regjax`: the flags of each, and what it does.

JAX is imported by the commands, not by this module, so that help and mistakes answer at once.
"""

import json
import os
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from regjax import config as config_lib
from regjax import hosts, interrupts
from regjax.config import Config, StudyConfig
from regjax.errors import InputError


class Command(NamedTuple):
    """A command: what it does, an example, the function that does it, its config, its flags."""

    summary: str
    example: str
    run: Callable[[flags.FlagValues], None]
    config: type[Config] | None  # None: it takes none
    others: tuple[Callable[[flags.FlagValues], None], ...] = ()  # each defines some

    def define(self, values: flags.FlagValues, argv: list[str]) -> None:
        """Defines its flags; those of the config that are overridden are read off `argv`."""
        if self.config:
            _config_flag(values, argv, self.config)
        for define in self.others:
            define(values)


class _ConfigFile(flags.ArgumentParser):
    """Loads a config file by our rules, whose errors say what to do."""

    def parse(self, argument: str) -> Config | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns the config of a file."""
        return config_lib.load(argument) if argument else None


def _config_flag(values: flags.FlagValues, argv: list[str], kind: type[Config]) -> None:
    fields = {name for name, _ in config_lib.flatten(kind())} - {"study.arms", "study.ranges"}
    for argument in argv:
        override = re.match(r"--?(?:no)?config\.([^=]*)", argument)
        if override and override[1] not in fields:
            raise InputError(config_lib.suggest_field(override[1], kind))
    help_text = "a Python file with get_config(); fields are set by --config.FIELD=VALUE"
    config_flags.DEFINE_config_file(
        "config",
        None,
        help_text,
        flag_values=values,
        sys_argv=["regjax", *map(in_numbers, argv)],
    )
    values["config"].parser = _ConfigFile()


def in_numbers(argument: str) -> str:
    """An override with the number that a word stands for, as in --config.study.lanes=auto."""
    name, _, value = argument.lstrip("-").partition("=")
    for field, _, metadata in config_lib.fields(StudyConfig):
        if name == f"config.{field}" and value in metadata.get("words", {}):
            return f"--{name}={metadata['words'][value]}"
    return argument


def _workdir_flag(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "the folder of the run", flag_values=values)


def _required(values: flags.FlagValues, name: str, hint: str) -> str:
    value = values[name].value
    if not value:
        raise InputError(f"--{name} is missing; {hint}")
    return value


def _watch_flags(values: flags.FlagValues) -> None:
    text = "who is told each epoch: some of tensorboard, wandb, jsonl, joined by commas"
    flags.DEFINE_string("watch", "", text, flag_values=values)
    text = "START:STOP, the epochs that JAX's profiler traces into the folder's profile/"
    flags.DEFINE_string("profile", "", text, flag_values=values)


def _hosts_flags(values: flags.FlagValues) -> None:
    text = "on many hosts: HOST:PORT of process 0, or auto on SLURM, GKE or Cloud TPU"
    flags.DEFINE_string("coordinator", None, text, flag_values=values)
    connect, heartbeat = hosts.CONNECT_SECONDS, hosts.HEARTBEAT_SECONDS
    numbers = {
        "num_processes": (None, "how many processes there are"),
        "process_id": (None, "which of them this is, from 0"),
        "connect_timeout": (connect, "seconds to wait for the others at the start"),
        "heartbeat_timeout": (heartbeat, "seconds of silence after which one is dead"),
    }
    for name, (default, text) in numbers.items():
        flags.DEFINE_integer(name, default, f"on many hosts: {text}", flag_values=values)


def _train(values: flags.FlagValues) -> None:
    config = config_lib.check(_run_config(values))
    workdir = _required(
        values, "workdir", "give the folder to train in, e.g. --workdir=runs/digits"
    )
    names = ("coordinator", "num_processes", "process_id", "connect_timeout", "heartbeat_timeout")
    given: list[Any] = [values[name].value for name in names]
    writers, profile = (values[name].value or "" for name in ("watch", "profile"))
    with hosts.connected(hosts.from_flags(*given)):
        _train_here(config, workdir, writers, profile)


def _train_here(config: Config, workdir: str, writers: str, profile: str) -> None:
    from regjax import programs, progress, together, train, watch

    programs.keep()
    console = together.console()
    watched = watch.parse(writers, profile, config.epochs)
    result = train.train(config, workdir, console, watched, interrupts.listening)
    score = config_lib.score_name(config)
    scores = {name: result[name] for name in (f"{s}_{score}" for s in ("test", "select", "valid"))}
    shown = [f"{name} {value:.4f}" for name, value in scores.items() if value is not None]
    shown += [f"{name} {result[name]}" for name in ("best_epoch", "epochs")]
    progress.say(console, f"{'  '.join(shown)}  stopped by {result['stopped_because']}")
    progress.say(console, f"result in {os.path.join(workdir, 'result.json')}")


def _split_flags(values: flags.FlagValues, default: str) -> None:
    splits = ["train", "valid", "select", "test"]
    flags.DEFINE_enum("split", default, splits, "the split to look at", flag_values=values)
    flags.DEFINE_bool("json", False, "print JSON instead of text", flag_values=values)


def _evaluate(values: flags.FlagValues) -> None:
    workdir = _required(values, "workdir", "give the folder of a trained run")
    from regjax import evaluate, programs, progress
    from regjax.workdir import plain

    programs.keep()
    measured = evaluate.evaluate(workdir, values["split"].value or "test")
    if values["json"].value:
        print(json.dumps(plain(measured), indent=2))
        return
    console = progress.stdout()
    if "classes" in measured:
        console.print(evaluate.table(measured))
    numbers = [f"{key} {measured[key]:.6g}" for key in evaluate.NUMBERS if key in measured]
    progress.say(console, "  ".join(numbers))


def _inspect(values: flags.FlagValues) -> None:
    workdir = _required(values, "workdir", "give the folder of a trained run")
    from regjax import inspect, programs, progress
    from regjax.workdir import plain

    programs.keep()
    found = inspect.inspect(workdir, values["split"].value or "valid")
    figures = inspect.write(workdir, found)
    if values["json"].value:
        print(json.dumps(plain(found), indent=2))
        return
    console = progress.stdout()
    inspect.show(found, console)
    progress.say(console, f"figures in {figures}")


def _dry_run_flag(values: flags.FlagValues) -> None:
    text = "print what would be run, and run nothing"
    flags.DEFINE_bool("dry_run", False, text, flag_values=values)


def _storage_flag(values: flags.FlagValues) -> None:
    text = "where trials are recorded: nothing for a file in --workdir, or a database's URL"
    flags.DEFINE_string("storage", "", text, flag_values=values)


def _study(values: flags.FlagValues) -> None:
    config = _config(values)
    if not isinstance(config, StudyConfig):
        raise InputError(
            "--config is that of one run, not of a study; train it with `regjax train`, or have "
            "get_config() return a regjax.config.StudyConfig"
        )
    from regjax import progress

    console = progress.stdout()
    if values["dry_run"].value:
        from regjax.studies import outlook

        outlook.show(config, console)
        return
    workdir = _required(values, "workdir", "give the study's folder, e.g. --workdir=runs/study")
    from regjax.studies import coordinator

    found = coordinator.run(config, workdir, values["storage"].value or "", console)
    _show_study(found, workdir, console)


def _report(values: flags.FlagValues) -> None:
    workdir = _required(values, "workdir", "give the folder of a study")
    from regjax import progress
    from regjax.studies import coordinator, folder, report

    found = coordinator.read(workdir, values["storage"].value or "")
    report.write(found, folder.place(workdir))
    _show_study(found, workdir, progress.stdout())


def _show_study(found: Any, workdir: str, console: Any) -> None:
    """The end of a study: its table, its conclusion, its report."""
    from regjax import progress
    from regjax.studies import report, words

    if found.arms:
        console.print(report.table(found))
    for sentence in words.conclusion(found):
        progress.say(console, sentence)
    progress.say(console, f"report: {os.path.join(workdir, report.HTML)}")


def _show(values: flags.FlagValues) -> None:
    config = config_lib.check(_run_config(values))
    from regjax import assembly, progress, show

    console = progress.stdout()
    parts = assembly.assemble(config)
    console.print(show.fields(config))
    console.print(show.parameters(parts))


def _run_config(values: flags.FlagValues) -> Config:
    config = _config(values)
    if isinstance(config, StudyConfig):
        raise InputError("--config is that of a study, not of one run; use `regjax study`")
    return config


def _config(values: flags.FlagValues) -> Config:
    return _required(values, "config", "give a config file, e.g. --config=configs/digits.py")  # pyright: ignore[reportReturnType]


COMMANDS = {
    "train": Command(
        "train a config to its end, or go on with what was begun in the folder",
        "regjax train --config=configs/digits.py --workdir=runs/digits "
        "--config.optimizer.learning_rate=0.003",
        _train,
        Config,
        (_workdir_flag, _watch_flags, _hosts_flags),
    ),
    "evaluate": Command(
        "the best weights of a run on one split, class by class",
        "regjax evaluate --workdir=runs/digits --split=test",
        _evaluate,
        None,
        (_workdir_flag, partial(_split_flags, default="test")),
    ),
    "inspect": Command(
        "a trained run from inside: layers, gradients, sharpness, calibration; with figures",
        "regjax inspect --workdir=runs/digits --split=valid",
        _inspect,
        None,
        (_workdir_flag, partial(_split_flags, default="valid")),
    ),
    "study": Command(
        "search over arms and ranges, confirm each arm's best on fresh seeds, write a report",
        "regjax study --config=configs/study_digits.py --workdir=runs/study_digits",
        _study,
        StudyConfig,
        (_workdir_flag, _storage_flag, _dry_run_flag),
    ),
    "report": Command(
        "write a study's report anew, finished or not",
        "regjax report --workdir=runs/study_digits",
        _report,
        None,
        (_workdir_flag, _storage_flag),
    ),
    "show": Command(
        "a config's fields and its network's parameters, without training",
        "regjax show --config=configs/digits.py",
        _show,
        Config,
    ),
}
