"""The real program on its smallest cases. The tests check that there are figures, not how large they are."""

import json
import signal
from functools import partial
from pathlib import Path
from timeit import Timer
from typing import Any

import pytest

from alexnet.kernels import onednn
from alexnet.model.alexnet_layers import training_pflop
from alexnet.model.networks.alexnet import AlexNet
from benchmarks import measure
from benchmarks.bench import KINDS, thread_counts
from benchmarks.machine import precisions
from benchmarks.measure import repeat
from tests import workspaces
from tests.networks import narrow
from tests.trainings import wait_for
from tests.workspaces import change, run

NOT_MEASURED = {"pipeline", "amp_level", "kernels", "times_zoo", "overhead_percent", "save_s", "save_seconds"}
"""Names, and figures that can be 0 or negative."""
BENCH = ("python", "-m", "benchmarks")


@pytest.fixture(scope="module")
def project(module_path: Path) -> Path:
    """A copy of the project with larger images and batches than those of `--quick`."""
    folder = workspaces.copy(module_path / "alexnet")
    change(folder, model={"image_height": 227, "image_width": 227}, train={"batch_size": 32})
    return folder


def results(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_quick_measures_everything(project: Path) -> None:
    before = files_of(project)
    output = run(project, *BENCH, "--quick")
    assert files_of(project) - before == {project / "benchmarks" / "results.json"}
    assert max(map(len, output.splitlines())) <= 100

    values = results(project / "benchmarks" / "results.json")
    assert list(values) == ["machine", "quick", *KINDS]
    assert values["quick"] is True
    machine = values["machine"]
    assert {"name", "cores", "memory_gb", "system", "load_average", "python", "mindspore", "numpy"} <= set(machine)
    for kind in KINDS:
        assert str(KINDS[kind].__doc__) in output
        for row in values[kind]:
            for name in set(row) - NOT_MEASURED:
                assert all(value > 0 for value in (row[name] if isinstance(row[name], list) else [row[name]])), name
                assert not name.endswith("seconds") or kind == "stage" or len(row[name]) == 1

    assert [row["amp_level"] for row in values["matmul"]] == list(precisions())
    assert {(row["size"], row["threads"]) for row in values["matmul"]} == {(256, 1)}
    zoo, _, masks, everything = values["pipeline"]
    assert "every augmentation" in everything["pipeline"]
    assert "resize to 67 px" in zoo["pipeline"]
    assert masks["times_zoo"] == masks["images_per_second"] / zoo["images_per_second"]
    kinds = ["onednn", "mindspore"] if onednn.available() else ["mindspore"]
    assert [step["kernels"] for step in values["step"] if step["amp_level"] == "O0"] == kinds
    for step in values["step"]:
        assert (step["image_size"], step["batch_size"], step["batch_norm"]) == (67, 4, True)
        assert step["images_per_second"] == pytest.approx(4 / step["seconds"][0])
        peak = next(row["gflop_per_second"] for row in values["matmul"] if row["amp_level"] == step["amp_level"])
        with narrow():
            speed = training_pflop(10, 67, 67, 4) * 1e6 / step["seconds"][0]
        assert step["share_of_peak"] == pytest.approx(speed / peak)
        assert not any("torch" in name for name in step)
    assert [evaluation["kernels"] for evaluation in values["evaluation"]] == kinds
    for evaluation in values["evaluation"]:
        assert (evaluation["image_size"], evaluation["batch_size"], evaluation["images"]) == (67, 10, 20)
    (state,) = values["state"]
    with narrow():
        parameters = sum(parameter.size for parameter in AlexNet(10, 67, 67, 0).trainable_params())
    assert state["mb"] * 1e6 == pytest.approx(4 * 2 * parameters, rel=0.02), "weights and momentum"
    (stage,) = values["stage"]
    assert (stage["image_size"], stage["batch_size"], stage["threads"]) == (67, 4, 1)
    assert stage["steps_a_save"] == workspaces.TINY["run"]["save_checkpoint_steps"]
    assert len(stage["save_seconds"]) == 1
    added = stage["stage_ms"] + 1000 * stage["save_s"] / stage["steps_a_save"] - stage["bare_ms"]
    assert stage["overhead_percent"] == pytest.approx(100 * added / stage["bare_ms"])


def test_options_choose_what_is_measured_how_often_and_the_output(project: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    run(project, *BENCH, "--only", "matmul", "--repetitions", "2", "--output", str(path))
    values = results(path)
    assert set(values) == {"machine", "quick", "matmul"}
    assert values["quick"] is False
    threads = list(thread_counts(values["machine"]["cores"]))
    assert [row["threads"] for row in values["matmul"]] == threads * len(precisions())
    for row in values["matmul"]:
        assert row["size"] == 3072
        assert len(row["seconds"]) == 2


def test_pytorch_is_measured_with_the_given_python(project: Path, tmp_path: Path) -> None:
    # PyTorch is not a dependency of this project, so a script stands in for it, in which a step takes one second.
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path / "calls"}\n'
        'if [ "$1" = -c ]; then echo 9.8.7; else echo \'{"seconds": [1.0]}\'; fi\n',
        encoding="utf-8",
    )
    python.chmod(0o755)
    path = tmp_path / "results.json"
    run(project, *BENCH, "--quick", "--only", "step", "--torch-python", str(python), "--output", str(path))
    values = results(path)
    assert values["machine"]["torch"] == "9.8.7"
    for step in values["step"]:
        assert step["torch_ms"] == step["channels_last_ms"] == 1000
        assert step["times_torch"] == pytest.approx(1000 / step["ms"])
    calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()[1:]
    assert all(call.startswith("-m benchmarks.torch_step step ") for call in calls)
    requests = [json.loads(call.split(maxsplit=3)[3]) for call in calls]
    assert [arguments.pop("channels_last") for arguments in requests] == [False, True] * len(precisions())
    assert [arguments.pop("amp_level") for arguments in requests[::2]] == list(precisions())
    sizes = {"image_size": 67, "batch_size": 4, "batch_norm": True, "threads": 1, "repetitions": 1}
    assert requests[::2] == [sizes | {"learning_rate": 0.002, "momentum": 0.9}] * len(precisions())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--torch-python", "nowhere/python"), "--torch-python is nowhere/python, expected a Python that can import"),
        (("--output", "stages"), "--output is stages, which is a folder, expected a file"),
        (("--repetitions", "0"), "'0', expected a whole number of at least 1"),
        (("--only", "everything"), "invalid choice: 'everything'"),
    ],
)
def test_a_wrong_option_is_one_line(arguments: tuple[str, ...], message: str, project: Path) -> None:
    output = run(project, *BENCH, *arguments, code=2)
    assert [line for line in output.splitlines() if message in line] == output.splitlines()[-1:]


