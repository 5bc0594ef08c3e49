"""The command line, `regjax COMMAND`, on absl flags: parsed, run, and ended with a code."""

import os
import re
import signal
import sys

from absl import flags

import regjax
from regjax import config as config_lib
from regjax.commands import COMMANDS, Command, in_numbers
from regjax.config import StudyConfig
from regjax.errors import InputError, Interrupted, did_you_mean, of_file
from regjax.interrupts import ENDS, end_at_once

USAGE = 2  # exit code of bad input


def main(argv: list[str]) -> int:
    """Runs one command line (without the program's name) and returns its exit code."""
    try:
        return _dispatch(argv)
    except (InputError, flags.Error) as error:
        print(f"regjax: error: {_one_line(error)}", file=sys.stderr)
        return USAGE
    except Interrupted as end:
        print(f"regjax: interrupted; {end}", file=sys.stderr)
        return end.code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # as `| head` wants it
        return 128 + signal.SIGPIPE  # not 0: a run may have been amid an epoch
    except KeyboardInterrupt:  # by a config file: a signal ends the process elsewhere
        print("regjax: interrupted", file=sys.stderr)
        return Interrupted.code
    except OSError as error:
        print(f"regjax: error: {of_file(error)}", file=sys.stderr)
        return USAGE


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    wrong = re.match(r"flag --config\.([^=]+)=(.*?): ", text)
    defaults = dict(config_lib.flatten(StudyConfig()))
    if wrong and wrong[1] in defaults:  # absl tells how the conversion failed, not what to write
        hints = {name: hint for name, hint, _ in config_lib.fields(StudyConfig)}
        kind, default = config_lib.plain_type(hints[wrong[1]]).__name__, defaults[wrong[1]]
        article = "an" if kind == "int" else "a"
        example = "" if default is None else f", as {default!r} is"
        return f"{wrong[1]} is '{wrong[2]}', expected {article} {kind}{example}"
    return text


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("--help", "-h", "help", "-help", "--helpfull", "-?"):
        print(_overview())
        return 0 if argv else USAGE
    if argv[0] == "--version":
        print(f"regjax {regjax.__version__}")
        return 0
    name, rest = argv[0], argv[1:]
    if name not in COMMANDS:
        kind = "flag before the command" if name.startswith("-") else "command"
        valid = ", ".join(COMMANDS)
        hint = did_you_mean(name, COMMANDS)
        raise InputError(f"unknown {kind} '{name}', expected {valid}{hint}; see regjax --help")
    command = COMMANDS[name]
    values = flags.FlagValues()
    if {"--help", "-h", "-help", "--helpfull"} & set(rest):
        command.define(values, [])
        print(_help(name, command, values))
        return 0
    command.define(values, rest)
    surplus = values([f"regjax {name}", *map(in_numbers, rest)])[1:]
    if surplus:
        raise InputError(f"unexpected argument '{surplus[0]}'; flags are written --name=value")
    command.run(values)
    return 0


def _overview() -> str:
    lines = [f"  {name:10}{command.summary}" for name, command in COMMANDS.items()]
    examples = [f"  {command.example}" for command in COMMANDS.values()]
    return "\n".join(
        [
            "usage: regjax COMMAND [--FLAG=VALUE ...]",
            "",
            *lines,
            "",
            "examples:",
            *examples,
            "",
            "regjax COMMAND --help lists a command's flags.",
        ]
    )


def _help(name: str, command: Command, values: flags.FlagValues) -> str:
    own = [f"  --{flag}: {values[flag].help}" for flag in values]
    fields = []
    if command.config:
        fields = ["", "config fields and their defaults (--config.FIELD=VALUE):"]
        fields += [
            f"  {field} = {value!r}" for field, value in config_lib.flatten(command.config())
        ]
    head = [f"usage: {command.example}", "", f"regjax {name}: {command.summary}.", "", "flags:"]
    return "\n".join([*head, *own, *fields])


def run() -> None:
    """The console script."""
    for number in ENDS:
        signal.signal(number, end_at_once)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller, as with `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
        else:
            stream.reconfigure(errors="replace")  # a terminal in the C locale has no "×"
    if os.environ.get("COLUMNS") == "0":  # rich would print nothing
        del os.environ["COLUMNS"]
    code = main(sys.argv[1:])
    for number in ENDS:  # all is done, which a signal while Python ends would deny
        signal.signal(number, signal.SIG_IGN)
    if code == USAGE:  # at once: what threads of a failed write would still say is no help
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)
