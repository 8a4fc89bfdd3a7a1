"""The pipeline as a user runs it: in a repository of its own, with DVC, and with an archive from a local server."""

import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo
from mindspore import load_checkpoint
from PIL import Image

from alexnet.runtime.files import digest
from alexnet.training.launcher import free_port
from stages.__main__ import STAGES
from tests import workspaces
from tests.trainings import duplicate, outputs, without_times
from tests.workspaces import ROOT, change, read_json, run

CURVES = ("train/loss", "train/accuracy", "eval/loss", "eval/accuracy", "learning_rate")


@pytest.fixture(scope="module")
def served(module_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a real HTTP server, and the folder that it serves."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    folder = module_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


@pytest.fixture(scope="module")
def original(served: tuple[str, Path], module_path: Path) -> Path:
    """A repository whose pipeline has run once, with its results committed."""
    address, served_folder = served
    folder = workspaces.repository(module_path / "project" / "alexnet")
    archive = shutil.move(folder / "archive.tar.gz", served_folder / "cifar-10-binary.tar.gz")
    change(folder, data={"urls": [f"{address}/cifar-10-binary.tar.gz"], "md5": digest(Path(archive), "md5")})
    output = run(folder, "dvc", "repro")
    assert [stage for stage in STAGES if f"Running stage '{stage}'" in output] == list(STAGES)
    workspaces.commit(folder, "a run")
    return folder


@pytest.fixture
def project(original: Path, tmp_path: Path) -> Path:
    """A copy of that repository, which the test may change."""
    return duplicate(original, tmp_path)


def ran(output: str) -> list[str]:
    """Return the stages whose commands were run."""
    return [stage for stage in STAGES if f"Running stage '{stage}'" in output]


def changed(folder: Path) -> set[str]:
    """Return the stages that are changed before `dvc repro` runs any of them."""
    with Repo(str(folder)) as repo:  # as `dvc status`, without starting a process
        return {name.rpartition(":")[2] for name in repo.status()}


def metrics(folder: Path, name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "metrics" / f"{name}.json").read_text(encoding="utf-8"))
    return values


