"""Other processes."""

import psutil

LAUNCHED = "ALEXNET_LAUNCHED"
"""Set in the environment of workers that must not outlive what launched them."""


def alive(process: psutil.Process) -> bool:
    """Tell whether a process still runs; one that ended and was not waited for yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
