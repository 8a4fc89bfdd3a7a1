"""The two reasons for a command to end early: a signal, or the end of the process that started it."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from alexnet.runtime.errors import Interrupted
from alexnet.runtime.processes import LAUNCHED, alive

POLL_SECONDS = 1
"""The time between two checks of ParentWatch, in seconds."""

_INTERMEDIARIES = ("sh", "bash", "dash", "zsh", "fish", "ksh", "msrun")
"""Processes that DVC may stand behind: the shell that it runs a stage with, the launcher of workers."""


class StopRequest:
    """Whether a signal has asked this process to end. Call it to find out.

    SIGINT (Ctrl-C) and SIGTERM ask, and so does SIGHUP (a closed terminal) unless it is ignored, as under `nohup`. A
    second SIGINT or SIGTERM ends the process at once. A second SIGHUP does not, because a closing terminal may send
    two: the kernel sends one, the shell another.

    Attributes:
        signal: the one that asked first, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._raises = self._raised = False

    def listen(self) -> None:
        """Start to take signals. Call it before NumPy and MindSpore are imported.

        The signals are blocked in this thread and in those started later, and one thread of our own waits for them. A
        signal handler would not do: while a graph runs, MindSpore installs its own, which turns SIGINT into SIGTERM.
        """
        taken = {signal.SIGINT, signal.SIGTERM}
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            taken.add(signal.SIGHUP)
        signal.pthread_sigmask(signal.SIG_BLOCK, taken)
        signal.signal(signal.SIGUSR1, self._raise)
        threading.Thread(target=self._wait, args=(taken,), daemon=True).start()

    def ask(self) -> None:
        """Ask this process to end, as a SIGTERM does, unless it has been asked already."""
        if self.signal is None:
            os.kill(os.getpid(), signal.SIGTERM)

    def __call__(self) -> bool:
        return self.signal is not None

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Raise Interrupted in the main thread when a signal comes while the context lasts, or came before it."""
        self._raises = True
        try:
            self._raise()
            yield
        finally:
            self._raises = False

    @property
    def exit_code(self) -> int:
        """The code to exit with, as shells define it: 128 and the number of the signal."""
        return 128 + (self.signal or signal.SIGTERM)

    def _wait(self, taken: set[signal.Signals]) -> None:
        self.signal = signal.Signals(signal.sigwait(taken))
        # Python runs signal handlers in the main thread; this one also interrupts a system call made there, such as
        # reading from a connection.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        second = signal.sigwait(taken)
        while second == signal.SIGHUP:
            second = signal.sigwait(taken)
        os._exit(128 + second)

    def _raise(self, *_: Any) -> None:
        if self.signal and self._raises and not self._raised:
            self._raised = True
            raise Interrupted(self.exit_code)


class ParentWatch:
    """Whether the DVC or the launcher that started this process is gone.

    A command typed by hand may outlive what started it, as under `nohup`, and is not watched. Under DVC, the next
    `dvc repro` would start the stage again, and two processes would write the same files; workers must end with their
    launcher.
    """

    def __init__(self) -> None:
        self._ancestors: list[psutil.Process] = []

    def start(self, when_gone: Callable[[], None]) -> None:
        """Watch from now on, and call `when_gone` once, in another thread, when one of the processes has ended."""
        if {"DVC_ROOT", LAUNCHED} & os.environ.keys():
            self._ancestors = _ancestors()
            threading.Thread(target=self._watch, args=(when_gone,), daemon=True).start()

    def gone(self) -> bool:
        """Return whether one of the watched processes has ended."""
        return not all(alive(process) for process in self._ancestors)

    def _watch(self, when_gone: Callable[[], None]) -> None:
        while not self.gone():
            time.sleep(POLL_SECONDS)
        when_gone()


def _ancestors() -> list[psutil.Process]:
    # The parent, and as long as that is a shell or a launcher, its parent.
    chain = []
    for process in psutil.Process().parents():
        chain.append(process)
        if process.name() not in _INTERMEDIARIES:
            break
    return chain
