"""The errors that the library raises, and how a command reports them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """Something that the user gave is wrong: a value, a file or the machine.

    The message is one line and says what was found, what was expected, and what to do.
    """


class Stopped(Exception):  # noqa: N818  # not an error
    """A training ended early because it was asked to. The message says after which step."""


class WorkerError(Exception):
    """A worker of a data-parallel training failed. The message says why, or where its log is."""


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end.

    Attributes:
        exit_code: the code to exit with, as shells define it: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


def printable(text: str) -> str:
    """Return a text in which control characters and invalid bytes are replaced by Python's escape sequences."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def describe(error: OSError) -> str:
    """Return the reason of an error, and the name of the file if it is known."""
    return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")


def print_error(message: str) -> None:
    """Print an error as one line on standard error."""
    print(f"ERROR: {printable(' '.join(message.split()))}", file=sys.stderr)


@contextmanager
def exit_on_failure() -> Iterator[None]:
    """Report a failure of the body in one line on standard error, and end the process. A bug keeps its traceback.

    The exit code is 2 for an InputError; 1 for a WorkerError, a MemoryError or an OSError, such as a full disk; and 128
    plus the number of the signal for an interruption.
    """
    try:
        yield
        if sys.stdout is not None:  # None if the shell closed it
            sys.stdout.flush()
    except InputError as error:
        print_error(str(error))
        sys.exit(2)
    except OSError as error:
        print_error(describe(error))
        _discard_output()
        sys.exit(1)
    except MemoryError as error:
        print_error(f"there is too little memory: {str(error) or 'set a smaller batch_size or image size'}")
        sys.exit(1)
    except WorkerError as error:
        print_error(str(error))
        sys.exit(1)
    except KeyboardInterrupt as error:
        print_error("interrupted")
        sys.exit(error.exit_code if isinstance(error, Interrupted) else 130)


def _discard_output() -> None:
    # Python flushes standard output again when it exits. If that failed, Python would print several lines about it.
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
