"""Asking about other processes."""

import psutil

LAUNCHED = "ALEXNET_LAUNCHED"
"""This variable is set in the environment of processes that must not outlive the one that started them."""


def alive(process: psutil.Process) -> bool:
    """Return whether a process is still running; one that has ended but was not waited for is not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
