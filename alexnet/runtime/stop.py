"""The two reasons for a command to end early: a signal, or the end of the process that started it."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from alexnet.runtime.errors import Interrupted
from alexnet.runtime.processes import LAUNCHED, alive

POLL_SECONDS = 1
"""How often ParentWatch looks, in seconds."""

_INTERMEDIARIES = ("sh", "bash", "dash", "zsh", "fish", "ksh", "msrun")
"""Names of processes between DVC and a stage: the shell that runs the stage, and the launcher of workers."""


class StopRequest:
    """A request to end this process, made by a signal. Calling it returns whether there was one.

    The signals are SIGINT (Ctrl-C), SIGTERM, and SIGHUP (a closed terminal) unless it is ignored, as under `nohup`. A
    second SIGINT or SIGTERM ends the process at once. A second SIGHUP does not, because a closing terminal may send
    two: one comes from the kernel, the other from the shell.

    Attributes:
        signal: the first signal that came, or None.
        when_asked: a function that is called once, in another thread, when the first signal comes.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.when_asked: Callable[[], None] = lambda: None
        self._raises = self._raised = False
        self._stderr: int | None = None

    def listen(self) -> None:
        """Start to wait for signals. Call it before NumPy and MindSpore are imported.

        The signals are blocked in this thread and in all that are started later, and a thread waits for them. A signal
        handler would not be enough: while a graph runs, MindSpore installs its own, which turns SIGINT into SIGTERM.
        """
        signals = {signal.SIGINT, signal.SIGTERM}
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signals.add(signal.SIGHUP)
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        signal.signal(signal.SIGUSR1, self._raise)
        threading.Thread(target=self._wait, args=(signals,), daemon=True).start()

    def ask(self) -> None:
        """Ask this process to end, as a SIGTERM would, unless it was asked before."""
        if self.signal is None:
            os.kill(os.getpid(), signal.SIGTERM)

    def __call__(self) -> bool:
        return self.signal is not None

    @contextmanager
    def raising(self) -> Iterator[None]:
        """In the body, raise Interrupted in the main thread when a signal comes, or has come before.

        What is written to standard error from then to the end of the body is lost.
        """
        self._raises = True
        try:
            self._raise()
            yield
        finally:
            self._raises = False
            self._restore_stderr()

    @property
    def exit_code(self) -> int:
        """The code to exit with, as shells define it: 128 plus the number of the signal."""
        return 128 + (self.signal or signal.SIGTERM)

    def _wait(self, signals: set[signal.Signals]) -> None:
        self.signal = signal.Signals(signal.sigwait(signals))
        self.when_asked()
        # Python runs signal handlers in the main thread. This signal also interrupts a system call there, such as
        # reading from a connection.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        second = signal.sigwait(signals)
        while second == signal.SIGHUP:
            second = signal.sigwait(signals)
        os._exit(128 + second)

    def _raise(self, *_: Any) -> None:
        if self.signal and self._raises and not self._raised:
            self._raised = True
            self._silence_stderr()
            raise Interrupted(self.exit_code)

    def _silence_stderr(self) -> None:
        # While MindSpore compiles a graph, it would report the exception that passes through it, in several lines.
        with suppress(OSError):  # the shell closed it
            self._stderr = os.dup(2)
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)

    def _restore_stderr(self) -> None:
        if self._stderr is not None:
            os.dup2(self._stderr, 2)
            os.close(self._stderr)
            self._stderr = None


class ParentWatch:
    """Watches whether the DVC process or the launcher that started this process has ended.

    A stage must end with its DVC process, because the next `dvc repro` would start the stage again, and two processes
    would write the same files. Workers must end with their launcher. A command that was typed by hand may outlive the
    process that started it, as under `nohup`, so nothing is watched then.

    The processes are found when this is created, so create it first: the end of a process before that is not noticed.
    """

    def __init__(self) -> None:
        self._ancestors = _ancestors() if {"DVC_ROOT", LAUNCHED} & os.environ.keys() else []

    def start(self, when_gone: Callable[[], None]) -> None:
        """Start to watch, and call `when_gone` once, in another thread, when one of the processes has ended."""
        if self._ancestors:
            threading.Thread(target=self._watch, args=(when_gone,), daemon=True).start()

    def gone(self) -> bool:
        """Return whether one of the watched processes has ended."""
        return not all(alive(process) for process in self._ancestors)

    def _watch(self, when_gone: Callable[[], None]) -> None:
        while not self.gone():
            time.sleep(POLL_SECONDS)
        when_gone()


def _ancestors() -> list[psutil.Process]:
    # Returns the parent and, as long as that is a shell or a launcher, the parent of that.
    chain = []
    for process in psutil.Process().parents():
        chain.append(process)
        if process.name() not in _INTERMEDIARIES:
            break
    return chain
