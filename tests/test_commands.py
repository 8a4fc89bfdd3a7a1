import json
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import psutil
import pytest

from alexnet import cifar10
from alexnet.evaluation.evaluate import evaluate
from alexnet.kernels.choice import Kernels
from alexnet.model.checkpoint import load_network, save_weights
from alexnet.runtime import device
from alexnet.runtime.processes import alive
from alexnet.training.launcher import free_port
from stages import evaluate as evaluate_stage
from stages.__main__ import STAGES, TOOLS, description, parse
from tests import archives, workspaces
from tests.conftest import Run
from tests.workspaces import ROOT, TINY, change, start, wait_until


def files_of(workspace: Path) -> set[str]:
    """Return the files in a folder, except for the code."""
    return {
        str(path.relative_to(workspace))
        for path in workspace.rglob("*")
        if path.is_file() and path.relative_to(workspace).parts[0] not in ("stages", "alexnet")
    }


@pytest.fixture
def small(workspace: Path) -> Path:
    """The workspace with params.yaml for a small archive, which is at archive.tar.gz, and a small network."""
    archives.write(workspace / "archive.tar.gz", archives.files())
    change(workspace, data=TINY["data"], model={"image_height": 67, "image_width": 99, "batch_norm": False})
    return workspace


def put_test_images(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "test_batch.bin").write_bytes(archives.files()["test_batch.bin"])


@pytest.mark.parametrize("stage", ["download", "verify", "evaluate"])
def test_a_wrong_parameter_is_one_line_before_any_work(stage: str, small: Path, run: Run) -> None:
    change(small, train={"epochs": 3}, evaluate={"batch_size": 0})
    before = files_of(small)
    result = run("-m", "stages", stage)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("ERROR: ")
    assert "train.epochs is 3" in result.stderr
    assert "did you mean epoch_size?" in result.stderr
    assert "evaluate.batch_size is 0, expected a whole number from 1 to 10^9" in result.stderr
    assert files_of(small) == before


@pytest.mark.parametrize("arguments", [["train", "--epoch_size", "0"], ["evaluate", "--batch_size", "0"], ["export"]])
def test_a_wrong_value_is_reported_before_mindspore_is_imported(arguments: list[str], small: Path, run: Run) -> None:
    if arguments == ["export"]:
        change(small, train={"epoch_size": 0})
    without = f"import sys; sys.modules['mindspore'] = None; from stages.__main__ import main; main({arguments})"
    result = run("-c", without)
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert "_size is 0, expected a whole number from 1 to 10^9" in result.stderr


def test_a_missing_archive_is_one_line(small: Path, run: Run) -> None:
    before = files_of(small)
    result = run("-m", "stages", "verify")
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("ERROR: ")
    assert "data/cifar-10-binary.tar.gz: No such file" in result.stderr
    assert files_of(small) == before


def test_a_missing_checkpoint_is_one_line(small: Path, run: Run) -> None:
    put_test_images(small / "data" / "cifar-10-verify-bin")
    before = files_of(small)
    result = run("-m", "stages", "evaluate")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "ERROR: no checkpoint at models/alexnet.ckpt: train first, or name a checkpoint file\n"
    assert files_of(small) == before


def test_missing_initial_weights_are_told_before_the_download(small: Path, run: Run) -> None:
    change(small, data={"urls": ["generated"], "md5": None}, train={"initial_weights": "none.ckpt"})
    before = files_of(small)
    result = run("-m", "stages", "download")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "ERROR: train.initial_weights is none.ckpt, but there is no file none.ckpt: give a checkpoint or null\n"
    )
    assert files_of(small) == before


def test_a_download_that_fails_is_one_line(small: Path, run: Run) -> None:
    url = f"http://127.0.0.1:{free_port()}/a.tar.gz"
    change(small, data={"urls": [url, "none.tar.gz"], "md5": "0" * 32})
    before = files_of(small)
    once = (
        "import alexnet.archive.download; alexnet.archive.download.RETRIES = 0; "
        "from stages.__main__ import main; main(['download'])"
    )
    result = run("-c", once)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("ERROR: no place in urls has the archive")
    assert result.stdout.splitlines() == [
        f"{url}: Connection refused",
        "none.tar.gz: cannot be read: No such file or directory",
    ]
    assert files_of(small) == before


