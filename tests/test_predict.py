"""`python -m alexnet predict` as users run it, in a folder that has only the library."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from alexnet.__main__ import parse
from alexnet.cifar10 import CLASS_NAMES
from alexnet.evaluation.calibration import softmax
from alexnet.evaluation.evaluate import logits_of
from alexnet.inference.classifier import Classifier
from alexnet.inference.export import write_onnx
from alexnet.inference.image_file import FORMATS
from alexnet.inference.onnx_classifier import OnnxClassifier
from alexnet.inference.predict import likeliest, open_model
from alexnet.model.checkpoint import save_weights
from alexnet.runtime import device
from alexnet.runtime.errors import InputError
from tests import workspaces
from tests.conftest import one_line
from tests.networks import drawings, varied
from tests.test_requirements import imported
from tests.workspaces import ROOT

IMAGES = drawings(3)
READ = ", ".join(FORMATS)


@pytest.fixture(scope="module")
def network(narrow_network: Any) -> Any:
    return varied(10, 67, 67)


@pytest.fixture(scope="module")
def folder(network: Any, module_path: Path) -> Path:
    """A folder with the library, a model at the usual path, one like the zoo's, three images and other files."""
    folder = module_path
    shutil.copytree(ROOT / "alexnet", folder / "alexnet", ignore=shutil.ignore_patterns("__pycache__"))
    workspaces.make_narrow(folder)
    save_weights(network, folder / "models" / "alexnet.ckpt")
    write_onnx(Classifier(network), folder / "models" / "alexnet.onnx")
    ms.save_checkpoint(network, str(folder / "zoo.ckpt"))
    for number, image in enumerate(IMAGES):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{number}.png")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:1000])
    (folder / "notes.txt").write_text("no image", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def expected(network: Any) -> list[dict[str, float]]:
    """The three likeliest classes of each image, from the logits of the evaluation."""
    answers = softmax(logits_of(network, IMAGES, 3))
    order = np.argsort(-answers, axis=1)[:, :3]
    assert len(np.unique(order[:, 0])) > 1
    return [{CLASS_NAMES[i]: float(row[i]) for i in best} for row, best in zip(answers, order, strict=True)]


def predict(
    folder: Path, *arguments: str | bytes, stdin: bytes = b"", **variables: str
) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "alexnet", "predict", *arguments]
    environment = workspaces.environment() | variables
    return subprocess.run(
        command, cwd=folder, env=environment, input=stdin, capture_output=True, timeout=300, check=False
    )


def line(name: str, classes: dict[str, float]) -> str:
    return f"{name}: {', '.join(f'{label} {probability:.3f}' for label, probability in classes.items())}"


def test_the_three_likeliest_classes(folder: Path, expected: list[dict[str, float]]) -> None:
    result = predict(folder, "0.png", "1.png", "2.png")
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode().splitlines() == [line(f"{i}.png", classes) for i, classes in enumerate(expected)]


def test_a_name_that_standard_output_cannot_encode(folder: Path, expected: list[dict[str, float]]) -> None:
    shutil.copy(folder / "0.png", folder / "猫.png")
    result = predict(folder, "猫.png", PYTHONIOENCODING="ascii")
    (folder / "猫.png").unlink()
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode("ascii").splitlines() == [line("\\u732b.png", expected[0])]


def test_what_is_not_an_image_is_reported(folder: Path, expected: list[dict[str, float]]) -> None:
    names = ["none.png", "0.png", "notes.txt", "models", "cut.png", "-", "a\n\x1b\udcff.png", "2.png"]
    shutil.copy(folder / "2.png", folder / "a\n\x1b\udcff.png")
    result = predict(folder, *map(os.fsencode, names), stdin=(folder / "1.png").read_bytes())
    (folder / "a\n\x1b\udcff.png").unlink()
    assert result.returncode == 2
    answers = [line("0.png", expected[0]), line("-", expected[1]), line("a\\n\\x1b\\udcff.png", expected[2])]
    answers.append(line("2.png", expected[2]))
    assert result.stdout.decode().splitlines() == answers
    assert result.stderr.decode().splitlines() == [
        "ERROR: none.png: cannot be read: No such file or directory",
        "ERROR: notes.txt: not an image in a supported format (" + READ + ")",
        "ERROR: models: cannot be read: Is a directory",
        "ERROR: cut.png: the image cannot be read: Truncated File Read",
    ]


