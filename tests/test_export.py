"""The exported files, written by the stage and run like in other programs."""

import json
import re
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import onnx
import onnxruntime
import pytest
from mindspore import nn
from mindspore.train.mind_ir_pb2 import ModelProto
from numpy.typing import NDArray
from PIL import Image

from alexnet.cifar10 import CLASS_NAMES
from alexnet.evaluation.calibration import softmax
from alexnet.evaluation.evaluate import logits_of
from alexnet.inference import export
from alexnet.inference.classifier import Classifier
from alexnet.model.checkpoint import load_network, save_weights
from alexnet.runtime import device
from alexnet.runtime.errors import InputError
from stages import export as stage
from tests import workspaces
from tests.conftest import one_line
from tests.networks import drawings, varied
from tests.workspaces import run

IMAGES = drawings(100)
NAMES = [*CLASS_NAMES, "class 10", "class 11"]
SHARED = (1, 7, 100)
"""Batch sizes that every file must accept."""


@pytest.fixture(scope="module")
def network(narrow_network: Any) -> Any:
    return narrow_network


@pytest.fixture(scope="module")
def folder(network: Any, module_path: Path) -> Path:
    """A workspace in which the stage has exported a network of twelve outputs."""
    folder = workspaces.copy(module_path / "alexnet")
    save_weights(varied(12, 67, 99), folder / "models" / "alexnet.ckpt")
    assert run(folder, "python", "-m", "stages", "export") == ""
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path) -> NDArray[np.float64]:
    """The probabilities that follow from the logits of the evaluation."""
    answers = softmax(logits_of(load_network(folder / "models" / "alexnet.ckpt"), IMAGES, 100))
    assert len(np.unique(answers.argmax(axis=1))) > 4
    return answers


@pytest.fixture(scope="module")
def session(folder: Path) -> Any:
    return onnxruntime.InferenceSession(folder / "models" / "alexnet.onnx")


def as_programs_have_them(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("batch", SHARED)
def test_onnx_agrees_with_mindspore(batch: int, session: Any, expected: NDArray[np.float64]) -> None:
    raw = as_programs_have_them(IMAGES)
    answers = np.concatenate([session.run(None, {"images": raw[i : i + batch]})[0] for i in range(0, 100, batch)])
    assert (answers.shape, answers.dtype) == ((100, 12), np.float32)
    np.testing.assert_array_equal(answers.argmax(axis=1), expected.argmax(axis=1))
    assert np.abs(answers - expected).max() < 1e-4


@pytest.mark.parametrize("batch", SHARED)
def test_mindir_agrees_with_mindspore(batch: int, folder: Path, expected: NDArray[np.float64]) -> None:
    cell = nn.GraphCell(ms.load(str(folder / "models" / "alexnet.mindir")))
    answers = cell(ms.Tensor(as_programs_have_them(IMAGES[:batch]))).asnumpy()
    np.testing.assert_array_equal(answers.argmax(axis=1), expected[:batch].argmax(axis=1))
    assert np.abs(answers - expected[:batch]).max() < 1e-5


def test_onnx_describes_its_input_and_output(session: Any, folder: Path) -> None:
    (source,), (target,) = session.get_inputs(), session.get_outputs()
    assert (source.name, source.type, source.shape) == ("images", "tensor(uint8)", ["batch", 32, 32, 3])
    assert (target.name, target.type, target.shape) == ("probabilities", "tensor(float)", ["batch", 12])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == NAMES
    onnx.checker.check_model(folder / "models" / "alexnet.onnx", full_check=True)


def test_the_program_in_the_readme(folder: Path, expected: NDArray[np.float64]) -> None:
    readme = (folder / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    Image.fromarray(as_programs_have_them(IMAGES)[0]).save(folder / "cat.jpg", "PNG")
    assert run(folder, "python", "-c", program) == NAMES[expected[0].argmax()] + "\n"


def test_mindir_has_the_class_names(folder: Path) -> None:
    model: Any = ModelProto()
    model.ParseFromString((folder / "models" / "alexnet.mindir").read_bytes())
    assert {entry.key: json.loads(entry.value) for entry in model.user_info} == {"class_names": NAMES}


def test_everybody_may_read_the_files(folder: Path) -> None:
    for name in ("alexnet.onnx", "alexnet.mindir"):
        assert (folder / "models" / name).stat().st_mode & 0o444 == 0o444


def test_the_same_checkpoint_gives_the_same_bytes(folder: Path) -> None:
    files = [folder / "models" / name for name in ("alexnet.onnx", "alexnet.mindir")]
    before = [file.read_bytes() for file in files]
    run(folder, "python", "-m", "stages", "export")
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize("content", ["none", "the zoo's"])
def test_a_checkpoint_that_cannot_be_exported_is_one_line(content: str, network: Any, tmp_path: Path) -> None:
    folder = workspaces.copy(tmp_path / "alexnet")
    checkpoint = folder / "models" / "alexnet.ckpt"
    if content == "the zoo's":
        ms.save_checkpoint(network, str(checkpoint))
    before = set((folder / "models").iterdir())
    output = run(folder, "python", "-m", "stages", "export", code=2)
    assert output.startswith("ERROR: ")
    assert "models/alexnet.ckpt" in output
    assert output.count("\n") == 1
    assert set((folder / "models").iterdir()) == before


def test_both_files_appear_or_none(network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.chdir(tmp_path)
    save_weights(network, Path("models/alexnet.ckpt"))
    Path("models/alexnet.onnx").write_text("the one before", encoding="utf-8")
    monkeypatch.setattr(stage, "write_mindir", fail)
    monkeypatch.setattr(device, "select", lambda _: None)  # it is too late for that here
    with pytest.raises(OSError, match="the disk is full"):
        stage.main()
    assert {path.name for path in Path("models").iterdir()} == {"alexnet.ckpt", "alexnet.onnx"}
    assert Path("models/alexnet.onnx").read_text(encoding="utf-8") == "the one before"


@pytest.mark.parametrize("write", [export.write_onnx, export.write_mindir])
def test_a_network_too_large_for_one_file_is_refused(
    write: Any, network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MAX_PARAMETER_BYTES", 100_000)
    size = sum(4 * parameter.size for parameter in network.get_parameters())
    with pytest.raises(InputError) as caught:
        write(Classifier(network), tmp_path / "a")
    one_line(caught, f"parameters have {size} bytes", "at most 100000", "image_height")
    assert not list(tmp_path.iterdir())