def test_download_and_verify_write_only_their_outputs(small: Path, run: Run) -> None:
    for stage in ("download", "verify"):
        result = run("-m", "stages", stage)
        assert (result.returncode, result.stderr) == (0, "")
    assert files_of(small) == {
        "params.yaml",
        "archive.tar.gz",
        "data/cifar-10-binary.tar.gz",
        *(f"data/cifar-10-batches-bin/{name}" for name in (*cifar10.TRAIN_FILES, "batches.meta.txt")),
        "data/cifar-10-verify-bin/test_batch.bin",
        "metrics/data.json",
    }
    assert json.loads((small / "metrics" / "data.json").read_text(encoding="utf-8"))["train"]["images"] == 100


def test_a_relative_path_starts_at_dvcs_root(small: Path, run: Run, tmp_path: Path) -> None:
    archive = (small / "archive.tar.gz").rename(tmp_path / "archive.tar.gz")
    result = run("-m", "stages", "download", DVC_ROOT=str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    assert (small / "data" / "cifar-10-binary.tar.gz").read_bytes() == archive.read_bytes()


@pytest.mark.parametrize("name", ["metrics", "data"])
def test_a_folder_that_cannot_be_written_is_one_line(name: str, small: Path, run: Run) -> None:
    if name == "metrics":
        assert run("-m", "stages", "download").returncode == 0
    (small / name).write_text("a file", encoding="utf-8")
    result = run("-m", "stages", "verify" if name == "metrics" else "download")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("ERROR: ")
    assert name in result.stderr
    assert "None" not in result.stderr
    assert (small / name).read_text(encoding="utf-8") == "a file"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("OSError(28, 'No space left on device', 'models/a.ckpt')", "No space left on device: models/a.ckpt"),
        ("OSError(28, 'No space left on device')", "No space left on device"),
        ("OSError('the disk\\nis gone')", "the disk is gone"),
    ],
)
def test_a_system_error_is_reported_with_what_is_known(error: str, line: str, run: Run) -> None:
    result = run("-c", f"from stages.__main__ import run\ndef stage():\n    raise {error}\nrun(stage)")
    assert result.returncode == 1
    assert result.stderr == f"ERROR: {line}\n"


