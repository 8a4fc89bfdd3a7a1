import json
import os
import textwrap
from collections.abc import Callable
from typing import Any

import mindspore as ms
import pytest

from alexnet.runtime import device
from alexnet.runtime.choices import TARGETS
from alexnet.runtime.errors import InputError
from tests.conftest import Run, one_line

CORES = len(os.sched_getaffinity(0))


def test_this_machine_has_a_cpu() -> None:
    assert "CPU" in device.available()


def raises_without_gpu(target: str) -> int:
    if target == "GPU":
        raise RuntimeError("no GPU")
    return 1


@pytest.mark.parametrize("count", [lambda target: int(target != "GPU"), raises_without_gpu])
def test_libraries_without_a_device_are_not_enough(
    count: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ms.hal, "is_available", lambda _: True)
    monkeypatch.setattr(ms.hal, "device_count", count)
    assert device.available() == ["Ascend", "CPU"]


@pytest.mark.parametrize("target", ["GPU", "Ascend"])
def test_a_missing_device_is_refused(target: str) -> None:
    if target in device.available():
        pytest.skip(f"this machine has {target}")
    with pytest.raises(InputError) as caught:
        device.select(target)
    one_line(caught, f"device_target is {target}", f"MindSpore finds only {', '.join(device.available())}", "GLOG_v=1")


@pytest.mark.parametrize("target", ["GPU", "Ascend"])
def test_nothing_is_computed_where_workers_must_join_first(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    targets: list[str] = []
    monkeypatch.setattr(device, "available", lambda: [target, "CPU"])
    monkeypatch.setattr(ms, "set_device", targets.append)
    rounding: list[tuple[str, bool]] = []
    for name, module, function in (
        ("GPU", ms.device_context.gpu.op_precision, "conv_allow_tf32"),
        ("Ascend", ms.device_context.ascend.op_precision, "conv_allow_hf32"),
    ):
        monkeypatch.setattr(module, function, lambda value, name=name: rounding.append((name, value)))
    monkeypatch.setattr(ms.ops, "matmul", None)
    assert device.select("auto", 1000) == (target, None), "threads are those of the CPU"
    assert targets == [target]
    assert rounding == [(target, False)], "O0 is float32"


SELECT = """
    import json, os, sys
    from alexnet.runtime import device
    from alexnet.runtime.errors import InputError
    try:
        selection = device.select(*json.loads(sys.argv[1]))
    except InputError as error:
        selection = str(error)
    import mindspore as ms, numpy as np
    total = ms.Tensor(np.arange(1000, dtype=np.float32)).sum().asnumpy().item()
    allowed = {len(os.sched_getaffinity(int(task))) for task in os.listdir("/proc/self/task")}
    print(json.dumps({"selection": selection, "total": total, "allowed": sorted(allowed)}))
"""


def select_in_a_process(run: Run, target: str, threads: int | str) -> Any:
    """Return the result of `select` in a new process, in which all threads must be able to use all cores afterwards."""
    process = run("-c", textwrap.dedent(SELECT), json.dumps([target, threads]))
    assert process.stderr == ""
    result = json.loads(process.stdout)
    assert result["total"] == 499_500
    assert result["allowed"] == [CORES]
    return result["selection"]


def test_auto_takes_the_first_device_and_every_core(run: Run) -> None:
    assert select_in_a_process(run, "auto", "auto") == [device.available()[0], CORES]


def test_one_thread_can_be_chosen(run: Run) -> None:
    assert select_in_a_process(run, "CPU", 1) == ["CPU", 1]


def test_the_first_kernel_runs_on_as_many_cores_as_there_are_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """MindSpore computes with that many threads from then on."""
    cores: list[int] = []
    matmul = ms.ops.matmul

    def watched(*arguments: Any) -> Any:
        cores.append(len(os.sched_getaffinity(0)))
        return matmul(*arguments)

    monkeypatch.setattr(ms.ops, "matmul", watched)
    device.select("CPU", 1)
    assert cores == [1]
    assert len(os.sched_getaffinity(0)) == CORES


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(5)))
    started: list[int] = []
    monkeypatch.setattr(device, "_start_threads", started.append)
    assert device.select("CPU", "auto", workers=2) == ("CPU", 2)
    assert device.select("CPU", "auto", workers=9) == ("CPU", 1)
    assert started == [2, 1]


def test_more_threads_than_cores_are_refused(run: Run) -> None:
    message = select_in_a_process(run, "CPU", CORES + 1)
    assert f"threads is {CORES + 1}" in message
    assert f"{CORES} cores" in message
    assert "\n" not in message


def test_importing_mindspore_through_the_library_prints_nothing(run: Run) -> None:
    process = run("-c", "import alexnet.model.networks.alexnet; print('imported')")
    assert (process.returncode, process.stderr, process.stdout) == (0, "", "imported\n")


@pytest.mark.parametrize(
    ("mode", "target", "sinks"),
    [("auto", "CPU", False), ("auto", "GPU", True), ("auto", "Ascend", True)]
    + [(False, target, False) for target in TARGETS]
    + [(True, "GPU", True), (True, "Ascend", True)],
)
def test_data_are_sunk_where_possible(mode: bool | str, target: str, sinks: bool) -> None:
    assert device.sinks_data(mode, target) is sinks


def test_data_sinking_on_the_cpu_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        device.sinks_data(True, "CPU")
    one_line(caught, "dataset_sink_mode is true", "CPU has no data sinking", "auto or false")
