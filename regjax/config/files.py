"""Configs as files: Python with a `get_config()`, and the JSON that runs and studies leave."""

import dataclasses
import importlib.util
import inspect
import json
import re
import typing
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from regjax.config import sections
from regjax.config.checks import check
from regjax.config.field_types import Fields, unknown
from regjax.config.sections import AnyConfig, Config, StudyConfig
from regjax.errors import InputError, one_line
from regjax.sweeps import Range


class _AsItIs(SourceFileLoader):
    """Leaves no bytecode beside a file and takes none, which within a second may be stale."""

    def get_code(self, fullname: str) -> Any:
        """Compiles the file."""
        return self.source_to_code(self.get_data(self.path), self.path)


def execute(file: Path) -> ModuleType:
    """The module that a Python file is, run now; whatever it raises is raised."""
    loader = _AsItIs("regjax_file", str(file))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def load(path: str) -> Config:
    """Runs a config file and returns what its `get_config()` returns, unchecked.

    Args:
      path: a Python file, or the `config.json` that a run or a study has left.

    Raises:
      InputError: no such file, not Python, no `get_config`, an error in it, or no `Config`.
    """
    file = Path(path)
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise InputError(f"config file '{path}' {what}; give the path of a Python file")
    if file.suffix == ".json":
        return _load_json(file)
    if file.suffix != ".py":
        raise InputError(f"config file '{path}' is not a Python file; its name must end in .py")
    try:
        module = execute(file)
        if not hasattr(module, "get_config"):
            raise InputError("it has no function get_config(); define one that returns a Config")
        config = module.get_config()
    except InputError as error:
        raise InputError(f"config file '{path}': {error}") from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise InputError(f"config file '{path}': {_describe(error, file)}") from error
    if inspect.iscoroutine(config):
        config.close()  # an async get_config: refused below, without Python's warning
    if not isinstance(config, Config):
        raise InputError(
            f"config file '{path}': get_config() returned {type(config).__name__}, "
            "expected a regjax.config.Config; is a return missing?"
        )
    return config


def _load_json(file: Path) -> Config:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"config file '{file}' cannot be read: {error}") from error
    return from_json(text, str(file), StudyConfig if '"study"' in text else Config)


def _describe(error: BaseException, file: Path) -> str:
    """One line for an error raised by a config file, with its line where that is known."""
    named = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    cls = getattr(sections, named[1], None) if named else None
    if named and isinstance(cls, type) and issubclass(cls, Fields):
        return unknown(cls, named[2])
    if isinstance(error, SyntaxError):
        return f"not valid Python{f', line {error.lineno}' * bool(error.lineno)}: {error.msg}"
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f" in line {line}" if line else ""
    return f"{type(error).__name__}{where}: {one_line(error)}"


def to_json(config: Config) -> str:
    """Returns the config as JSON text that `from_json` reads back."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str, source: str, kind: type[AnyConfig] = Config) -> AnyConfig:
    """Reads what `to_json` wrote.

    Args:
      text: JSON.
      source: the file's name, for messages.
      kind: `Config` or `StudyConfig`.

    Raises:
      InputError: not JSON, unknown fields, or values that `check` refuses.

    >>> from_json(to_json(Config(seed=3)), "config.json").seed
    3
    """
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"holds a {type(values).__name__}, expected an object")
    except ValueError as error:
        raise InputError(
            f"'{source}' is not a regjax config: {error}; restore it, or give another folder"
        ) from error
    if ("study" in values) != (kind is StudyConfig):
        there, here = ("study", "run") if "study" in values else ("run", "study")
        raise InputError(f"'{source}' is of a {there}, expected that of a {here}")
    try:
        return check(_from_dict(kind, values))
    except InputError as error:
        raise InputError(f"'{source}' is not a config of this version: {error}") from error


def _from_dict(cls: type, values: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(cls)
    given = {}
    for name, value in values.items():
        if name not in hints:
            raise InputError(unknown(cls, name))
        nested = dataclasses.is_dataclass(hints[name]) and isinstance(value, dict)
        given[name] = _from_dict(hints[name], value) if nested else value
        if hints[name] == dict[str, Range] and isinstance(value, dict):
            given[name] = {
                key: _from_dict(Range, ends) if isinstance(ends, dict) else ends
                for key, ends in value.items()
            }
    missing = [
        f.name
        for f in dataclasses.fields(cls)
        if f.name not in given
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"a {cls.__name__} lacks '{missing[0]}'")
    return cls(**given)
