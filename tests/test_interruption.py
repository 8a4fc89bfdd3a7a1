"""Training that is killed, stopped, spoilt or doubled, in real processes; it must end with the same bytes."""

import argparse
import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import termios
import time
from hashlib import md5
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from filelock import FileLock, Timeout

from alexnet.runtime.processes import alive
from stages import train
from stages.states import _describe as describe
from stages.states import main
from tests import archives, workspaces
from tests.workspaces import change, run, start, wait_until

HOLD_TIMES = ("metrics/timing.json", "report")
TRAIN = ("python", "-m", "stages", "train")


def with_all_kinds_of_state(folder: Path) -> Path:
    """Set a workspace to a training whose state has all that one can have: still ten steps."""
    archives.write(folder / "archive.tar.gz", archives.files(train_images=120))
    change(
        folder,
        data={"train_images": 120},
        model={"batch_norm": True, "dropout_rate": 0.5},
        train={"validation_images": 20, "flip": "alternating", "lr_schedule": "cosine", "ema_decay": 0.9},
    )
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with its data verified."""
    folder = with_all_kinds_of_state(workspaces.copy(tmp_path_factory.mktemp("original") / "alexnet"))
    for stage in ("download", "verify"):
        run(folder, "python", "-m", "stages", stage)
    return folder


@pytest.fixture(scope="module")
def whole(original: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The outputs of a training never interrupted."""
    folder = Path(shutil.copytree(original, tmp_path_factory.mktemp("whole") / "alexnet"))
    output = run(folder, *TRAIN)
    assert "epoch: 2 step: 5, loss is" in output
    assert "resuming" not in output
    return outputs(folder)


@pytest.fixture
def workspace(original: Path, tmp_path: Path) -> Path:
    """A copy of that workspace to do anything to."""
    return Path(shutil.copytree(original, tmp_path / "alexnet"))


def outputs(folder: Path) -> str:
    """The MD5 of the checkpoint, and the metrics and curves that must not differ from run to run."""
    checkpoint = md5((folder / "models" / "alexnet.ckpt").read_bytes(), usedforsecurity=False).hexdigest()
    curves = sorted((folder / "dvclive").rglob("*.*"))
    assert len(curves) == 6
    return checkpoint + "".join(path.read_text() for path in (folder / "metrics" / "train.json", *curves))


def no_outputs(folder: Path) -> bool:
    return not any((folder / name).exists() for name in ("models/alexnet.ckpt", "metrics/train.json"))


def times(folder: Path) -> list[int]:
    """When each output was written."""
    files = [folder / "models" / "alexnet.ckpt", *(folder / "metrics").iterdir(), *(folder / "dvclive").rglob("*.*")]
    return [path.stat().st_mtime_ns for path in files]


def states(folder: Path) -> list[str]:
    """The saved states, the newest last."""
    names = (folder / ".dvc" / "tmp" / "alexnet").glob("*/checkpoint_alexnet-*.ckpt")
    return [path.name for path in sorted(names, key=lambda path: path.stat().st_mtime_ns)]


def wait_for(process: "subprocess.Popen[str]", text: str) -> None:
    """Read what a process prints until a line contains the text."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return
    raise AssertionError(f"no {text!r} in {''.join(seen)}")


def trainers(folder: Path) -> list[psutil.Process]:
    """The processes that train in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            inside = Path(process.cwd()).is_relative_to(folder)
            if inside and {"stages", "train"} <= set(process.cmdline()) and alive(process):
                found.append(process)
        except psutil.Error:
            pass
    return found


def test_killed_at_several_moments(workspace: Path, whole: str) -> None:
    # A state is saved after each step, so that most of these moments are in the middle of saving one.
    for text, delay in (("epoch: 1 step: 1,", 0.0), ("epoch: 1 step: 3,", 0.4), ("step: 2,", 0.8)):
        process = start(workspace, *TRAIN)
        wait_for(process, text)
        time.sleep(delay)
        process.kill()
        process.communicate()
        assert no_outputs(workspace)
    assert "resuming after epoch" in run(workspace, *TRAIN)
    assert outputs(workspace) == whole
    assert not list(workspace.rglob("*.partial"))


