"""How a stage runs as a command: what it logs, and how it fails."""

import logging
import sys
from collections.abc import Callable

from tqdm.contrib.logging import logging_redirect_tqdm

from alexnet.errors import exit_on_failure


def run(stage: Callable[[], None]) -> None:
    """Run a stage; what it logs goes to standard output, a failure is one line and ends in `exit_on_failure`'s code."""
    handler = logging.StreamHandler(sys.stdout)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("alexnet").setLevel(logging.INFO)
    with exit_on_failure(), logging_redirect_tqdm():  # lines do not break a progress bar
        stage()
