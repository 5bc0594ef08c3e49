"""A script's command line, on absl flags: whatever is wrong with it ends in one line and a code."""

import os
import platform
import sys
from collections.abc import Callable

from absl import app, flags

from regjax.errors import InputError, of_file, one_line

USAGE, INTERRUPTED = 2, 130  # exit codes


def run(main: Callable[[flags.FlagValues], int | None]) -> None:
    """Runs a script: bad input ends in one line and exit code 2, Ctrl-C in one and 130."""

    def guarded(argv: list[str]) -> int | None:
        try:
            if argv[1:]:
                raise InputError(f"'{argv[1]}' is no flag; see --help")
            return main(flags.FLAGS)
        except InputError as error:
            return _told(str(error))
        except OSError as error:
            return _told(of_file(error))
        except KeyboardInterrupt:
            print("interrupted; the same command goes on from here", file=sys.stderr)
            return INTERRUPTED

    app.run(guarded, flags_parser=_parsed)


def machine() -> str:
    """Its kind of processor, and how many cores it has."""
    return f"{platform.machine()}, {os.cpu_count()} cores"


def _parsed(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(_told(f"{one_line(error)}; see --help"))


def _told(error: str) -> int:
    print(f"error: {error}", file=sys.stderr)
    return USAGE
