"""What people do with each other's runs: sweeps, branches, experiments, data and models, through git and DVC."""

import json
import time
from pathlib import Path

import pytest

from tests import workspaces
from tests.test_pipeline import ran
from tests.workspaces import ROOT, change, run

ARTIFACTS = {"alexnet": "alexnet.ckpt", "alexnet-onnx": "alexnet.onnx"}
DROP = "Created|Executor|loss|train_|epochs|steps|images|parameters|generated|data|.*threads|[a-z]+/"
SHOW = ("--only-changed", "--no-pager", "--hide-workspace", "--drop", DROP)
"""As in README.md: of the metrics the accuracy and the cost, of the parameters those of model and training."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A repository with two versions of its model, and the bare one that they were pushed to."""
    parent = tmp_path_factory.mktemp("published")
    folder, bare = workspaces.repository(parent / "alexnet"), parent / "alexnet.git"
    run(parent, "git", "init", "--quiet", "--bare", "--initial-branch", "main", str(bare))
    run(folder, "git", "remote", "add", "origin", str(bare))
    run(folder, "dvc", "remote", "add", "--default", "storage", str(parent / "storage"))
    for version, seed in (("v1.0.0", 1), ("v1.1.0", 2)):
        change(folder, train={"seed": seed})
        run(folder, "dvc", "repro")
        workspaces.commit(folder, version)
        for name in ARTIFACTS:
            run(folder, "git", "tag", "--annotate", f"{name}@{version}", "--message", version)
        run(folder, "dvc", "push")
        run(folder, "git", "push", "--quiet", "--follow-tags", "origin", "main")
    return folder, bare


@pytest.mark.parametrize("name", ARTIFACTS)
def test_the_newest_version_and_an_older_one_are_fetched(
    name: str, published: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, bare = published
    file = ARTIFACTS[name]
    run(tmp_path, "dvc", "artifacts", "get", str(bare), name)
    assert (tmp_path / file).read_bytes() == (folder / "models" / file).read_bytes()
    run(tmp_path, "dvc", "artifacts", "get", str(bare), name, "--rev", "v1.0.0", "--out", "older")
    assert (tmp_path / "older").read_bytes() != (tmp_path / file).read_bytes()
    run(folder, "dvc", "get", ".", f"models/{file}", "--rev", f"{name}@v1.0.0", "--out", str(tmp_path / "first"))
    assert (tmp_path / "older").read_bytes() == (tmp_path / "first").read_bytes()


def test_a_version_that_is_not_there(published: tuple[Path, Path], tmp_path: Path) -> None:
    _, bare = published
    output = run(tmp_path, "dvc", "artifacts", "get", str(bare), "alexnet", "--rev", "v9.0.0", code=1)
    assert "Unable to find artifact" in output
    assert not list(tmp_path.iterdir())


def test_what_the_registry_shows(published: tuple[Path, Path]) -> None:
    folder, _ = published
    shown = run(folder, "gto", "show")
    assert "alexnet-onnx" in shown
    assert "v1.1.0" in shown


@pytest.fixture
def clone(published: tuple[Path, Path], tmp_path: Path) -> Path:
    """Another person's clone."""
    run(tmp_path, "git", "clone", "--quiet", str(published[1]), "clone")
    run(tmp_path / "clone", "git", "config", "user.name", "tester")
    run(tmp_path / "clone", "git", "config", "user.email", "tester@example.org")
    return tmp_path / "clone"


def test_a_clone_pulls_what_was_pushed_and_runs_nothing(published: tuple[Path, Path], clone: Path) -> None:
    run(clone, "dvc", "pull")
    for file in ARTIFACTS.values():
        assert (clone / "models" / file).read_bytes() == (published[0] / "models" / file).read_bytes()
    assert ran(run(clone, "dvc", "repro")) == []


def test_another_persons_experiment_is_evaluated_without_training(published: tuple[Path, Path], clone: Path) -> None:
    folder, _ = published
    run(folder, "dvc", "exp", "run", "--name", "third", "-S", "train.seed=3")
    run(folder, "dvc", "exp", "push", "origin", "third")
    run(clone, "dvc", "exp", "pull", "origin", "third")
    run(clone, "dvc", "exp", "apply", "third")
    change(clone, evaluate={"mirror": True})
    assert ran(run(clone, "dvc", "repro", "evaluate")) == ["evaluate"]
    checkpoint = (clone / "models" / "alexnet.ckpt").read_bytes()
    assert checkpoint == (folder / "models" / "alexnet.ckpt").read_bytes()


def test_a_sweep_of_two_at_a_time_leaves_experiments_to_compare_and_to_branch_from(clone: Path) -> None:
    run(clone, "dvc", "pull")
    rates = ["0.005", "0.01", "0.02"]
    sweep = ["-S", f"train.learning_rate={','.join(rates)}", "-S", "train.threads=1", "-S", "evaluate.threads=1"]
    run(clone, "dvc", "exp", "run", "evaluate", "--queue", *sweep)
    run(clone, "dvc", "queue", "start", "-j", "2")
    deadline = time.monotonic() + 300
    while (status := run(clone, "dvc", "queue", "status")).count("Success") < 3:
        assert "Failed" not in status
        assert time.monotonic() < deadline, status
        time.sleep(2)
    shown = json.loads(run(clone, "dvc", "exp", "show", "--json"))
    found = {}
    for revision in next(row for row in shown if row["rev"] != "workspace")["experiments"] or []:
        data = revision["revs"][0]["data"]
        found[str(data["params"]["params.yaml"]["data"]["train"]["learning_rate"])] = revision["name"]
        assert 0 <= data["metrics"]["metrics/eval.json"]["data"]["accuracy"] <= 1
    assert set(found) == set(rates)
    run(clone, "dvc", "exp", "branch", found["0.005"], "slower")
    difference = json.loads(run(clone, "dvc", "metrics", "diff", "--json", "main", "slower"))
    assert difference["metrics/train.json"]["train_loss"]["diff"] != 0
    table = run(clone, "dvc", "exp", "show", *SHOW)
    assert DROP in (ROOT / "README.md").read_text(encoding="utf-8")
    for part in ("train.learning_rate", *rates):
        assert part in table
    assert max(map(len, table.splitlines())) <= 80
