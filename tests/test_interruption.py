"""Training that is killed, stopped, damaged or run twice, in real processes. It must always end with the same bytes."""

import argparse
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock, Timeout

from alexnet.runtime.processes import alive
from alexnet.training.state import States, remove_recorded
from stages import train
from stages.__main__ import parse
from stages.states import _describe as describe
from stages.states import main
from tests import archives, workspaces
from tests.trainings import TRAIN, duplicate, no_outputs, outputs, states, trainers, wait_for
from tests.workspaces import change, run, start, wait_until

ALL_KINDS_OF_STATE: dict[str, dict[str, Any]] = {
    "data": {"train_images": 120},
    "model": {"batch_norm": True, "dropout_rate": 0.5},
    "train": {
        "validation_images": 20,
        "whitening": True,
        "flip": "alternating",
        "lr_schedule": "cosine",
        "ema_decay": 0.9,
    },
}
"""Parameters for a training of ten steps whose state has every kind of value."""


@pytest.fixture(scope="module")
def original(module_path: Path) -> Path:
    """A repository in which DVC has run the first two stages."""
    folder = workspaces.repository(module_path / "original" / "alexnet")
    archives.write(folder / "archive.tar.gz", archives.files(train_images=120))
    change(folder, **ALL_KINDS_OF_STATE)
    run(folder, "dvc", "repro", "verify")
    workspaces.commit(folder)
    return folder


@pytest.fixture(scope="module")
def whole(original: Path, module_path: Path) -> str:
    """The outputs of a training that was not interrupted."""
    folder = duplicate(original, module_path / "whole")
    output = run(folder, *TRAIN)
    assert "epoch: 2 step: 5, loss is" in output
    assert "resuming" not in output
    return outputs(folder)


@pytest.fixture(scope="module")
def stopped(original: Path, module_path: Path) -> Path:
    """A workspace whose training was stopped in its first epoch, with four saved states."""
    folder = duplicate(original, module_path / "stopped")
    change(folder, run={"keep_checkpoint_max": 4})
    process = start(folder, *TRAIN, pause=1)
    wait_for(process, "epoch: 1 step: 3,")
    process.terminate()
    process.communicate()
    assert len(states(folder)) == 4
    return folder


@pytest.fixture
def workspace(original: Path, tmp_path: Path) -> Path:
    """A copy of that repository, which the test may change."""
    return duplicate(original, tmp_path)


@pytest.fixture
def resumable(stopped: Path, tmp_path: Path) -> Path:
    """A copy of the workspace whose training was stopped."""
    return duplicate(stopped, tmp_path)


def times(folder: Path) -> list[int]:
    """Return when each output was written."""
    files = [folder / "models" / "alexnet.ckpt", *(folder / "metrics").iterdir(), *(folder / "dvclive").rglob("*.*")]
    return [path.stat().st_mtime_ns for path in files]


def test_killed_at_several_moments(workspace: Path, whole: str) -> None:
    # A state is saved after each step, so these moments are before, during or just after saving one.
    for text, delay in (("epoch: 1 step: 1,", 0.0), ("epoch: 1 step: 3,", 0.01), ("step: 2,", 0.02)):
        process = start(workspace, *TRAIN, pause=1)
        wait_for(process, text)
        time.sleep(delay)
        process.kill()
        process.communicate()
        assert no_outputs(workspace)
    assert "resuming after epoch" in run(workspace, *TRAIN)
    assert outputs(workspace) == whole
    assert not list(workspace.rglob("*.partial"))


KILLED_WHILE_WRITING = """
import os
from alexnet.training import state
from stages.__main__ import main
digest = state.digest
def digest_or_die(path, algorithm):
    if "-1_3.ckpt" in path.name:
        os.kill(os.getpid(), 9)
    return digest(path, algorithm)
state.digest = digest_or_die
main(["train"])
"""


def test_killed_while_a_state_is_written(workspace: Path, whole: str) -> None:
    run(workspace, "python", "-c", KILLED_WHILE_WRITING, code=-signal.SIGKILL)
    assert list((workspace / ".dvc" / "tmp" / "alexnet").glob("*/.checkpoint*.partial/*.ckpt"))
    assert "resuming after epoch 1 step 2" in run(workspace, *TRAIN)
    assert outputs(workspace) == whole


