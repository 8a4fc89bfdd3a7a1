"""Whether other processes are still running."""

import psutil

LAUNCHED = "ALEXNET_LAUNCHED"
"""The environment variable that is set for processes that must end with the process that started them."""


def alive(process: psutil.Process) -> bool:
    """Return whether a process is still running. A zombie, which has ended but was not waited for, is not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
