"""Fixtures of several tests: a small network, a small archive, and a copy of the commands to run."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alexnet.kernels import onednn
from alexnet.kernels.choice import choose
from alexnet.runtime import device
from alexnet.runtime.errors import InputError
from tests import archives, tables, workspaces
from tests.networks import narrow
from tests.workspaces import ROOT

LONGEST_FIRST = (
    "test_interruption.py",
    "test_sharing.py",
    "test_experiments.py",
    "test_pipeline.py",
    "test_workers.py",
    "test_commands.py",
    "test_report.py",
    "test_initial_weights.py",
    "test_benchmarks.py",
    "test_chaos.py",
    "test_predict.py",
    "test_another_network.py",
    "test_launcher.py",
    "test_train_stage.py",
    "test_kernels.py",
    "test_loop.py",
)
"""The files that take longest. They are started first, so that both test processes end at about the same time."""

Run = Callable[..., "subprocess.CompletedProcess[str]"]

needs_onednn = pytest.mark.skipif(not onednn.available(), reason="oneDNN is for Linux on x86-64")


def one_line(caught: "pytest.ExceptionInfo[InputError]", *parts: str) -> None:
    """Assert that the message of an error is one line that contains all these parts."""
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def pytest_configure(config: pytest.Config) -> None:
    """Use a temporary home folder for all processes, so that they neither read nor change the user's.

    Nor do they use a repository that git's variables name, a token of DVC Studio, or a proxy for the servers of the
    tests.
    """
    if not hasattr(config, "workerinput"):  # workers have the environment of the process that starts them
        home = Path(tempfile.mkdtemp(prefix="home-of-tests-"))
        config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
        # The checkout may belong to another user, such as in a container. Git then refuses to list its files.
        (home / ".gitconfig").write_text(f'[safe]\n\tdirectory = "{ROOT}"\n', encoding="utf-8")
        for name in [name for name in os.environ if name.startswith(("DVC", "GIT_", "STUDIO_", "XDG_"))]:
            del os.environ[name]
        os.environ |= {"HOME": str(home), workspaces.SITE_CACHE: str(home / "dvc")}
        os.environ |= dict.fromkeys(("no_proxy", "NO_PROXY"), "localhost,127.0.0.1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take longest."""
    order = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """End `make fuzz` and `make chaos` with their table."""
    for line in tables.lines():
        terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Let MindSpore compute on one core in this process, because another test process computes beside it."""
    choose("auto", "O0", *device.select("CPU", 1))


@pytest.fixture(scope="session", autouse=True)
def _heeds_sighup() -> None:
    """Let commands that are started here receive SIGHUP, even if the tests run under nohup, which ignores it."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _kills_what_is_left() -> Iterator[None]:
    """Kill the processes that a test started and left running, because it failed."""
    yield
    workspaces.kill_started()


@pytest.fixture
def outside_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep DVCLive, when a test uses it in this process, from writing its signal files into the repository."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def network() -> Any:
    """The network at the smallest height and a larger width; a test that changes it restores it."""
    from alexnet.cifar10 import NUM_CLASSES
    from alexnet.model.networks.alexnet import AlexNet

    return AlexNet(NUM_CLASSES, 67, 99, 0.25, seed=1)


@pytest.fixture(scope="module")
def narrow_network() -> Iterator[Any]:
    """The same network, but narrow. So is each AlexNet that this process makes while the tests of the file run."""
    from alexnet.cifar10 import NUM_CLASSES
    from alexnet.model.networks.alexnet import AlexNet

    with narrow():
        yield AlexNet(NUM_CLASSES, 67, 99, 0.25, seed=1)


@pytest.fixture(scope="module")
def module_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that the tests of one file share. It is removed after the last of them, which pytest would not do."""
    folder = tmp_path_factory.mktemp("shared")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return archives.write(tmp_path / "small.tar.gz", archives.files())


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with the stages, the library with a narrow network and params.yaml, and nothing else."""
    folder = tmp_path / "workspace"
    for name in ("stages", "alexnet"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    workspaces.put_parameters(folder)
    workspaces.make_narrow(folder)
    return folder


@pytest.fixture
def run(workspace: Path) -> Run:
    """Run Python with arguments in the workspace, with environment variables given by keyword."""

    def start(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-B", *arguments]
        return subprocess.run(
            command,
            cwd=workspace,
            env=workspaces.environment() | variables,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return start