def test_outputs(original: Path) -> None:
    assert set(metrics(original, "data")) == {"archive", "generated", "train", "test"}
    train = metrics(original, "train")
    assert set(train) == {"train_loss", "train_accuracy", "images", "epochs", "steps", "parameters", "pflop"}
    assert (train["images"], train["epochs"], train["steps"]) == (100, 2, 10)
    checkpoint = load_checkpoint(str(original / "models" / "alexnet.ckpt"))
    trained = {name: value for name, value in checkpoint.items() if name.endswith(("weight", "bias", "gamma", "beta"))}
    assert train["parameters"] == sum(value.size for value in trained.values())
    timing = metrics(original, "timing")
    assert (timing["device_target"], timing["workers"]) == ("CPU", 1)
    assert all(timing[key] > 0 for key in ("threads", "images_per_second", "step_ms", "train_seconds", "save_seconds"))
    evaluation = metrics(original, "eval")
    assert set(evaluation) == {"accuracy", "top_3_accuracy", "loss", "expected_calibration_error", "images"}
    assert evaluation["images"] == 20
    assert len(metrics(original, "per_class")) == 10
    rows = (original / "plots" / "confusion.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "actual,predicted"
    correct = sum(actual == predicted for actual, predicted in (row.split(",") for row in rows[1:]))
    assert correct / 20 == evaluation["accuracy"]
    curves = original / "dvclive" / "plots" / "metrics"
    for name in ("train/loss", "train/accuracy", "learning_rate"):
        curve = (curves / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
        assert curve[0].split("\t") == ["step", name.split("/")[-1]]
        assert [row.split("\t")[0] for row in curve[1:]] == [str(step) for step in range(1, 11)]
    for name in ("loss", "accuracy"):
        assert (curves / "eval" / f"{name}.tsv").read_text(encoding="utf-8") == f"step\t{name}\n"
    summary = json.loads((original / "dvclive" / "metrics.json").read_text(encoding="utf-8"))
    assert summary["step"] == 10
    assert set(summary["train"]) == {"loss", "accuracy"}
    (state,) = (original / ".dvc" / "tmp" / "alexnet").glob("*/result.json")
    assert len(list(state.parent.glob("*.ckpt"))) == 1, "the last state stays until the next training finds it recorded"


def test_git_has_the_metrics_and_dvc_the_rest(original: Path) -> None:
    tracked = set(run(original, "git", "ls-files", "data", "models", "metrics", "plots", "dvclive").split())
    small = {f"metrics/{name}.json" for name in ("data", "train", "timing", "eval", "per_class")}
    curves = {f"dvclive/plots/metrics/{name}.tsv" for name in CURVES}
    small |= curves | {"dvclive/metrics.json", "plots/confusion.csv"}
    assert tracked == small | {"data/.gitignore", "models/.gitignore", "plots/.gitignore"}
    assert run(original, "git", "status", "--short") == ""


def test_dvc_repro_forced_changes_nothing_but_times(project: Path) -> None:
    before = (project / "dvc.lock").read_text(encoding="utf-8")
    output = run(project, "dvc", "repro", "--force")
    assert "epoch: 2 step: 5, loss is" in output, "it must train, not take the result from the run cache"
    after = (project / "dvc.lock").read_text(encoding="utf-8")
    assert without_times(after) == without_times(before)


def test_the_old_value_brings_back_results_that_were_not_committed(project: Path) -> None:
    change(project, train={"seed": 3})
    run(project, "dvc", "repro")
    before = outputs(project)
    run(project, "dvc", "exp", "run", "--temp", "-S", "train.seed=4")
    run(project, "python", "-m", "stages", "train", "--ckpt_path", "ckpt")
    for rate, problem in (("-1.0", "learning_rate is -1.0, expected"), ("1e20", "the loss is")):
        assert problem in run(project, "dvc", "exp", "run", "-S", f"train.learning_rate={rate}", code=255)
    assert not (project / "models" / "alexnet.ckpt").exists()
    change(project, train={"learning_rate": 0.02})
    output = run(project, "dvc", "repro", "evaluate")
    assert "resuming after epoch 2 step 5" in output
    assert "loss is" not in output
    assert outputs(project) == before


def test_only_headlines_are_metrics(original: Path) -> None:
    shown = read_json(original, "dvc", "metrics", "show", "--json")
    assert set(shown[""]["data"]) == {"metrics/train.json", "metrics/eval.json"}


def test_a_second_repro_runs_nothing(original: Path) -> None:
    assert ran(run(original, "dvc", "repro")) == []


@pytest.mark.parametrize(
    ("section", "key", "value", "stages"),
    [
        ("data", "train_images", 200, {"download", "verify", "report"}),
        ("model", "dropout_rate", 0.1, {"train", "evaluate", "report"}),
        ("train", "learning_rate", 0.1, {"train", "report"}),
        ("train", "threads", "auto", {"train", "report"}),
        ("evaluate", "batch_size", 7, {"evaluate", "report"}),
        ("run", "log_steps", 3, set()),
        ("run", "keep_checkpoint_max", 3, set()),
    ],
)
def test_a_parameter_changes_the_stages_that_read_it(
    section: str, key: str, value: object, stages: set[str], project: Path
) -> None:
    change(project, **{section: {key: value}})
    assert changed(project) == stages


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("stages/evaluate.py", {"evaluate"}),
        ("stages/train.py", {"train"}),
        ("stages/train_outputs.py", {"train"}),
        ("stages/params.py", set()),
        ("stages/__main__.py", set()),
        ("stages/zoo_flags.py", set()),
        ("versions.txt", {"train", "evaluate", "export"}),
        ("alexnet/training/batches.py", {"train"}),
        ("alexnet/model/networks/alexnet.py", {"train", "evaluate", "export"}),
        ("alexnet/inference/classifier.py", {"export"}),
        ("alexnet/inference/image_file.py", {"export"}),
        ("alexnet/archive/generated.py", {"download"}),
        ("alexnet/report/page.html.j2", {"report"}),
        ("alexnet/report/page.py", {"report"}),
        ("alexnet/report/__pycache__/page.cpython-310.pyc", set()),
    ],
)
def test_code_changes_the_stages_that_use_it(file: str, stages: set[str], project: Path) -> None:
    (project / file).parent.mkdir(exist_ok=True)
    with (project / file).open("a", encoding="utf-8") as code:
        code.write("# changed\n")
    assert changed(project) == stages


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_modules_that_a_stage_imports(stage: str) -> None:
    code = (
        f"import sys, stages.{stage}, os.path\n"
        "for name, module in sys.modules.items():\n"
        "    if name.split('.')[0] in ('stages', 'alexnet'): print(os.path.relpath(module.__file__))"
    )
    imported = {Path(name) for name in run(ROOT, "python", "-c", code).split()}
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    deps = {Path(dep) for dep in pipeline["stages"][stage]["deps"] if dep.startswith(("stages/", "alexnet/"))}
    modules = {module for module in imported if module.name != "__init__.py"}
    for dep in deps:
        assert any(module.is_relative_to(dep) for module in modules), f"{dep} is not used"
    # Code that can only refuse or mask a value, and code that only it imports, is not a dep; see dvc.yaml.
    free = {Path("stages/params.py"), Path("alexnet/model/registry.py")}
    free |= {Path("alexnet/runtime") / name for name in ("choices.py", "urls.py")}
    free |= {Path("alexnet/training") / name for name in ("batches.py", "schedule.py")}
    for module in modules - free:
        assert any(module.is_relative_to(dep) for dep in deps), f"{module} is no dep"


def test_the_code_deps_are_few() -> None:
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    code = {
        stage: sum(dep.startswith(("stages/", "alexnet/")) for dep in values["deps"])
        for stage, values in pipeline["stages"].items()
    }
    assert max(code.values()) <= 10


