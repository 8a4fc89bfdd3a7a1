"""Whether a stage should end early: it was sent a signal, or the DVC that started it is gone."""

import os
import signal
import threading

import psutil

from alexnet.process import LAUNCHED, alive

_SIGNALS = {signal.SIGINT, signal.SIGTERM}
_BETWEEN = ("sh", "bash", "dash", "zsh", "fish", "ksh", "msrun")
"""Processes that DVC may stand behind: the shell that it runs a stage with, the launcher of workers."""


class Interruption:
    """Asked as a function, tells whether to end early; `signal` is then the reason. A second signal ends at once.

    Make it before NumPy and MindSpore are imported: signals are blocked in this thread and in those started later, and
    are waited for in one of their own. A handler would not do: while a graph runs, MindSpore has its own, which turns
    a SIGINT into a SIGTERM.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        # Run by hand, a stage may well outlive what started it (nohup); under DVC, another one would be started
        # beside it, and the two would write the same files. Workers go with their launcher.
        self._ancestors = _ancestors() if {"DVC_ROOT", LAUNCHED} & os.environ.keys() else []
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        self.signal = signal.Signals(signal.sigwait(_SIGNALS))
        os._exit(128 + signal.sigwait(_SIGNALS))

    def __call__(self) -> bool:
        if self.signal is None and self.orphaned():
            self.signal = signal.SIGTERM
        return self.signal is not None

    def orphaned(self) -> bool:
        """Tell whether DVC or a launcher started this process and is gone."""
        return not all(alive(process) for process in self._ancestors)

    @property
    def exit_code(self) -> int:
        """What the process should exit with, as a shell has it."""
        return 128 + (self.signal or signal.SIGTERM)


def _ancestors() -> list[psutil.Process]:
    # The parent, and as long as that is a shell or a launcher, its parent.
    chain = []
    for process in psutil.Process().parents():
        chain.append(process)
        if process.name() not in _BETWEEN:
            break
    return chain