def test_killed_while_a_state_is_written(workspace: Path, whole: str) -> None:
    process = start(workspace, *TRAIN)
    wait_for(process, "epoch: 1 step: 2,")
    wait_until(lambda: any((workspace / ".dvc" / "tmp" / "alexnet").glob("*/.checkpoint*.partial")))
    process.kill()
    process.communicate()
    assert list((workspace / ".dvc" / "tmp" / "alexnet").glob("*/.checkpoint*.partial"))
    assert "resuming after epoch 1" in run(workspace, *TRAIN)
    assert outputs(workspace) == whole


@pytest.mark.parametrize("function", ["save_weights", "timing"])
def test_killed_while_the_outputs_are_written(function: str, workspace: Path, whole: str) -> None:
    change(workspace, run={"save_checkpoint_steps": 7})
    kill = f"import os, stages.train; stages.train.{function} = lambda *_: os.kill(os.getpid(), 9); "
    output = run(workspace, "python", "-c", kill + "from stages.__main__ import main; main(['train'])", code=-9)
    assert "epoch: 2 step: 5, loss is" in output
    output = run(workspace, *TRAIN)
    assert "resuming after epoch 2 step 5" in output
    assert "loss is" not in output
    assert outputs(workspace) == whole


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_the_state(number: signal.Signals, code: int, workspace: Path, whole: str) -> None:
    change(workspace, run={"save_checkpoint_steps": "epoch"})
    process = start(workspace, *TRAIN)
    wait_for(process, "epoch: 1 step: 2,")
    process.send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == code
    assert "state saved: the same command resumes from there" in output
    assert "Traceback" not in output
    assert len(states(workspace)) == 1
    assert no_outputs(workspace)
    assert "resuming after epoch 1 step" in run(workspace, *TRAIN)
    assert outputs(workspace) == whole


