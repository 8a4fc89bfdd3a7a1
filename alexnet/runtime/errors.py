"""The errors that the library raises, and how a command reports them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """A wrong value, file or machine, described in one line: what was found, what was expected and what to do."""


class Stopped(Exception):  # noqa: N818  # not an error
    """A training ended early because it was asked to; the message says where."""


class WorkerError(Exception):
    """A worker of a data-parallel training failed; the message says why, or where its log is."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end.

    Attributes:
        exit_code: the code to exit with, as shells define it: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


def printable(text: str) -> str:
    """Return a text with its control characters and invalid bytes written as Python's escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def describe(error: OSError) -> str:
    """Return the reason and the file, where they are known."""
    return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")


def tell(message: str) -> None:
    """Print an error as one line on standard error."""
    print(f"ERROR: {printable(' '.join(message.split()))}", file=sys.stderr)


@contextmanager
def exit_on_failure() -> Iterator[None]:
    """Report a failure of the body in one line on standard error and end the process. A bug keeps its traceback.

    The exit code is 2 for an InputError; 1 for an OSError (a full disk, a folder that cannot be written), a WorkerError
    and too little memory; and that of the signal for an interruption.
    """
    try:
        yield
    except InputError as error:
        tell(str(error))
        sys.exit(2)
    except OSError as error:
        tell(describe(error))
        sys.exit(1)
    except MemoryError as error:
        tell(f"there is too little memory: {error or 'take a smaller batch_size or image size'}")
        sys.exit(1)
    except WorkerError as error:
        tell(str(error))
        sys.exit(1)
    except KeyboardInterrupt as error:
        tell("interrupted")
        sys.exit(error.exit_code if isinstance(error, Interrupted) else 130)