@pytest.mark.parametrize("stage", ["download", "verify", "report", "export"])
def test_a_stage_without_arguments_refuses_them(stage: str, small: Path, run: Run) -> None:
    before = files_of(small)
    result = run("-m", "stages", stage, "--data_path", "x")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.endswith(f"python -m stages {stage}: error: unrecognized arguments: --data_path x\n")
    result = run("-m", "stages", stage, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"Stage {stage}: " in result.stdout
    assert files_of(small) == before


@pytest.mark.parametrize("stage", ["download", "verify"])
def test_an_archive_of_another_md5_is_one_line(stage: str, small: Path, run: Run) -> None:
    if stage == "verify":
        assert run("-m", "stages", "download").returncode == 0
    change(small, data={"md5": "0" * 32})
    before = files_of(small)
    result = run("-m", "stages", stage)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("ERROR: ")
    assert f"expected {'0' * 32}" in (result.stdout if stage == "download" else result.stderr)
    assert files_of(small) == before


def test_a_bug_keeps_its_traceback(run: Run) -> None:
    result = run("-c", "from stages.__main__ import run\ndef stage():\n    raise KeyError('a bug')\nrun(stage)")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "a bug" in result.stderr


@pytest.mark.parametrize(("name", "found"), [(("trian",), "there is no stage trian"), ((), "no stage is given")])
def test_an_unknown_stage_is_one_line(name: tuple[str, ...], found: str, run: Run) -> None:
    result = run("-m", "stages", *name)
    assert (result.returncode, result.stdout) == (2, "")
    assert (
        result.stderr == f"ERROR: {found}, expected one of {', '.join(STAGES + TOOLS)}; see python -m stages --help\n"
    )


@pytest.mark.parametrize("stage", ["train", "download"])
def test_the_command_of_earlier_versions_says_what_to_type(stage: str, small: Path, run: Run) -> None:
    before = files_of(small)
    result = run("-m", f"stages.{stage}", "--data_path", "x")
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("ERROR: ")
    assert f"type `python -m stages {stage}`" in result.stderr
    assert files_of(small) == before


@pytest.mark.parametrize("stage", [None, *STAGES, *TOOLS])
def test_help_needs_no_mindspore(stage: str | None, workspace: Path, run: Run) -> None:
    (workspace / "mindspore.py").write_text("raise SystemExit('MindSpore was imported')\n", encoding="utf-8")
    result = run("-m", "stages", *([stage] if stage else []), "--help")
    assert (result.returncode, result.stderr) == (0, "")
    for name in [stage] if stage else STAGES + TOOLS:
        summary = description(name).splitlines()[0].removeprefix(f"Stage {name}: ")
        assert summary in " ".join(result.stdout.split())


@pytest.fixture(scope="module")
def network(narrow_network: Any) -> Any:
    return narrow_network


@pytest.fixture(scope="module")
def saved(network: Any, module_path: Path) -> Path:
    save_weights(network, module_path / "alexnet.ckpt")
    return module_path / "alexnet.ckpt"


@pytest.fixture
def checkpoint(saved: Path, small: Path) -> Path:
    """The checkpoint of the network in the workspace. All tests share this file, so none may write to it."""
    path = small / "models" / "alexnet.ckpt"
    path.parent.mkdir()
    path.hardlink_to(saved)
    return path


INTERRUPTIBLE = {
    "download": ("-m", "stages", "download"),
    "verify": ("-m", "stages", "verify"),
    "evaluate": ("-m", "stages", "evaluate"),
    "report": ("-m", "stages", "report"),
    "export": ("-m", "stages", "export"),
    "predict": ("-m", "alexnet", "predict", "image.png"),
}


def waits_for_signals(pid: int) -> bool:
    """Return whether a process has already blocked Ctrl-C."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (blocked,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:"))
    return bool(int(blocked, 16) >> signal.SIGINT - 1 & 1)


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [
        *((command, signal.SIGINT, 130) for command in INTERRUPTIBLE),
        *(("download", number, code) for number, code in ((signal.SIGTERM, 143), (signal.SIGHUP, 129))),
        ("predict", signal.SIGTERM, 143),
    ],
)
def test_a_signal_is_one_line(command: str, number: signal.Signals, code: int, small: Path, checkpoint: Path) -> None:
    put_test_images(small / "data" / "cifar-10-verify-bin")
    before = files_of(small)
    process = start(small, "python", *INTERRUPTIBLE[command])
    wait_until(lambda: waits_for_signals(process.pid), process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=300)
    assert (process.returncode, output) == (code, "ERROR: interrupted\n")
    assert files_of(small) == before


def test_a_download_can_be_interrupted_while_the_server_is_silent(small: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.tar.gz"
        change(small, data={"urls": [url], "md5": None})
        before = files_of(small)
        process = start(small, "python", "-m", "stages", "download")
        connection, _ = server.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=20)
    assert (process.returncode, output) == (130, "ERROR: interrupted\n")
    assert files_of(small) == before
    assert not list(small.rglob("*.partial"))


def test_output_that_cannot_be_written_is_one_line(small: Path, checkpoint: Path) -> None:
    put_test_images(small / "data" / "cifar-10-verify-bin")
    for command in ("stages evaluate", f"alexnet predict --json {ROOT}/docs/report.png"):
        output = workspaces.run(small, "sh", "-c", f"python -m {command} > /dev/full", code=1)
        assert output == "ERROR: No space left on device\n"


def test_a_signal_in_the_middle_of_writing_leaves_nothing(small: Path, checkpoint: Path) -> None:
    before = files_of(small)
    process = start(small, "python", *INTERRUPTIBLE["export"])
    wait_until(lambda: (small / "models" / ".alexnet.onnx.partial").exists(), process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert (process.returncode, output) == (130, "ERROR: interrupted\n")
    assert files_of(small) == before
    assert not list(small.rglob("*.partial"))


def test_a_stage_whose_dvc_is_gone_ends_without_outputs(small: Path, checkpoint: Path) -> None:
    put_test_images(small / "data" / "cifar-10-verify-bin")
    before = files_of(small)
    dvc = start(
        small,
        "env",
        "DVC_ROOT=.",
        "python",
        "-c",
        "import subprocess, sys; subprocess.run([sys.executable, '-m', 'stages', 'evaluate'])",
    )
    wait_until(lambda: bool(psutil.Process(dvc.pid).children()), dvc)
    (stage,) = psutil.Process(dvc.pid).children()
    wait_until(lambda: waits_for_signals(stage.pid))
    dvc.kill()
    output, _ = dvc.communicate(timeout=300)  # the stage has its output too
    assert output == "ERROR: interrupted\n"
    wait_until(lambda: not alive(stage))
    assert files_of(small) == before


def test_evaluate_writes_metrics_and_prints_the_accuracy(small: Path, checkpoint: Path, network: Any, run: Run) -> None:
    folder = small / "data" / "cifar-10-verify-bin"
    put_test_images(folder)
    before = files_of(small)
    expected = evaluate(network, cifar10.read(folder, cifar10.TEST_FILES), 100)
    result = run("-m", "stages", "evaluate")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{{'Accuracy': {expected.accuracy}}}\n"
    assert files_of(small) - before == {
        "metrics/eval.json",
        "metrics/per_class.json",
        "plots/confusion.csv",
        "predictions/filters.npy",
        "predictions/logits.npy",
    }
    np.testing.assert_array_equal(np.load(small / "predictions" / "filters.npy"), network.conv1.weight.asnumpy())
    logits = np.load(small / "predictions" / "logits.npy")
    assert (logits.dtype, logits.shape) == (np.float32, (20, 10))
    np.testing.assert_allclose(logits, expected.logits, rtol=1e-4, atol=1e-5)
    metrics = json.loads((small / "metrics" / "eval.json").read_text(encoding="utf-8"))
    assert metrics == {
        "accuracy": expected.accuracy,
        "top_3_accuracy": expected.top_3_accuracy,
        "loss": pytest.approx(expected.loss, rel=1e-5),
        "expected_calibration_error": pytest.approx(expected.expected_calibration_error, rel=1e-3),
        "images": archives.TEST_IMAGES,
    }
    assert json.loads((small / "metrics" / "per_class.json").read_text(encoding="utf-8")) == expected.per_class
    rows = (small / "plots" / "confusion.csv").read_text(encoding="utf-8").splitlines()
    names = cifar10.CLASS_NAMES
    labels = [i % len(names) for i in range(archives.TEST_IMAGES)]
    pairs = zip(labels, expected.predicted, strict=True)
    assert rows == ["actual,predicted", *(f"{names[label]},{names[predicted]}" for label, predicted in pairs)]
    assert checkpoint.exists()


def test_evaluation_uses_its_parameters(small: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_test_images(small / "data" / "cifar-10-verify-bin")
    values = {"device_target": "GPU", "threads": 3, "kernels": "mindspore", "amp_level": "O2"}
    change(small, evaluate={**values, "batch_size": 7, "mirror": True})
    calls: list[tuple[Any, ...]] = []

    def select(*arguments: Any) -> tuple[str, int]:
        calls.append(arguments)
        return "CPU", 1

    def reached(*arguments: Any) -> None:
        calls.append(arguments)
        sys.exit("reached")

    monkeypatch.chdir(small)
    monkeypatch.setattr(device, "select", select)
    monkeypatch.setattr(evaluate_stage, "evaluate", reached)
    with pytest.raises(SystemExit, match="reached"):
        evaluate_stage.main(parse(["evaluate"])[1])
    assert calls[0] == ("GPU", 3)
    assert calls[1][0].kernels == Kernels("mindspore", "O2")
    assert calls[1][2:] == (7, True)


def test_a_checkpoint_of_the_zoo_is_evaluated(small: Path, network: Any, run: Run) -> None:
    """The checkpoint does not contain its image size, which differs from that of params.yaml."""
    put_test_images(small / "images")
    zoos = [{"name": name, "data": value} for name, value in network.parameters_and_names()]
    ms.save_checkpoint(zoos, str(small / "zoo.ckpt"))
    change(small, model={"image_height": 96, "image_width": 96})
    expected = evaluate(network, cifar10.read(small / "images", cifar10.TEST_FILES), 100)
    command = ("-m", "stages", "evaluate", "--data_path", "images", "--ckpt_path", "zoo.ckpt")
    result = run(*command, "--image_height", "67", "--image_width", "99")
    assert (result.returncode, result.stderr, result.stdout) == (0, "", f"{{'Accuracy': {expected.accuracy}}}\n")
    result = run(*command)
    assert result.returncode == 2
    assert "give image_height and image_width" in result.stderr


def test_the_zoos_evaluation_prints_the_accuracy_and_writes_nothing(small: Path, checkpoint: Path, run: Run) -> None:
    """The last layer of the network always predicts bird, so the accuracy is known."""
    bird: Any = load_network(checkpoint)
    bird.fc3.weight.set_data(ms.Tensor(np.zeros(bird.fc3.weight.shape, np.float32)))
    bird.fc3.bias.set_data(ms.Tensor(np.eye(10, dtype=np.float32)[2]))
    save_weights(bird, small / "bird.ckpt")
    checkpoint.unlink()
    put_test_images(small / "images")
    (small / "images" / "test_batch.bin").write_bytes(archives.records(np.array([2, 2, 3, 2, 0]), 0))
    before = files_of(small)
    result = run("-m", "stages", "evaluate", "--data_path", "images", "--ckpt_path", "bird.ckpt", "--batch_size", "2")
    assert (result.returncode, result.stderr, result.stdout) == (0, "", "{'Accuracy': 0.6}\n")
    assert files_of(small) == before
