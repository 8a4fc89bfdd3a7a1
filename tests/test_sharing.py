"""Sharing runs through git and DVC: sweeps, branches, experiments, data and models."""

import csv
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import workspaces
from tests.documents import commands, section
from tests.test_pipeline import ran
from tests.workspaces import ROOT, change, read_json, run

ARTIFACTS = {"alexnet": "alexnet.ckpt", "alexnet-onnx": "alexnet.onnx"}
HOUR = "Step by step, in an hour"
"""The heading in README.md above the commands that a test runs one after another."""


@pytest.fixture(scope="module")
def published(module_path: Path) -> tuple[Path, Path]:
    """A repository with two versions of its model, and the bare repository to which they were pushed."""
    parent = module_path
    folder, bare = workspaces.repository(parent / "alexnet"), parent / "alexnet.git"
    run(parent, "git", "init", "--quiet", "--bare", "--initial-branch", "main", str(bare))
    run(folder, "git", "remote", "add", "origin", str(bare))
    run(folder, "dvc", "remote", "add", "--default", "storage", str(parent / "storage"))
    for version, seed, stages in (("v1.0.0", 1, ()), ("v1.1.0", 2, ("export",))):
        change(folder, train={"seed": seed})
        run(folder, "dvc", "repro", *stages)
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


def test_a_missing_version(published: tuple[Path, Path], tmp_path: Path) -> None:
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


def test_a_sweep_of_two_at_a_time_leaves_experiments_to_compare_and_to_branch_from(clone: Path) -> None:
    run(clone, "dvc", "pull")
    rates = ["0.005", "0.01", "0.02"]
    sweep = ["-S", f"train.learning_rate={','.join(rates)}", "-S", "train.validation_images=20"]
    threads = ["-S", "train.threads=1", "-S", "evaluate.threads=1"]
    run(clone, "dvc", "exp", "run", "evaluate", "--queue", *sweep, *threads)
    run(clone, "dvc", "queue", "start", "-j", "2")
    workspaces.wait_for_queue(clone, 3)
    shown = read_json(clone, "dvc", "exp", "show", "--json")
    found, accuracies, checkpoints = {}, [], {}
    for revision in next(row for row in shown if row["rev"] != "workspace")["experiments"] or []:
        data = revision["revs"][0]["data"]
        found[str(data["params"]["params.yaml"]["data"]["train"]["learning_rate"])] = revision["name"]
        assert 0 <= data["metrics"]["metrics/eval.json"]["data"]["accuracy"] <= 1
        accuracies.append(data["metrics"]["metrics/train.json"]["data"]["validation_accuracy"])
        checkpoints[revision["name"]] = data["outs"]["models/alexnet.ckpt"]["hash"]
    assert set(found) == set(rates)
    order = ["--sort-by", "validation_accuracy", "--sort-order", "desc"]
    rows = csv.DictReader(run(clone, "dvc", "exp", "show", "--only-changed", *order, "--csv").splitlines())
    column = [value for row in rows for name, value in row.items() if name.endswith("validation_accuracy") and value]
    assert list(map(float, column)) == pytest.approx(sorted(accuracies, reverse=True))

    run(clone, "dvc", "exp", "branch", found["0.005"], "slower")
    difference = read_json(clone, "dvc", "metrics", "diff", "--json", "main", "slower")
    assert difference["metrics/train.json"]["train_loss"]["diff"] != 0

    def cached(name: str) -> bool:
        digest = checkpoints[name]
        return (clone / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]).exists()

    run(clone, "dvc", "exp", "remove", found["0.02"])
    assert cached(found["0.02"])
    run(clone, "dvc", "gc", "--all-commits", "--all-experiments", "--force")
    assert [cached(found[rate]) for rate in rates] == [True, True, False]


@pytest.fixture
def hour(tmp_path: Path) -> dict[str, str]:
    """Run README.md's hour in a folder, on generated images; return what each command printed."""
    project, bare = workspaces.repository(tmp_path / "project"), tmp_path / "alexnet.git"
    change(project, data={"urls": ["generated"], "train_images": 300, "test_images": 50})
    workspaces.commit(project, "Train on generated images")
    run(tmp_path, "git", "clone", "--quiet", "--bare", str(project), str(bare))
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "cat.jpg")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".gitconfig").write_text("[user]\nname = tester\nemail = tester@example.org\n")

    # The packages of this Python are used, so `make setup` has nothing to do.
    stamps = re.findall(r"^(\.venv/[\w.]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    parts_of_venv = shlex.join(f"{sys.prefix}/{name}" for name in ("bin", "lib", "pyvenv.cfg"))
    installed = f"mkdir .venv; ln -s {parts_of_venv} .venv; touch {' '.join(stamps)}; "
    hour_commands = [line for line, _ in commands(section(HOUR))]
    lines = ["set -e", f"export HOME={shlex.quote(str(tmp_path / 'home'))}", "mkdir user", "cd user"]
    for number, line in enumerate(hour_commands):
        line = line.replace("https://example.org/alexnet.git", shlex.quote(str(bare)))
        line = line.replace("cat.jpg", "../../cat.jpg")
        line = line.replace("/path/to/storage", shlex.quote(str(tmp_path / "storage")))
        lines.append(f"echo '@@{number}@@'; {installed if line == 'make setup' else ''}{line}")
    parts = re.split(r"^@@(\d+)@@\n", run(tmp_path, "bash", "-c", "\n".join(lines)), flags=re.MULTILINE)
    printed = {hour_commands[int(number)]: text for number, text in zip(parts[1::2], parts[2::2], strict=True)}
    assert list(printed) == list(dict.fromkeys(hour_commands)), "every command was run"
    return printed


def test_the_hour_of_the_readme_loses_nothing(hour: dict[str, str], tmp_path: Path) -> None:
    user, colleague = tmp_path / "user" / "alexnet", tmp_path / "user" / "colleague"
    assert "train" in ran(hour["make recipe NAME=five-minutes"])
    assert ran(hour["dvc repro"]) == []
    assert ran(hour["dvc exp run --name mirrored -S evaluate.mirror=true"]) == ["evaluate", "report"]
    assert "low-rate" in hour["make compare"]
    assert hour["python -m alexnet predict cat.jpg"].count(", ") == 2, "three classes"

    for folder in (user, colleague):
        assert "storage" in run(folder, "dvc", "remote", "list")
        tracked = run(folder, "git", "ls-files").splitlines()
        assert not [name for name in tracked if name.startswith(("dvc_plots", "report-", "report/", ".venv"))]
    assert run(user, "git", "status", "--porcelain") == "", "all is committed or ignored"
    assert run(user, "git", "status", "--porcelain", "--branch").count("ahead") == 0
    assert {"five-minutes", "low-rate"} <= set(run(user, "dvc", "exp", "list", "--all-commits", "--name-only").split())
    assert {"low-rate", "mirrored"} <= set(run(colleague, "dvc", "exp", "list", "--name-only").split())
    assert "in sync" in run(user, "dvc", "status", "--cloud")
    assert (user / "report-low-rate" / "index.html").exists()
    assert (user / "dvc_plots" / "index.html").exists()
    trained = run(user, "git", "show", "HEAD:metrics/timing.json")
    assert json.loads(trained)["commit"] == run(user, "git", "rev-parse", "--short", "HEAD~1").strip()
    assert (tmp_path / "user" / "alexnet.ckpt").read_bytes() == (user / "models" / "alexnet.ckpt").read_bytes()