def test_json_is_one_document_with_the_failures(folder: Path, expected: list[dict[str, float]]) -> None:
    names = ["0.png", "notes.txt", "1.png", "none.png", "\x1b\n\udcff.png"]
    result = predict(folder, "--json", *map(os.fsencode, names))
    assert result.returncode == 2
    assert b"\\ud" not in result.stdout.replace(b"\\\\", b""), "no half of a surrogate pair"
    document = json.loads(result.stdout)
    assert document["failures"] == [
        {"image": "notes.txt", "error": "not an image in a supported format (" + READ + ")"},
        {"image": "none.png", "error": "cannot be read: No such file or directory"},
        {"image": "\x1b\n\\udcff.png", "error": "cannot be read: No such file or directory"},
    ]
    assert [prediction["image"] for prediction in document["predictions"]] == ["0.png", "1.png"]
    for prediction, classes in zip(document["predictions"], expected, strict=False):
        found = {one["class"]: one["probability"] for one in prediction["classes"]}
        assert list(found) == list(classes)
        assert found == pytest.approx(classes, abs=1e-5)


WITHOUT = (
    "import runpy, sys\n"
    "*missing, command = sys.argv[1].split(',')\n"
    "sys.modules.update(dict.fromkeys(missing))\n"
    "sys.argv[1:2] = [command]\n"
    "runpy.run_module('alexnet', run_name='__main__', alter_sys=True)\n"
)
"""A program that runs a command of `python -m alexnet` as if some packages were not installed."""


def predict_without(missing: str, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-c", WITHOUT, f"{missing},predict", *arguments]
    return subprocess.run(
        command, cwd=folder, env=workspaces.environment(), capture_output=True, timeout=300, check=False
    )


@pytest.mark.parametrize("model", [(), ("--model", "models/alexnet.onnx", "--device_target", "CPU")])
def test_the_onnx_file_answers_without_mindspore(
    model: tuple[str, ...], folder: Path, expected: list[dict[str, float]]
) -> None:
    # All packages of the project but those that docs/model.md calls enough.
    missing = ",".join(sorted(imported("alexnet", "stages", "tools") - {"numpy", "PIL", "psutil"}))
    done = predict_without(missing, folder, *model, "--json", "0.png", "notes.txt", "cut.png", "1.png")
    assert done.returncode == 2
    document = json.loads(done.stdout)
    assert [failure["image"] for failure in document["failures"]] == ["notes.txt", "cut.png"]
    assert [prediction["image"] for prediction in document["predictions"]] == ["0.png", "1.png"]
    for prediction, classes in zip(document["predictions"], expected, strict=False):
        found = {one["class"]: one["probability"] for one in prediction["classes"]}
        assert list(found) == list(classes)
        assert found == pytest.approx(classes, abs=1e-4)


def test_the_checkpoint_is_asked_where_mindspore_is(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "alexnet", tmp_path / "alexnet")
    (line,) = predict(tmp_path, str(folder / "0.png")).stderr.decode().splitlines()
    assert line.startswith("ERROR: no checkpoint at models/alexnet.ckpt")
    (line,) = predict_without("mindspore", tmp_path, str(folder / "0.png")).stderr.decode().splitlines()
    assert line.startswith("ERROR: no model at models/alexnet.onnx")


@pytest.mark.parametrize(
    ("missing", "model", "part"),
    [
        ("mindspore", "models/alexnet.ckpt", "models/alexnet.ckpt needs MindSpore, which is not installed"),
        ("onnxruntime", "models/alexnet.onnx", "needs ONNX Runtime, which is not installed: pip install onnxruntime"),
    ],
)
def test_what_is_not_installed_is_one_line(missing: str, model: str, part: str, folder: Path) -> None:
    done = predict_without(missing, folder, "--model", model, "0.png")
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.decode().splitlines()
    assert part in line


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["\x1b[2Jcat", *"abcdefghi"], ()),
        ([["a"], *"bcdefghij"], ("is no ONNX file of this project",)),
        ("abcdefghij", ("is no ONNX file of this project",)),
    ],
)
def test_class_names_of_an_onnx_file_are_checked(
    names: Any, parts: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    path, model = tmp_path / "a.onnx", onnx.load(folder / "models" / "alexnet.onnx")
    helper.set_model_props(model, {"class_names": json.dumps(names)})
    onnx.save(model, path)
    if not parts:
        assert OnnxClassifier(path).class_names[0] == r"\x1b[2Jcat"
        return
    with pytest.raises(InputError) as caught:
        OnnxClassifier(path)
    one_line(caught, str(path), *parts)


def test_an_onnx_file_whose_network_fails_is_one_line(tmp_path: Path) -> None:
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 32, 32, 3])
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2])
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 7])  # an image has 3072 values
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
        helper.make_node("Slice", ["y", "start", "end", "axis"], ["probabilities"]),
    ]
    places = {"start": 0, "end": 2, "axis": 1}
    bounds = [helper.make_tensor(name, TensorProto.INT64, [1], [place]) for name, place in places.items()]
    graph = helper.make_graph(nodes, "failing", [images], [probabilities], [shape, *bounds])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"class_names": '["a", "b"]'})
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(InputError) as caught:
        OnnxClassifier(tmp_path / "a.onnx").probabilities(np.zeros((1, 32, 32, 3), np.uint8))
    one_line(caught, f"the network in {tmp_path / 'a.onnx'} cannot be computed", "export the model again")