def test_killed_while_the_outputs_are_written(workspace: Path, whole: str) -> None:
    change(workspace, run={"save_checkpoint_steps": 7})
    for function, trained in (("save_weights", True), ("timing", False)):
        kill = f"import os, stages.train_outputs as last; last.{function} = lambda *_: os.kill(os.getpid(), 9); "
        code = kill + "from stages.__main__ import main; main(['train'])"
        output = run(workspace, "python", "-c", code, code=-signal.SIGKILL)
        assert ("epoch: 2 step: 5, loss is" in output) == trained
        assert ("resuming after epoch 2 step 5" in output) != trained
    output = run(workspace, *TRAIN)
    assert "resuming after epoch 2 step 5" in output
    assert "loss is" not in output
    assert outputs(workspace) == whole


def test_a_signal_saves_the_state(workspace: Path, whole: str) -> None:
    change(workspace, run={"save_checkpoint_steps": "epoch"})
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        process = start(workspace, *TRAIN, pause=1)
        wait_for(process, "epoch: ")
        process.send_signal(number)
        output, _ = process.communicate()
        assert process.returncode == code
        assert output.count("stopping after this step, to save the state; a second Ctrl-C stops at once") == 1
        assert "state saved: the same command resumes from there" in output
        assert "Traceback" not in output
        assert no_outputs(workspace)
    assert len(states(workspace)) == 2, "keep_checkpoint_max is 2"
    assert "resuming after epoch" in run(workspace, *TRAIN)
    assert outputs(workspace) == whole


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_stops_at_once(number: signal.Signals, code: int, workspace: Path) -> None:
    process = start(workspace, *TRAIN, pause=600)
    wait_for(process, "training on CPU")
    process.send_signal(number)
    wait_for(process, "stopping after this step")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert states(workspace) == []
    assert no_outputs(workspace)


def test_a_training_goes_on_when_nobody_reads_its_output(workspace: Path, whole: str) -> None:
    output = run(workspace, "sh", "-c", "python -m stages train | head -n 1")
    (line,) = output.splitlines()
    assert line.startswith("training on CPU")
    assert outputs(workspace) == whole


