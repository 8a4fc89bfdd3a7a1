"""Data-parallel training with the real `msrun`, by two workers on the CPU."""

import csv
import signal
from pathlib import Path

import psutil
import pytest

from alexnet.model.checkpoint import read_checkpoint
from alexnet.training.launcher import free_port
from tests.trainings import TRAIN, duplicate, no_outputs, outputs, states, trainers, verified, wait_for
from tests.workspaces import change, run, start, wait_until


@pytest.fixture(scope="module")
def original(module_path: Path) -> Path:
    """A workspace with verified data, for twenty steps without dropout."""
    return verified(
        module_path / "original" / "alexnet",
        model={"dropout_rate": 0, "batch_norm": False},
        train={
            "epoch_size": 4,
            "learning_rate": 0.01,
            "lr_schedule": "constant",
            "weight_init": "default",
            "whitening": True,
        },
    )


@pytest.fixture(scope="module")
def two(original: Path, module_path: Path) -> Path:
    """That workspace trained by two workers."""
    folder = duplicate(original, module_path / "two")
    change(folder, train={"workers": 2}, run={"save_checkpoint_steps": "epoch"})
    output = run(folder, *TRAIN)
    assert output.count("epoch: 4 step: 5, loss is") == 1, "one worker speaks"
    assert "[ERROR]" not in output
    return folder


@pytest.fixture
def workspace(original: Path, tmp_path: Path) -> Path:
    """A copy of the untrained workspace, set to two workers."""
    folder = duplicate(original, tmp_path)
    change(folder, train={"workers": 2})
    return folder


def losses(folder: Path) -> list[float]:
    with (folder / "dvclive" / "plots" / "metrics" / "train" / "loss.tsv").open(encoding="utf-8") as file:
        return [float(row["loss"]) for row in csv.DictReader(file, delimiter="\t")]


def worker(folder: Path, rank: int) -> psutil.Process:
    """Return the process of a worker that trains in a folder."""
    (found,) = (
        process
        for process in trainers(folder)
        if process.environ().get("MS_ROLE") == "MS_WORKER" and process.environ()["RANK_ID"] == str(rank)
    )
    return found


def test_two_workers_agree_with_one(original: Path, two: Path, tmp_path: Path) -> None:
    one = duplicate(original, tmp_path)
    run(one, *TRAIN)
    assert len(losses(one)) == 20
    assert losses(two) == pytest.approx(losses(one), rel=1e-3)
    assert outputs(two) != outputs(one), "the bits may differ, and do: two workers really shared the work"


def test_running_statistics_are_averaged(original: Path, tmp_path: Path) -> None:
    # After one step on all images, the mean of the means of both halves is the mean over all images.
    means = []
    for workers in (1, 2):
        folder = duplicate(original, tmp_path / str(workers))
        train = {"workers": workers, "epoch_size": 1, "batch_size": 100}
        change(folder, model={"batch_norm": True}, train=train)
        run(folder, *TRAIN)
        means.append(read_checkpoint(folder / "models" / "alexnet.ckpt")["bn1.moving_mean"])
    assert means[1] == pytest.approx(means[0], rel=1e-3, abs=1e-6)
    assert (means[0] != 0).all()


def test_killed_stopped_and_resumed_where_worker_0_alone_has_the_states(
    workspace: Path, two: Path, tmp_path: Path
) -> None:
    process = start(workspace, *TRAIN, pause=1)
    wait_for(process, "epoch: 1 step: 2,")
    worker(workspace, 1).kill()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    error = output.splitlines()[-1]
    assert error.startswith("ERROR: worker 1 died, see ")
    assert Path(workspace, error.split("died, see ")[1].split(";")[0]).is_file()
    assert "Traceback" not in output
    assert trainers(workspace) == []
    assert no_outputs(workspace)

    before = states(workspace)
    change(workspace, run={"save_checkpoint_steps": "epoch"})
    process = start(workspace, *TRAIN, pause=1)
    wait_for(process, "resuming after epoch 1 step")
    wait_for(process, "epoch: ")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 143
    assert "state saved: the same command resumes from there" in output
    assert states(workspace)[-1] != before[-1]
    assert trainers(workspace) == []

    # Worker 1 looks for the states in another folder, as it would on another machine.
    code = (
        "import os; from stages.__main__ import main; "
        f"os.environ.update({{'DVC_ROOT': {str(tmp_path / 'other')!r}}} if os.environ['RANK_ID'] == '1' else {{}}); "
        "main(['train'])"
    )
    command = ["msrun", "--worker_num=2", "--local_worker_num=2", f"--master_port={free_port()}", "--join=True"]
    run(workspace, *command, "--log_dir=logs", "python", "-c", code)
    assert "resuming after epoch" in (workspace / "logs" / "worker_0.log").read_text(encoding="utf-8")
    assert outputs(workspace) == outputs(two)


def test_all_workers_start_from_the_weights_of_worker_0(workspace: Path, two: Path) -> None:
    code = (
        "import os; from stages import train; from stages.__main__ import main; "
        "train.whiten = (lambda *_: None) if os.environ['RANK_ID'] == '1' else train.whiten; main(['train'])"
    )
    launch = (
        "import sys; from pathlib import Path; from alexnet.training.launcher import launch; "
        "launch(['-c', sys.argv[1]], 2, Path('logs'), lambda: False)"
    )
    run(workspace, "python", "-c", launch, code)
    assert outputs(workspace) == outputs(two)


def test_workers_do_not_outlive_their_launcher(workspace: Path) -> None:
    process = start(workspace, *TRAIN, pause=2)
    wait_for(process, "epoch: 1 step: 1,")
    process.kill()
    wait_until(lambda: trainers(workspace) == [])
    assert no_outputs(workspace)
    assert states(workspace)


def test_a_batch_that_cannot_be_shared_is_one_line(workspace: Path) -> None:
    change(workspace, train={"batch_size": 5})
    output = run(workspace, *TRAIN, code=2)
    assert output.splitlines() == ["ERROR: batch_size is 5, expected a multiple of the 2 workers"]
    assert not list(workspace.rglob("workers-*")), "it is refused before the workers start"


def test_what_a_worker_refuses_is_one_line_and_leaves_no_logs(workspace: Path) -> None:
    change(workspace, train={"batch_norm_bias_lr_factor": 2})
    output = run(workspace, *TRAIN, code=2)
    expected = "ERROR: batch_norm_bias_lr_factor is 2, expected 1, because the network has no batch normalisation"
    assert output.splitlines()[-1] == expected
    assert not list(workspace.rglob("workers-*"))


def test_msrun_by_hand_must_have_as_many_workers_as_the_parameters(workspace: Path) -> None:
    change(workspace, train={"workers": 3, "batch_size": 30})
    command = ["msrun", "--worker_num=2", "--local_worker_num=2", f"--master_port={free_port()}", "--join=True", *TRAIN]
    output = run(workspace, *command, code=None)
    assert "ERROR: workers is 3, but msrun started 2: give both the same number" in output
