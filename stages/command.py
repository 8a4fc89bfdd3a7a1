"""How a stage runs as a command: what it logs, and how it fails."""

import logging
import sys
from collections.abc import Callable

from tqdm.contrib.logging import logging_redirect_tqdm

from alexnet.errors import InputError, WorkerError


def run(stage: Callable[[], None]) -> None:
    """Run a stage; what it logs goes to standard output, a failure is one line on standard error.

    Exits with 2 for an InputError, with 1 for an OSError (a full disk, a folder that cannot be written) and for a
    WorkerError, with 130 for a Ctrl-C.
    """
    handler = logging.StreamHandler(sys.stdout)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("alexnet").setLevel(logging.INFO)
    try:
        with logging_redirect_tqdm():  # lines do not break a progress bar
            stage()
    except InputError as error:
        _fail(str(error), 2)
    except OSError as error:
        _fail(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""), 1)
    except WorkerError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("interrupted", 130)


def _fail(message: str, code: int) -> None:
    print(f"ERROR: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
