"""Whether a command should end early: it was sent a signal, or the DVC that started it is gone."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from alexnet.runtime.errors import Interrupted
from alexnet.runtime.processes import LAUNCHED, alive

POLL_SECONDS = 1
"""From one look for those that started this process to the next."""

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
        self._raises = self._raised = False
        # Run by hand, a stage may well outlive what started it (nohup); under DVC, another one would be started
        # beside it, and the two would write the same files. Workers go with their launcher.
        self._ancestors = _ancestors() if {"DVC_ROOT", LAUNCHED} & os.environ.keys() else []
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        signal.signal(signal.SIGUSR1, self._raise)
        for task in (self._wait, self._watch) if self._ancestors else (self._wait,):
            threading.Thread(target=task, daemon=True).start()

    def _wait(self) -> None:
        self.signal = signal.Signals(signal.sigwait(_SIGNALS))
        # Handlers run in the main thread; this one also ends what that waits for, a connection say.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        os._exit(128 + signal.sigwait(_SIGNALS))

    def _watch(self) -> None:
        while not self.orphaned():
            time.sleep(POLL_SECONDS)
        if self.signal is None:
            os.kill(os.getpid(), signal.SIGTERM)

    def _raise(self, *_: Any) -> None:
        if self.signal and self._raises and not self._raised:
            self._raised = True
            raise Interrupted(self.exit_code)

    def __call__(self) -> bool:
        return self.signal is not None

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Have a signal raise Interrupted in the main thread while the context lasts; one from before does at once."""
        self._raises = True
        try:
            self._raise()
            yield
        finally:
            self._raises = False

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
