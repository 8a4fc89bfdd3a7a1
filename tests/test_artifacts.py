"""The model as an artifact: versions are tagged and pushed, and fetched with nothing but the repository's address."""

from pathlib import Path

import pytest

from tests import workspaces
from tests.workspaces import change, run

ARTIFACTS = {"alexnet": "alexnet.ckpt", "alexnet-onnx": "alexnet.onnx"}


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
        run(folder, "dvc", "repro", "export")
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