def test_a_failing_case_is_named_with_the_command_that_repeats_it(tmp_path: Path) -> None:
    project = workspaces.copy(tmp_path / "alexnet")
    change(project, data={"train_images": 50}, train={"batch_size": 60})
    before = files_of(project)
    path = tmp_path / "results.json"
    output = run(project, *BENCH, "--only", "matmul", "stage", "--repetitions", "1", "--output", str(path), code=2)
    assert set(results(path)) == {"machine", "quick", "matmul"}, "what was measured before is kept"
    last = output.splitlines()[-1]
    assert last.startswith("ERROR: stage failed: ")
    assert "batch_size is 60, expected at most 50" in last
    assert "-m benchmarks.stage stage '{" in last
    assert files_of(project) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(number: signal.Signals, project: Path, tmp_path: Path) -> None:
    process = workspaces.start(project, *BENCH, "--only", "matmul", "step", "--output", str(tmp_path / "results.json"))
    wait_for(process, "Matrix product")
    assert list(project.glob(".dvc/tmp/bench-*"))
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert output.splitlines()[-1] == "ERROR: interrupted"
    assert not list(project.glob(".dvc/tmp/bench-*"))


def test_thread_counts() -> None:
    assert thread_counts(1) == (1,)
    assert thread_counts(2) == (1, 2)
    assert thread_counts(6) == (1, 2, 4, 6)
    assert thread_counts(8) == (1, 2, 4, 8)


@pytest.mark.parametrize(("seconds", "repetitions", "calls"), [(0.125, 9, 2 + 9 * 2), (4, 3, 2 + 3), (6, 3, 1 + 3)])
def test_a_repetition_is_long_enough_and_there_are_no_more_than_needed(
    seconds: float, repetitions: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, made = 0.0, 0

    def call() -> None:
        nonlocal now, made
        now, made = now + seconds, made + 1

    monkeypatch.setattr(measure, "Timer", partial(Timer, timer=lambda: now))
    assert repeat(call, 9) == [seconds] * repetitions
    assert made == calls


def test_repeat_leaves_out_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits = 0.0, [0.5, 0.5]

    def call() -> None:
        nonlocal now
        now += waits.pop() if waits else 0.25

    monkeypatch.setattr(measure, "Timer", partial(Timer, timer=lambda: now))
    assert repeat(call, 3) == [0.25] * 3