@pytest.mark.parametrize("fault", ["empty", "page", "half", "another"])
def test_an_onnx_file_that_cannot_be_asked_is_one_line(fault: str, folder: Path, tmp_path: Path) -> None:
    whole = (folder / "models" / "alexnet.onnx").read_bytes()
    content = {"empty": b"", "page": b"<html>\n<body></body>\n</html>\n", "half": whole[: len(whole) // 2]}
    path = tmp_path / "a.onnx"
    if fault == "another":
        value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "other", [value], [value])
        graph.output[0].name = "y"
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, {"class_names": "[]"})
        path.write_bytes(model.SerializeToString())
    else:
        path.write_bytes(content[fault])
    with pytest.raises(InputError) as caught:
        OnnxClassifier(path)
    one_line(caught, f"{path} is no ONNX file of this project")


def test_a_model_of_the_zoo_and_a_pipe(folder: Path, expected: list[dict[str, float]]) -> None:
    size = ("--image_height", "67", "--image_width", "67")
    pipe, end = os.pipe()
    with os.fdopen(end, "wb") as file:
        file.write((folder / "0.png").read_bytes())
    command = [sys.executable, "-m", "alexnet", "predict", "--model", "zoo.ckpt", *size, f"/dev/fd/{pipe}"]
    options: dict[str, Any] = {"cwd": folder, "env": workspaces.environment(), "capture_output": True, "text": True}
    result = subprocess.run(command, pass_fds=[pipe], timeout=300, check=False, **options)
    os.close(pipe)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == line(f"/dev/fd/{pipe}", expected[0]) + "\n"


def test_closed_standard_input_and_output_are_no_bug(folder: Path) -> None:
    command = [sys.executable, "-m", "alexnet", "predict", "-", "0.png"]

    def close() -> None:
        for handle in (0, 1):
            os.close(handle)

    options: dict[str, Any] = {"cwd": folder, "env": workspaces.environment(), "stderr": subprocess.PIPE, "text": True}
    done = subprocess.run(command, preexec_fn=close, timeout=300, check=False, **options)
    assert (done.returncode, done.stderr) == (2, "ERROR: -: cannot be read: standard input is closed\n")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--model", "none.ckpt"], ["no checkpoint at none.ckpt", "train first"]),
        (["--model", "zoo.ckpt"], ["zoo.ckpt does not say", "image_height and image_width"]),
        (["--model", "zoo.ckpt", "--image_height", "99", "--image_width", "99"], ["fc1.weight of shape (64, 32)"]),
        (["--image_width", "227"], ["image_width is 227, but models/alexnet.ckpt says 67"]),
        (["--device_target", "Ascend"], ["device_target is Ascend", "CPU"]),
        (["--model", "none.onnx"], ["no model at none.onnx", "export"]),
        (["--model", "models/alexnet.onnx", "--device_target", "GPU"], ["device_target is GPU", "leave it out"]),
        (["--model", "models/alexnet.onnx", "--image_height", "67"], ["models/alexnet.onnx", "leave image_height"]),
    ],
)
def test_a_model_that_cannot_be_used_is_refused(
    arguments: list[str], parts: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    if "Ascend" not in arguments:  # selecting the CPU would change the threads of this process
        monkeypatch.setattr(device, "select", lambda *_: ("CPU", 1))
    flags = parse(["predict", "0.png", *arguments])
    with pytest.raises(InputError) as caught:
        open_model(flags.model, flags.device_target, flags.image_height, flags.image_width)
    one_line(caught, *parts)


def test_a_refused_model_is_one_line(folder: Path) -> None:
    result = predict(folder, "0.png", "--json", "--model", "models/alexnet.onnx", "--device_target", "GPU")
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.decode().splitlines() == [
        "ERROR: device_target is GPU, but models/alexnet.onnx is computed on the CPU: leave it out"
    ]


def test_fewer_classes_than_asked_for_and_equal_ones() -> None:
    class Even:
        class_names = ("cat", "dog")

        def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.full((len(images), 2), 0.5, np.float32)

    assert list(likeliest(Even(), np.zeros((32, 32, 3), np.uint8), 3).items()) == [("cat", 0.5), ("dog", 0.5)]


def test_an_output_that_is_nan_is_refused(network: Any) -> None:
    huge = varied(10, 67, 67)
    huge.fc2.weight.set_data(ms.Tensor(np.full(huge.fc2.weight.shape, 3e38, np.float32)))
    huge.fc3.weight.set_data(ms.Tensor(np.tile(np.array([3e38, -3e38], np.float32), (10, 32))))
    with pytest.raises(InputError) as caught:
        likeliest(Classifier(huge), np.full((32, 32, 3), 99, np.uint8), 3)
    one_line(caught, "NaN")
