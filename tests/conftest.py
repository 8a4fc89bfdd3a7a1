"""What several tests use: a small network, a small archive, and a copy of the commands to run."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alexnet.kernels.choice import choose
from alexnet.runtime import device
from alexnet.runtime.errors import InputError
from tests import archives, tables

ROOT = Path(__file__).resolve().parents[1]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def one_line(caught: "pytest.ExceptionInfo[InputError]", *parts: str) -> None:
    """Assert that an error is one line with all these parts in it."""
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """End `make fuzz` and `make chaos` with their table."""
    for line in tables.lines():
        terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Have what MindSpore computes in this process take one core, for there are as many test processes as cores."""
    choose("auto", "O0", *device.select("CPU", 1))


@pytest.fixture(scope="session", autouse=True)
def _heeds_sighup() -> None:
    """Have commands that are started here heed SIGHUP even when the tests run under nohup, which ignores it."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def network() -> Any:
    """The network at the smallest height and a larger width; a test that changes it restores it."""
    from alexnet.model.networks.alexnet import AlexNet

    return AlexNet(10, 67, 99, 0.25, seed=1)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return archives.write(tmp_path / "small.tar.gz", archives.files())


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with the stages, the library and params.yaml, and nothing else."""
    folder = tmp_path / "workspace"
    for name in ("stages", "alexnet"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", folder)
    return folder


@pytest.fixture
def run(workspace: Path) -> Run:
    """Run Python with arguments in the workspace, with environment variables given by keyword."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "GLOG_"))}

    def start(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-B", *arguments]
        return subprocess.run(
            command,
            cwd=workspace,
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return start