def test_an_experiment_changes_a_parameter(project: Path) -> None:
    output = run(
        project, "dvc", "exp", "run", "--name", "two", "-S", "train.seed=2", "-S", "train.validation_images=20"
    )
    assert ran(output) == ["train", "evaluate", "report", "export"]
    train = metrics(project, "train")
    assert train["steps"] == 8
    assert 0 <= train["validation_accuracy"] <= 1
    curve = (project / "dvclive" / "plots" / "metrics" / "eval" / "accuracy.tsv").read_text(encoding="utf-8")
    assert [row.split("\t")[0] for row in curve.splitlines()] == ["step", "4", "8"]
    assert float(curve.split()[-1]) == pytest.approx(train["validation_accuracy"])
    difference = read_json(project, "dvc", "metrics", "diff", "--json", "main", "two")
    loss = difference["metrics/train.json"]["train_loss"]
    assert loss["new"] == train["train_loss"]
    assert loss["diff"] == pytest.approx(loss["new"] - loss["old"])
    assert loss["diff"] != 0


def test_dvc_refuses_an_unknown_parameter(project: Path) -> None:
    output = run(project, "dvc", "exp", "run", "-S", "train.epochs=3", code=255)
    assert ran(output) == []


def test_the_stage_refuses_an_added_parameter(project: Path) -> None:
    output = run(project, "dvc", "exp", "run", "-S", "+train.epochs=3", code=255)
    lines = [line for line in output.splitlines() if "train.epochs is 3" in line]
    assert len(lines) == 1
    assert "did you mean epoch_size?" in lines[0]
    assert "exited with 2" in output
    assert "Traceback" not in output


def test_an_experiment_in_a_temporary_folder_leaves_the_workspace(project: Path) -> None:
    # The experiment must run the code of its own copy, not that of the workspace, which has changed in the meantime.
    run(project, "dvc", "exp", "run", "--queue", "--name", "queued", "-S", "train.seed=3", "train")
    (project / "alexnet" / "training" / "loop.py").write_text("raise SystemExit('the code of the workspace was run')\n")
    run(project, "dvc", "queue", "start")
    workspaces.wait_for_queue(project, 1)
    run(project, "git", "checkout", "--quiet", "alexnet/training/loop.py")
    output = run(project, "dvc", "exp", "run", "--temp", "--name", "temporary", "-S", "train.seed=4")
    assert ran(output) == ["train", "evaluate", "report", "export"]
    assert run(project, "git", "status", "--short") == ""
    commit = run(project, "git", "rev-parse", "--short", "HEAD").strip()
    run(project, "dvc", "get", ".", "report", "--rev", "temporary", "--out", "shown")
    assert f"<code>{commit}</code>" in (project / "shown" / "index.html").read_text(encoding="utf-8")
    for name in ("queued", "temporary"):
        assert read_json(project, "dvc", "metrics", "diff", "--json", "main", name)["metrics/train.json"]


def test_plots_have_titles_and_axes(original: Path) -> None:
    plots = read_json(original, "dvc", "plots", "diff", "--json", "HEAD")["data"]
    axes = {
        "Loss": ("step", "cross entropy"),
        "Accuracy": ("step", "accuracy"),
        "Learning rate": ("step", "learning rate"),
        "Confusion matrix": ("predicted class", "true class"),
    }
    pictures = {f"report/{path.name}" for path in (original / "report").glob("*.png")}
    assert len(pictures) == 9
    assert set(plots) == set(axes) | pictures
    for title, (x, y) in axes.items():
        content = json.dumps(plots[title])
        assert f'"title": {{"text": "{title}"' in content
        for label in (x, y):
            assert f'"title": "{label}"' in content


def test_no_network_is_one_line_that_says_what_to_do(project: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/cifar-10-binary.tar.gz"
    change(project, data={"urls": [url]})
    output = run(project, "dvc", "repro", code=255)
    assert output.count(f"{url}: Connection refused") == 1
    line = next(line for line in output.splitlines() if line.startswith("ERROR: no place in urls"))
    for part in ("urls", "generated"):
        assert part in line
    assert not (project / "data" / "cifar-10-binary.tar.gz").exists()


def test_an_altered_checkpoint_is_refused_by_all_that_read_it(project: Path) -> None:
    """The report reads what `evaluate` wrote."""
    path = project / "models" / "alexnet.ckpt"
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    Image.new("RGB", (32, 32)).save(project / "a.png")
    before = {name: metrics(project, name) for name in ("eval", "per_class")}
    for command in (("stages", "evaluate"), ("stages", "export"), ("alexnet", "predict", "a.png")):
        output = run(project, "python", "-m", *command, code=2)
        assert output.startswith("ERROR: models/alexnet.ckpt is damaged or was altered")
        assert output.count("\n") == 1
    assert {name: metrics(project, name) for name in before} == before
    run(project, "dvc", "repro")
    assert path.read_bytes() == whole, "DVC has restored it"
