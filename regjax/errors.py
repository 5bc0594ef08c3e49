"""How a command ends before its time: bad input, told in one line, or a signal."""

import difflib
from collections.abc import Iterable

START, END = 300, 150  # characters of a library's message


class InputError(Exception):
    """Input that cannot be used.

    The message is one line that names what was given, what was expected and what to do next.
    The command line prints it and exits with code 2. It is not a `ValueError`, so that flag
    parsers, which rewrite those, hand it on as it is.
    """


class Interrupted(Exception):
    """A run that was asked to end, and has saved what it takes to go on. The message says how.

    Attributes:
      code: the process's exit code.
    """

    code = 130


def one_line(error: BaseException) -> str:
    """Returns what an error of a library says in a line of its own, or its kind if it says nothing.

    Of much its two ends: what was tried is at the start, and the cause often at the end.

    >>> one_line(ValueError("torn,\\n  or cut short")), one_line(EOFError())
    ('torn, or cut short', 'EOFError')
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= START + END else f"{text[:START]} ... {text[-END:]}"


def of_file(error: OSError) -> str:
    """Returns what a failed call of the system says, with the file's name if it is known.

    >>> of_file(FileNotFoundError(2, "No such file or directory", "here"))
    "'here': No such file or directory"
    """
    where = f"'{error.filename}': " if error.filename else ""
    return f"{where}{error.strerror or error}"


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Returns a hint at the closest valid name, or nothing when none is close.

    >>> did_you_mean("learning_rte", ["learning_rate", "momentum"])
    " (did you mean 'learning_rate'?)"
    >>> did_you_mean("zzz", ["learning_rate"])
    ''
    """
    close = difflib.get_close_matches(name, list(valid), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