def test_a_closed_terminal_saves_the_state(workspace: Path, whole: str) -> None:
    change(workspace, run={"save_checkpoint_steps": "epoch"})
    terminal, end = os.openpty()
    process = subprocess.Popen(
        # The shell sends a SIGHUP to its jobs when it gets one, beside the kernel's.
        ("bash", "-c", 'trap "kill -HUP %1; wait" HUP; python -m stages train & wait; wait'),
        cwd=workspace,
        env=workspaces.environment(),
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
    process.wait(timeout=60)
    assert len(states(workspace)) == 1
    assert no_outputs(workspace)
    assert "resuming after epoch 1 step" in run(workspace, *TRAIN)
    assert outputs(workspace) == whole


def test_nohup_ignores_a_closed_terminal(workspace: Path, whole: str) -> None:
    process = start(workspace, "nohup", *TRAIN)
    wait_for(process, "epoch: 1 step: 2,")
    process.send_signal(signal.SIGHUP)
    process.communicate()
    assert process.returncode == 0
    assert outputs(workspace) == whole


def test_a_watcher_sees_steps_arrive(workspace: Path) -> None:
    """What DVC's extension for VS Code reads: the summary, the curves, and DVCLive's signal file."""
    process = start(workspace, *TRAIN)
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


@pytest.mark.parametrize("harm", ["cut", "altered", "no checksum"])
def test_a_damaged_state_is_found_out(harm: str, workspace: Path, whole: str) -> None:
    process = start(workspace, *TRAIN)
    wait_for(process, "epoch: 1 step: 4,")
    process.terminate()
    process.communicate()
    newest = next((workspace / ".dvc" / "tmp" / "alexnet").glob(f"*/{states(workspace)[-1]}"))
    content = bytearray(newest.read_bytes())
    if harm == "cut":
        newest.write_bytes(content[:-1000])
    elif harm == "altered":
        content[len(content) // 2] ^= 1
        newest.write_bytes(content)
    else:
        newest.with_name(newest.name + ".sha256").unlink()
    output = run(workspace, *TRAIN)
    assert f"{newest.name} is damaged" in output
    assert "resuming after epoch 1 step" in output
    assert outputs(workspace) == whole


def test_only_the_newest_states_are_kept(workspace: Path) -> None:
    change(workspace, run={"keep_checkpoint_max": 3, "keep_state": True})
    run(workspace, *TRAIN)
    assert states(workspace) == [f"checkpoint_alexnet-2_{step}.ckpt" for step in (3, 4, 5)]


def test_a_state_of_another_training_is_not_picked_up(workspace: Path, whole: str) -> None:
    process = start(workspace, *TRAIN)
    wait_for(process, "epoch: 1 step: 2,")
    process.terminate()
    process.communicate()
    change(workspace, train={"seed": 2})
    assert "resuming" not in run(workspace, *TRAIN)
    assert outputs(workspace) != whole
    assert len(states(workspace)) == 3, "the two states of the first training are still there"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core has one thread count")
def test_threads_are_part_of_what_identifies_a_training(workspace: Path) -> None:
    """Another number can round differently."""
    change(workspace, train={"threads": 2})
    run(workspace, *TRAIN)
    assert json.loads((workspace / "metrics" / "timing.json").read_text(encoding="utf-8"))["threads"] == 2
    (identity,) = (workspace / ".dvc" / "tmp" / "alexnet").glob("*/identity.json")
    assert json.loads(identity.read_text(encoding="utf-8"))["train"]["threads"] == 2


def test_a_second_run_of_the_same_training_waits(workspace: Path, whole: str) -> None:
    first = start(workspace, *TRAIN)
    wait_for(first, "epoch: 1 step: 1,")
    second = start(workspace, *TRAIN)
    wait_for(second, "another process runs this very training")
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


def test_dvc_that_waited_writes_the_outputs_again(project: Path, whole: str) -> None:
    """It has removed those that the first was writing, so that these are not whole."""
    first = start(project, *TRAIN)
    wait_for(first, "epoch: 1 step: 3,")
    second = start(project, "dvc", "repro", "train")
    wait_for(second, "another process runs this very training")
    first.communicate()
    output, _ = second.communicate()
    assert second.returncode == 0, output
    assert "epoch: 1" not in output
    assert outputs(project) == whole


def test_a_second_run_of_the_same_training_is_refused_in_the_end(workspace: Path) -> None:
    first = start(workspace, *TRAIN)
    wait_for(first, "epoch: 1 step: 1,")
    first.send_signal(signal.SIGSTOP)
    hurry = "import alexnet.training.state, stages.__main__ as stages; alexnet.training.state.LOCK_SECONDS = 1; "
    output = run(workspace, "python", "-c", hurry + "stages.main(['train'])", code=2)
    assert output.splitlines()[-1].startswith("ERROR: another process runs this very training")
    first.kill()
    first.communicate()


def test_a_full_disk_is_one_line_and_the_last_state_is_kept(workspace: Path, whole: str) -> None:
    process = start(workspace, *TRAIN)
    wait_for(process, "epoch: 1 step: 3,")
    process.terminate()
    process.communicate()
    before = states(workspace)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    output = run(workspace, *TRAIN, code=1, preexec_fn=limit)
    errors = [line for line in output.splitlines() if "ERROR" in line or "CRITICAL" in line]
    assert errors == [errors[0]]
    assert errors[0].startswith("ERROR: File too large")
    assert "Traceback" not in output
    assert states(workspace) == before
    assert no_outputs(workspace)
    run(workspace, *TRAIN)
    assert outputs(workspace) == whole


@pytest.mark.parametrize("name", [".dvc/tmp", "dvclive"])
def test_a_read_only_folder_is_one_line(name: str, workspace: Path) -> None:
    folder = workspace / name
    folder.mkdir(parents=True)
    folder.chmod(0o555)
    # Root may write everywhere, unless this is taken from it.
    as_others = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override") if os.geteuid() == 0 else ()
    output = run(workspace, *as_others, *TRAIN, code=1)
    folder.chmod(0o755)
    (error,) = (line for line in output.splitlines() if "ERROR" in line)
    assert error.startswith("ERROR: Permission denied: ")
    assert name in error
    assert "Traceback" not in output
    assert no_outputs(workspace)


def test_a_loss_that_is_lost_is_one_line(workspace: Path) -> None:
    change(workspace, train={"learning_rate": 1e20}, run={"save_checkpoint_steps": "epoch"})
    output = run(workspace, *TRAIN, code=2)
    error = output.splitlines()[-1]
    assert error.startswith("ERROR: ")
    assert "try a learning_rate below 1e+20" in error
    assert "Traceback" not in output
    assert states(workspace) == []
    assert no_outputs(workspace)


def test_state_is_kept_and_shown_and_cleared(workspace: Path) -> None:
    change(workspace, run={"keep_state": True})
    run(workspace, *TRAIN)
    shown = run(workspace, "python", "-m", "stages", "states")
    assert "67x67, epoch_size 2" in shown
    assert "checkpoint_alexnet-2_5" in shown
    assert len(states(workspace)) == 2
    assert "removed" in run(workspace, "python", "-m", "stages", "states", "--clear")
    assert states(workspace) == []
    assert run(workspace, "python", "-m", "stages", "states") == ""


def test_no_training_can_take_a_state_that_is_being_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ".dvc" / "tmp" / "alexnet" / "0123456789abcdef"
    folder.mkdir(parents=True)
    values = {"model": {"image_height": 67, "image_width": 67}, "train": {"epoch_size": 1, "learning_rate": 1}}
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
def test_whatever_was_left_is_one_line_and_cleared(
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


def test_an_identity_of_endless_lists_is_damaged(tmp_path: Path) -> None:
    for content in (b"[" * 1_000_000, b"\xff", b'{"model": [], "train": {}}', b"null"):
        (tmp_path / "identity.json").write_bytes(content)
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(1000)  # Python's own; MindSpore, which this process has, raises it
        try:
            assert describe(tmp_path) == "a training whose identity.json is damaged: no state"
        finally:
            sys.setrecursionlimit(limit)


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


def test_a_folder_named_like_a_state_is_told_and_replaced(workspace: Path, whole: str) -> None:
    process = start(workspace, *TRAIN)
    wait_for(process, "epoch: 1 step: 2,")
    process.kill()
    process.communicate()
    (folder,) = (workspace / ".dvc" / "tmp" / "alexnet").glob("*/")
    (folder / "checkpoint_alexnet-2_4.ckpt" / "empty").mkdir(parents=True)
    output = run(workspace, *TRAIN)
    assert "checkpoint_alexnet-2_4.ckpt is damaged" in output
    assert outputs(workspace) == whole


def test_the_state_of_a_running_training_is_not_cleared(workspace: Path, whole: str) -> None:
    process = start(workspace, *TRAIN)
    wait_for(process, "epoch: 1 step: 2,")
    assert "in use" in run(workspace, "python", "-m", "stages", "states", "--clear")
    process.communicate()
    assert process.returncode == 0
    assert outputs(workspace) == whole


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with DVC's first two stages run, with the data of `original`."""
    folder = with_all_kinds_of_state(workspaces.repository(tmp_path_factory.mktemp("repository") / "alexnet"))
    run(folder, "dvc", "repro", "verify")
    workspaces.commit(folder)
    return folder


@pytest.fixture
def project(repository: Path, tmp_path: Path) -> Path:
    """A copy of that repository to do anything to."""
    return Path(shutil.copytree(repository, tmp_path / "alexnet", symlinks=True))


def test_under_dvc_repro(project: Path, whole: str) -> None:
    process = start(project, "dvc", "repro", "train")
    wait_for(process, "epoch: 1 step: 3,")
    for trainer in trainers(project):
        trainer.kill()
    process.communicate()
    assert process.returncode == 255
    assert no_outputs(project)
    output = run(project, "dvc", "repro", "train")
    assert "resuming after epoch 1 step" in output
    assert outputs(project) == whole


def test_killed_before_dvc_has_recorded_the_result(project: Path, whole: str) -> None:
    process = start(project, "dvc", "repro", "train")
    wait_for(process, "epoch: 2 step: 5,")
    wait_until(lambda: any((project / ".dvc" / "tmp" / "alexnet").glob("*/result.json")))
    process.kill()
    process.communicate()
    assert "models/alexnet.ckpt" not in (project / "dvc.lock").read_text(encoding="utf-8")
    output = run(project, "dvc", "repro", "train")
    assert "resuming after epoch 2 step 5" in output
    assert "loss is" not in output
    assert outputs(project) == whole
    assert states(project) == ["checkpoint_alexnet-2_5.ckpt"]
    assert "finished" in run(project, "python", "-m", "stages", "states")
    change(project, train={"seed": 2})
    process = start(project, *TRAIN)
    wait_for(process, "epoch: 1 step: 1,")
    process.kill()
    process.communicate()
    assert "checkpoint_alexnet-2_5.ckpt" not in states(project), "dvc.lock has its result"


def without_times(lock: str) -> Any:
    """What dvc.lock says of everything but the files that hold times."""
    stages = yaml.safe_load(lock)["stages"]
    return {
        stage: [entry for kind in ("deps", "outs") for entry in of.get(kind, ()) if entry["path"] not in HOLD_TIMES]
        for stage, of in stages.items()
    }


def test_dvc_repro_forced_changes_nothing_but_times(project: Path) -> None:
    run(project, "dvc", "repro")
    before = (project / "dvc.lock").read_text(encoding="utf-8")
    output = run(project, "dvc", "repro", "--force")
    assert "epoch: 2 step: 5, loss is" in output, "it must train, not take the result from the run cache"
    after = (project / "dvc.lock").read_text(encoding="utf-8")
    assert without_times(after) == without_times(before)


def test_under_a_temporary_experiment(project: Path, whole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(project, "dvc", "exp", "run", "--temp", "-S", "train.seed=1")
    wait_for(process, "epoch: 1 step: 3,")
    for trainer in trainers(project):
        trainer.kill()
    process.communicate()
    assert process.returncode == 255
    output = run(project, "dvc", "exp", "run", "--temp", "--name", "second", "-S", "train.seed=1")
    assert "resuming after epoch 1 step" in output
    result = json.loads(next((project / ".dvc" / "tmp" / "alexnet").glob("*/result.json")).read_text(encoding="utf-8"))
    assert result["result"] not in (project / "dvc.lock").read_text(encoding="utf-8")
    monkeypatch.chdir(project)
    assert train.recorded(result["result"]), "in the experiment's commit"
    assert not train.recorded("0" * 32)
    run(project, "dvc", "exp", "apply", "second")
    assert outputs(project) == whole


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_orphan_stops_and_the_next_run_goes_on(number: signal.Signals, project: Path, whole: str) -> None:
    process = start(project, "dvc", "repro", "train")
    wait_for(process, "epoch: 1 step: 2,")
    (orphan,) = trainers(project)
    process.send_signal(number)
    wait_until(lambda: process.poll() is not None)
    output = run(project, "dvc", "repro", "train")
    assert "resuming after epoch 1 step" in output
    assert not alive(orphan)
    assert outputs(project) == whole


def test_a_stage_run_by_hand_outlives_its_shell(workspace: Path, whole: str) -> None:
    shell = start(workspace, "sh", "-c", "python -m stages train & wait")
    wait_for(shell, "epoch: 1 step: 1,")
    (trainer,) = trainers(workspace)
    os.kill(shell.pid, signal.SIGKILL)
    wait_until(lambda: not alive(trainer), seconds=120)
    shell.communicate()
    assert outputs(workspace) == whole


def test_the_key_has_all_that_decides_the_result(workspace: Path) -> None:
    change(workspace, run={"keep_state": True}, train={"epoch_size": 1})
    run(workspace, *TRAIN)
    (path,) = (workspace / ".dvc" / "tmp" / "alexnet").glob("*/identity.json")
    identity = json.loads(path.read_text(encoding="utf-8"))
    assert set(identity) == {"data", "model", "train", "code", "packages"}
    assert set(identity["train"]) >= {"device_target", "threads", "workers", "seed", "amp_level"}
    assert identity["train"]["device_target"] == "CPU"
    assert identity["train"]["threads"] == 1
    stages = yaml.safe_load((workspace / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    deps = [workspace / dep for dep in stages["train"]["deps"] if dep.startswith("alexnet/")]
    files = {file for dep in deps for file in (dep.rglob("*.py") if dep.is_dir() else [dep])}
    modules = {".".join(file.relative_to(workspace).with_suffix("").parts).removesuffix(".__init__") for file in files}
    assert set(identity["code"]) == modules | {"alexnet", "stages.train"}
