"""What the library raises for its callers to tell apart, and how a command tells a person of it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """A wrong value, file or machine, told in one line: what was found, what was expected, what to do."""


class Stopped(Exception):  # noqa: N818  # not an error
    """A training ended early because it was asked to; the message says where."""


class WorkerError(Exception):
    """A worker of a data-parallel training died; the message names it and its log."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end.

    Attributes:
        exit_code: what it should exit with, as a shell has it: 130 for a Ctrl-C, 143 for a SIGTERM.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


def printable(text: str) -> str:
    """Return a text with what a terminal would act on, and what is no character, as Python's escapes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def tell(message: str) -> None:
    """Print an error as one line on standard error."""
    print(f"ERROR: {printable(' '.join(message.split()))}", file=sys.stderr)


@contextmanager
def exit_on_failure() -> Iterator[None]:
    """Turn a failure in the body into one line on standard error and the end of the process; a bug is no failure.

    Exits with 2 for an InputError, with 1 for an OSError (a full disk, a folder that cannot be written) and for a
    WorkerError, with 130 for a Ctrl-C and 143 for a SIGTERM.
    """
    try:
        yield
    except InputError as error:
        tell(str(error))
        sys.exit(2)
    except OSError as error:
        tell(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        sys.exit(1)
    except WorkerError as error:
        tell(str(error))
        sys.exit(1)
    except KeyboardInterrupt as error:
        tell("interrupted")
        sys.exit(error.exit_code if isinstance(error, Interrupted) else 130)