def test_a_closed_terminal_saves_the_state(workspace: Path, whole: str) -> None:
    change(workspace, run={"save_checkpoint_steps": "epoch"})
    terminal, end = os.openpty()
    process = subprocess.Popen(
        # The shell sends a SIGHUP to its jobs when it gets one, beside the kernel's.
        ("bash", "-c", 'trap "kill -HUP %1; wait" HUP; python -m stages train & wait; wait'),
        cwd=workspace,
        env=workspaces.environment() | {workspaces.PAUSE: "1"},
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(end)
    seen = b""
    while b"epoch: 1 step: 2," not in seen:
        seen += os.read(terminal, 4096)
    (trainer,) = trainers(workspace)
    os.close(terminal)
    wait_until(lambda: not alive(trainer))
    process.wait(timeout=300)
    assert len(states(workspace)) == 1
    assert no_outputs(workspace)
    assert "resuming after epoch 1 step" in run(workspace, *TRAIN)
    assert outputs(workspace) == whole


def test_nohup_ignores_a_closed_terminal(workspace: Path, whole: str) -> None:
    process = start(workspace, "nohup", *TRAIN, pause=0.2)
    wait_for(process, "epoch: 1 step: 2,")
    process.send_signal(signal.SIGHUP)
    process.communicate()
    assert process.returncode == 0
    assert outputs(workspace) == whole


def test_a_watcher_sees_steps_arrive(workspace: Path) -> None:
    """The VS Code extension of DVC reads these: the summary, the curves, and DVCLive's signal file."""
    process = start(workspace, *TRAIN, pause=0.3)
    seen: list[tuple[int, int, int]] = []
    summary, signal_file = workspace / "dvclive/metrics.json", workspace / ".dvc/tmp/exps/run/DVCLIVE_STEP_COMPLETED"
    curve = workspace / "dvclive/plots/metrics/train/loss.tsv"
    while process.poll() is None:
        time.sleep(0.02)
        try:
            marked = json.loads(signal_file.read_text(encoding="utf-8"))
            shown = json.loads(summary.read_text(encoding="utf-8"))
            points = curve.read_text(encoding="utf-8").splitlines()[1:]
        except (OSError, ValueError):  # not there yet, or being written
            continue
        seen.append((marked["step"], shown["step"], len(points)))
        assert marked["pid"] == process.pid
    process.communicate()
    assert process.returncode == 0
    assert len({step for step, _, _ in seen}) > 3
    assert seen == sorted(seen)
    assert all(marked <= shown <= points for marked, shown, points in seen)
    assert not signal_file.exists(), "DVCLive removes it when the training has ended"


def test_damaged_states_are_detected(resumable: Path, whole: str) -> None:
    folder = next((resumable / ".dvc" / "tmp" / "alexnet").glob("*/"))
    whole_one, without_checksum, altered, cut = (folder / name for name in states(resumable))
    cut.write_bytes(cut.read_bytes()[:-1000])
    content = bytearray(altered.read_bytes())
    content[len(content) // 2] ^= 1
    altered.write_bytes(content)
    without_checksum.with_name(without_checksum.name + ".sha256").unlink()
    output = run(resumable, *TRAIN)
    for path in (cut, altered, without_checksum):
        assert f"{path.name} is damaged" in output
    epoch, step = re.findall(r"\d+", whole_one.name)
    assert f"resuming after epoch {epoch} step {step}, from" in output
    assert outputs(resumable) == whole


@pytest.fixture(scope="module")
def kept(original: Path, module_path: Path) -> Path:
    """A workspace whose training has ended, with its last three states."""
    folder = duplicate(original, module_path / "kept")
    change(folder, run={"keep_checkpoint_max": 3, "keep_state": True})
    run(folder, *TRAIN)
    return folder


def test_only_the_newest_states_are_kept(kept: Path) -> None:
    assert states(kept) == [f"checkpoint_alexnet-2_{step}.ckpt" for step in (3, 4, 5)]


def test_state_is_kept_and_shown_and_cleared(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = duplicate(kept, tmp_path)
    shown = run(workspace, "python", "-m", "stages", "states")
    assert "alexnet 67x67, epoch_size 2" in shown
    assert "checkpoint_alexnet-2_5" in shown
    monkeypatch.chdir(workspace)
    main(parse(["states", "--clear"])[1])
    assert capsys.readouterr().out.endswith("removed\n")
    assert states(workspace) == []
    main(parse(["states"])[1])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("keep", [False, True])
def test_states_of_a_recorded_result_are_removed_unless_they_are_to_be_kept(keep: bool, tmp_path: Path) -> None:
    states_of_one = States(tmp_path, {"seed": 1}, 1)
    with states_of_one.locked():
        states_of_one.finish("its MD5", keep)
    remove_recorded(tmp_path, lambda result: result == "another MD5")
    assert states_of_one.folder.exists()
    remove_recorded(tmp_path, lambda result: result == "its MD5")
    assert states_of_one.folder.exists() == keep


def test_the_key_has_all_that_decides_the_result(kept: Path) -> None:
    (path,) = (kept / ".dvc" / "tmp" / "alexnet").glob("*/identity.json")
    identity = json.loads(path.read_text(encoding="utf-8"))
    assert set(identity) == {"data", "model", "train", "code", "packages"}
    given = yaml.safe_load((kept / "params.yaml").read_text(encoding="utf-8"))
    for section in ("model", "train"):
        assert set(identity[section]) == set(given[section])
    assert identity["train"]["device_target"] == "CPU"
    assert identity["train"]["threads"] == 1
    stages = yaml.safe_load((kept / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    deps = [kept / dep for dep in stages["train"]["deps"] if dep.startswith("alexnet/")]
    files = {file for dep in deps for file in (dep.rglob("*.py") if dep.is_dir() else [dep])}
    modules = {".".join(file.relative_to(kept).with_suffix("").parts).removesuffix(".__init__") for file in files}
    assert set(identity["code"]) == modules | {"alexnet", "stages.train"}


def test_a_state_of_another_training_is_not_used(resumable: Path, whole: str) -> None:
    change(resumable, train={"seed": 2})
    assert "resuming" not in run(resumable, *TRAIN)
    assert outputs(resumable) != whole
    assert len(states(resumable)) == 4 + 1, "those of the first training are still there"


def test_a_second_run_of_the_same_training_waits(workspace: Path, whole: str) -> None:
    first = start(workspace, *TRAIN, pause=0.3)
    wait_for(first, "epoch: 1 step: 1,")
    first.send_signal(signal.SIGSTOP)  # however long the second takes to come as far
    second = start(workspace, *TRAIN)
    wait_for(second, "another process runs the same training")
    first.send_signal(signal.SIGCONT)
    first.communicate()
    assert first.returncode == 0
    written = times(workspace)
    output, _ = second.communicate()
    assert (second.returncode, output) == (
        0,
        "the other process has finished this training, see models/alexnet.ckpt\n",
    )
    assert times(workspace) == written
    assert outputs(workspace) == whole


def test_dvc_that_waited_writes_the_outputs_again(workspace: Path, whole: str) -> None:
    """DVC has removed outputs while the first process was writing them, so they may be incomplete."""
    first = start(workspace, *TRAIN, pause=1)
    wait_for(first, "epoch: 1 step: 3,")
    # DVC must not remove the folder of the curves while this step's are written, which is before its state is saved.
    wait_until(lambda: "checkpoint_alexnet-1_3.ckpt" in states(workspace), first)
    first.send_signal(signal.SIGSTOP)
    second = start(workspace, "dvc", "repro", "train")
    wait_for(second, "another process runs the same training")
    first.send_signal(signal.SIGCONT)
    first.communicate()
    output, _ = second.communicate()
    assert second.returncode == 0, output
    assert "epoch: 1" not in output
    assert outputs(workspace) == whole


def test_a_running_training_is_neither_started_again_nor_cleared(workspace: Path) -> None:
    first = start(workspace, *TRAIN, pause=1)
    wait_for(first, "epoch: 1 step: 2,")
    first.send_signal(signal.SIGSTOP)
    before = states(workspace)
    assert "in use" in run(workspace, "python", "-m", "stages", "states", "--clear")
    assert states(workspace) == before
    hurry = "import alexnet.training.state, stages.__main__ as stages; alexnet.training.state.LOCK_SECONDS = 1; "
    output = run(workspace, "python", "-c", hurry + "stages.main(['train'])", code=2)
    assert output.splitlines()[-1].startswith("ERROR: another process runs the same training")
    first.kill()
    first.communicate()


def test_a_full_disk_is_one_line_and_the_last_state_is_kept(resumable: Path, whole: str) -> None:
    before = states(resumable)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000))  # less than a state, more than DVC's own files

    output = run(resumable, *TRAIN, code=1, preexec_fn=limit)
    errors = [line for line in output.splitlines() if "ERROR" in line or "CRITICAL" in line]
    assert len(errors) == 1, output
    assert errors[0].startswith("ERROR: File too large")
    assert "Traceback" not in output
    assert states(resumable) == before
    assert no_outputs(resumable)
    run(resumable, *TRAIN)
    assert outputs(resumable) == whole


@pytest.mark.parametrize("name", [".dvc/tmp", "dvclive"])
def test_a_read_only_folder_is_one_line(name: str, workspace: Path) -> None:
    folder = workspace / name
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o555)
    # Root may write everywhere, unless it gives up this capability.
    as_others = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override") if os.geteuid() == 0 else ()
    output = run(workspace, *as_others, *TRAIN, code=1)
    folder.chmod(0o755)
    (error,) = (line for line in output.splitlines() if "ERROR" in line)
    assert error.startswith("ERROR: Permission denied: ")
    assert name in error
    assert "Traceback" not in output
    assert no_outputs(workspace)


def test_a_loss_that_is_nan_is_one_line(workspace: Path) -> None:
    change(workspace, train={"learning_rate": 1e20}, run={"save_checkpoint_steps": "epoch"})
    output = run(workspace, *TRAIN, code=2)
    error = output.splitlines()[-1]
    assert error.startswith("ERROR: ")
    assert "try a learning_rate below 1e+20" in error
    assert "Traceback" not in output
    assert states(workspace) == []
    assert no_outputs(workspace)


def test_no_training_can_use_a_state_that_is_being_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ".dvc" / "tmp" / "alexnet" / "0123456789abcdef"
    folder.mkdir(parents=True)
    values = {"model": {"name": "alexnet"}, "train": {"epoch_size": 1, "learning_rate": 1}}
    (folder / "identity.json").write_text(json.dumps(values), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    locked: list[bool] = []

    def remove(path: Path) -> None:
        with pytest.raises(Timeout), FileLock(path.with_suffix(".lock"), timeout=0):
            pass
        locked.append(True)

    monkeypatch.setattr(shutil, "rmtree", remove)
    main(argparse.Namespace(clear=True))
    assert locked == [True]


STATE = ".dvc/tmp/alexnet/0123456789abcdef"


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        (f"{STATE}/identity.json", "{", f"{STATE}  a training whose identity.json is damaged: no state"),
        (f"{STATE}/identity.json", "[1]", f"{STATE}  a training whose identity.json is damaged: no state"),
        (f"{STATE}/identity.json/file", "", f"{STATE}  a training whose identity.json is damaged: no state"),
        (f"{STATE}/file", "", f"{STATE}  a training without identity.json: no state"),
        (f"{STATE}/checkpoint_alexnet-1_1.ckpt/file", "", "a training without identity.json: checkpoint_alexnet-1_1"),
        (f"{STATE}.lock", "", f"{STATE}.lock  lock file"),
        (".dvc/tmp/alexnet/workers-x/file", "", ".dvc/tmp/alexnet/workers-x  workers' logs"),
        (".dvc/tmp/exps/standalone/tmpabc/file", "", ".dvc/tmp/exps/standalone/tmpabc  temporary experiment"),
        (".dvc/tmp/exps/tmpabc/file", "", ".dvc/tmp/exps/tmpabc  temporary experiment"),
    ],
)
def test_leftovers_are_one_line_each_and_cleared(
    name: str,
    content: str,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(content.ljust(2000), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for clear, end in ((False, ""), (True, ", removed")):
        main(argparse.Namespace(clear=clear))
        (shown,) = capsys.readouterr().out.splitlines()
        assert shown.startswith("2.00kB  ")
        assert shown.endswith(line + end)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in (tmp_path / ".dvc" / "tmp").iterdir()} <= {"alexnet", "exps"}


def test_an_identity_that_cannot_be_read_is_damaged(tmp_path: Path) -> None:
    for content in (b"[" * 1_000_000, b"\xff", b'{"model": [], "train": {}}', b"null"):
        (tmp_path / "identity.json").write_bytes(content)
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(1000)  # Python's own; MindSpore, which this process has, raises it
        try:
            assert describe(tmp_path) == "a training whose identity.json is damaged: no state"
        finally:
            sys.setrecursionlimit(limit)


def test_what_a_process_uses_is_not_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = tmp_path / ".dvc" / "tmp" / "alexnet" / f"workers-{os.getpid()}"
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmpabc"
    for folder in (logs, copy):
        (folder / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    # A process in the copy, and DVC before it changes into the copy or after it has left it.
    for place, argument in ((copy / "inside", "x"), (tmp_path, "/usr/bin/dvc"), (tmp_path, "tools")):
        process = start(place, "python", "-c", "import time; print(flush=True); time.sleep(600)", argument)
        assert process.stdout
        process.stdout.readline()
        main(argparse.Namespace(clear=True))
        assert [line.rpartition(", ")[2] for line in capsys.readouterr().out.splitlines()] == ["in use", "in use"]
        process.kill()
        process.wait()
    main(argparse.Namespace(clear=True))
    assert logs.exists()
    assert not copy.exists()
    os.utime(logs, (0, 0))  # the process that made them had the number of this one, but is gone
    main(argparse.Namespace(clear=True))
    assert not logs.exists()


def test_a_lock_that_is_held_is_not_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / f"{STATE}.lock"
    lock.parent.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with FileLock(lock):
        main(argparse.Namespace(clear=True))
        assert capsys.readouterr().out.endswith("lock file, in use\n")
        assert lock.exists()


def test_a_folder_named_like_a_state_is_reported_and_replaced(resumable: Path, whole: str) -> None:
    (folder,) = (resumable / ".dvc" / "tmp" / "alexnet").glob("*/")
    (folder / "checkpoint_alexnet-2_4.ckpt" / "empty").mkdir(parents=True)
    output = run(resumable, *TRAIN)
    assert "checkpoint_alexnet-2_4.ckpt is damaged" in output
    assert outputs(resumable) == whole


def test_under_dvc_repro(workspace: Path, whole: str) -> None:
    process = start(workspace, "dvc", "repro", "train", pause=1)
    wait_for(process, "epoch: 1 step: 3,")
    for trainer in trainers(workspace):
        trainer.kill()
    process.communicate()
    assert process.returncode == 255
    assert no_outputs(workspace)
    output = run(workspace, "dvc", "repro", "train")
    assert "resuming after epoch 1 step" in output
    assert outputs(workspace) == whole


def test_killed_before_dvc_has_recorded_the_result(workspace: Path, whole: str) -> None:
    process = start(workspace, "dvc", "repro", "train", pause=0.2)
    wait_for(process, "epoch: 2 step: 3,")
    process.send_signal(signal.SIGSTOP)  # DVC alone: the stage goes on to its end
    wait_until(lambda: any((workspace / ".dvc" / "tmp" / "alexnet").glob("*/result.json")))
    process.kill()
    process.communicate()
    assert "models/alexnet.ckpt" not in (workspace / "dvc.lock").read_text(encoding="utf-8")
    output = run(workspace, "dvc", "repro", "train")
    assert "resuming after epoch 2 step 5" in output
    assert "loss is" not in output
    assert outputs(workspace) == whole
    assert states(workspace) == ["checkpoint_alexnet-2_5.ckpt"]
    assert "finished" in run(workspace, "python", "-m", "stages", "states")
    (first,) = (workspace / ".dvc" / "tmp" / "alexnet").glob("*/result.json")
    change(workspace, train={"seed": 2})
    run(workspace, "dvc", "repro", "train")
    (second,) = (workspace / ".dvc" / "tmp" / "alexnet").glob("*/result.json")
    assert second != first, "the first result was in dvc.lock, and has been replaced"


def test_under_a_temporary_experiment(workspace: Path, whole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(workspace, "dvc", "exp", "run", "--temp", "-S", "train.seed=1", pause=1)
    wait_for(process, "epoch: 1 step: 3,")
    for trainer in trainers(workspace):
        trainer.kill()
    process.communicate()
    assert process.returncode == 255
    output = run(workspace, "dvc", "exp", "run", "--temp", "--name", "second", "-S", "train.seed=1", "train")
    assert "resuming after epoch 1 step" in output
    result = json.loads(
        next((workspace / ".dvc" / "tmp" / "alexnet").glob("*/result.json")).read_text(encoding="utf-8")
    )
    assert result["result"] not in (workspace / "dvc.lock").read_text(encoding="utf-8")
    monkeypatch.chdir(workspace)
    assert train.is_committed(result["result"]), "in the experiment's commit"
    assert not train.is_committed("0" * 32)
    run(workspace, "dvc", "exp", "apply", "second", code=None)  # it misses the outputs of the stages that were not run
    assert outputs(workspace) == whole


def test_only_results_that_stay_in_git_are_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str, code: int | None = 0) -> None:
        run(tmp_path, "git", "-c", "user.name=tester", "-c", "user.email=t@example.org", *arguments, code=code)

    def write(checkpoint: str) -> None:
        (tmp_path / "dvc.lock").write_text(f"md5: {checkpoint}\n")
        git("add", "dvc.lock")

    monkeypatch.chdir(tmp_path)
    assert not train.is_committed("first"), "there is no repository"
    git("init", "--quiet", "--initial-branch", "main")
    assert not train.is_committed("first"), "there is no commit"
    write("first")
    git("commit", "--quiet", "--message", "first")
    write("stashed")
    git("stash", "--quiet")
    git("checkout", "--quiet", "-b", "other")
    write("other")
    git("commit", "--quiet", "--message", "other")
    git("checkout", "--quiet", "main")
    write("main")
    git("commit", "--quiet", "--message", "main")
    git("merge", "--quiet", "other", code=1)  # a conflict
    write("merged")
    git("commit", "--quiet", "--message", "merge")
    git("update-ref", "refs/exps/ab/cdef/mine", "other")
    git("branch", "--quiet", "--delete", "--force", "other")
    write("staged")
    found = {name: train.is_committed(name) for name in ("first", "other", "main", "merged", "stashed", "staged")}
    assert found == {"first": True, "other": True, "main": True, "merged": True, "stashed": False, "staged": False}


def test_orphans_stop_and_the_next_run_resumes(workspace: Path, whole: str) -> None:
    orphans = []
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = start(workspace, "dvc", "repro", "train", pause=1)
        wait_for(process, "epoch: ")
        orphans.append(trainers(workspace)[-1])
        process.send_signal(number)
        wait_until(lambda dvc=process: dvc.poll() is not None)  # type: ignore[misc]
    output = run(workspace, "dvc", "repro", "train")
    assert "resuming after epoch" in output
    assert not any(map(alive, orphans))
    assert outputs(workspace) == whole


def test_a_stage_run_by_hand_outlives_its_shell(workspace: Path, whole: str) -> None:
    shell = start(workspace, "sh", "-c", "python -m stages train & wait", pause=0.5)
    wait_for(shell, "epoch: 1 step: 1,")
    (trainer,) = trainers(workspace)
    os.kill(shell.pid, signal.SIGKILL)
    wait_until(lambda: not alive(trainer))
    shell.communicate()
    assert outputs(workspace) == whole
