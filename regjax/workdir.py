"""The folder of one run: its config, metrics and result as files that are never half-written."""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from regjax import config as config_lib
from regjax.config import AnyConfig, Config, StudyConfig
from regjax.errors import InputError

CONFIG = "config.json"


class Workdir:
    """Names and file formats of what a run leaves.

    Args:
      path: the folder; it need not exist yet.

    Raises:
      InputError: a path that checkpoints cannot have.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        whole = str(self.path.absolute())
        if whole != whole.encode(errors="replace").decode():
            raise InputError(f"--workdir {str(self.path)!r} is not valid UTF-8; rename it")
        if found := set("[]\\") & set(whole):
            raise InputError(
                f"--workdir '{whole}' has a '{min(found)}', which checkpoints cannot have in their "
                "path; rename it"
            )
        self.config = self.path / CONFIG
        self.metrics = self.path / "metrics.jsonl"
        self.result = self.path / "result.json"
        self.checkpoints = self.path / "checkpoints"
        self.refit = self.path / "checkpoints_refit"

    def check(self, config: Config) -> None:
        """Says what speaks against running `config` here, before anything is computed.

        Raises:
          InputError: not a folder, another run's folder, or checkpoints of an unknown one.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--workdir '{self.path}' is a file; give a folder")
        if self.config.exists():
            differences = config_lib.differences(self.read_config(), config)
            if differences:
                raise InputError(
                    f"--workdir '{self.path}' holds a run with another config "
                    f"({'; '.join(differences)}); give another --workdir or the same config"
                )
        for folder in (self.checkpoints, self.refit):
            if folder.exists() and not folder.is_dir():
                raise InputError(f"'{folder}' is no folder; give another --workdir")
        ours = (self.metrics, self.result, self.checkpoints, self.refit)
        if not self.config.exists() and (found := [p.name for p in ours if p.exists()]):
            raise InputError(
                f"--workdir '{self.path}' has {found[0]} but no config.json, so whose it is is "
                "unknown; give another --workdir"
            )

    def read_config(self) -> Config:
        """Reads `config.json`.

        Raises:
          InputError: no run there, or a damaged file.
        """
        return read_config(self.path, Config)

    @contextlib.contextmanager
    def claim(self, config: Config) -> Iterator[None]:
        """Makes the folder this process's own while it trains, with `config.json` in it.

        Raises:
          InputError: another process is at work there, or the folder cannot be written.
        """
        with alone(self.path, "training"):
            self.check(config)  # again: another process may have come first
            if not self.config.exists():
                write(self.config, config_lib.to_json(config))
            yield

    def read_metrics(self) -> list[dict[str, Any]]:
        """The complete lines of `metrics.jsonl`; one torn by a kill is left out."""
        return read_lines(self.metrics)

    def keep_metrics(self, epochs: int, phase: str = "") -> list[int]:
        """Drops a phase's lines of epochs after `epochs`, to be trained again; returns those kept.

        Args:
          epochs: up to which.
          phase: what its lines say in `phase`; "": those that say nothing.
        """
        lines = [(line.get("phase", ""), line) for line in self.read_metrics()]
        kept = [(of, line) for of, line in lines if of != phase or line["epoch"] <= epochs]
        write_lines(self.metrics, [line for _, line in kept])
        return [line["epoch"] for of, line in kept if of == phase]

    def add_metrics(self, line: dict[str, Any]) -> None:
        """Appends one epoch's line."""
        add_line(self.metrics, line)

    def read_result(self) -> dict[str, Any] | None:
        """Reads `result.json`, or None where there is none or it is damaged."""
        with contextlib.suppress(FileNotFoundError):
            result = _read_object(self.result.read_text(errors="replace"))
            return result if "best_epoch" in result else None
        return None

    def write_result(self, result: dict[str, Any]) -> None:
        """Writes `result.json`, whole or not at all."""
        write(self.result, json.dumps(plain(result), indent=2) + "\n")


def read_config(folder: Path, kind: type[AnyConfig]) -> AnyConfig:
    """Reads the `config.json` of a run's or a study's folder.

    Raises:
      InputError: none there, one of the other kind, or a damaged file.
    """
    what, command = ("study", "study") if kind is StudyConfig else ("run", "train")
    path = folder / CONFIG
    try:
        text = path.read_text()
    except FileNotFoundError as error:
        raise InputError(
            f"--workdir '{folder}' holds no {what} (no {CONFIG}); `regjax {command}` makes one"
        ) from error
    except NotADirectoryError as error:
        raise InputError(f"--workdir '{folder}' is a file; give a folder") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"'{path}' cannot be read: {error}") from error
    return config_lib.from_json(text, str(path), kind)


@contextlib.contextmanager
def alone(folder: Path, doing: str) -> Iterator[None]:
    """Makes a folder, and this process the only one at work there.

    Args:
      folder: the `--workdir`.
      doing: what the processes do in it, as a message tells it.

    Raises:
      InputError: another process is at work there, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except filelock.Timeout as error:
        raise InputError(
            f"another process is {doing} in --workdir '{folder}'; wait for it, or give another "
            "--workdir"
        ) from error
    except OSError as error:
        lost = "it is a link that leads nowhere" if folder.is_symlink() else None
        raise InputError(
            f"--workdir '{folder}' cannot be written: {lost or error.strerror or error}"
        ) from error
    try:
        yield
    finally:
        lock.release()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The epochs of a file of JSON lines; a line torn by a kill is left out, as is a lost file."""
    if not path.exists():
        return []
    lines = map(_read_object, path.read_text(errors="replace").splitlines())
    return [line for line in lines if "epoch" in line]


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Writes a file of JSON lines, whole or not at all."""
    write(path, "".join(json.dumps(line) + "\n" for line in lines))


def add_line(path: Path, line: dict[str, Any]) -> None:
    """Appends to a file of JSON lines."""
    with path.open("a") as file:
        file.write(json.dumps(plain(line)) + "\n")


def _read_object(text: str) -> dict[str, Any]:
    """A JSON object, empty where the text is none."""
    with contextlib.suppress(json.JSONDecodeError):
        values = json.loads(text)
        return values if isinstance(values, dict) else {}
    return {}


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Values as JSON knows them: what is not finite becomes null.

    >>> plain({"loss": float("nan"), "epoch": 3})
    {'loss': None, 'epoch': 3}
    """

    def of(value: Any) -> Any:
        if isinstance(value, dict):
            return plain(value)
        if isinstance(value, list):
            return [of(x) for x in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {name: of(value) for name, value in values.items()}


def write(path: Path, text: str) -> None:
    """Writes a file in one atomic step: a reader or a kill sees the old one or the new one."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """The same of bytes; two processes may write the same file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
