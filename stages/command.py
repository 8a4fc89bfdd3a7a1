"""How a stage runs as a command: what it logs, and how it fails."""

import argparse
import logging
import sys
from collections.abc import Callable
from contextlib import nullcontext

from tqdm.contrib.logging import logging_redirect_tqdm

from alexnet.runtime.errors import exit_on_failure
from alexnet.runtime.stop import Interruption


def no_arguments(module: str, description: str | None) -> None:
    """Refuse arguments, with exit code 2, on behalf of a stage that takes none; explain it for `--help`."""
    argparse.ArgumentParser(prog=f"python -m {module}", description=description).parse_args()


def run(stage: Callable[[], None], interruption: Interruption | None = None) -> None:
    """Run a stage; what it logs goes to standard output, a failure is one line and ends in `exit_on_failure`'s code.

    So does an interruption, where one is given.
    """
    handler = logging.StreamHandler(sys.stdout)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("alexnet").setLevel(logging.INFO)
    interruptions = interruption.raising() if interruption else nullcontext()
    with exit_on_failure(), interruptions, logging_redirect_tqdm():  # lines do not break a progress bar
        stage()
