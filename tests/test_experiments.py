"""The commands that run experiments and compare them, in a folder whose path has a space and letters beyond ASCII."""

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from stages import paths
from tests import workspaces
from tests.trainings import wait_for
from tests.workspaces import environment, run
from tools import compare, experiments, figure, recipes, seeds

TINY = {
    "data": workspaces.TINY["data"] | {"urls": ["generated"], "md5": "c32a1d4ab5d03f1284b67883e8d87530"},
    "train": {"epoch_size": 1, "batch_size": workspaces.TINY["train"]["batch_size"]},
}
"""Parameters for a training of five steps on generated images. The MD5 does not apply to these."""

NOISE = (
    *("ignored", "No file hash info", "failed to load", "autostage", "Traceback", "codec", "dvc push"),
    *("lock file", "Reproducing", "Ran experiment", "exp apply", "dvc.org"),
)


@pytest.fixture(scope="module")
def demo(module_path: Path) -> tuple[Path, str]:
    """A repository in which the demo has run, and its output."""
    folder = module_path / "a folder" / "Übung 数据"
    folder.mkdir(parents=True)
    workspaces.repository(folder)
    (folder / "recipes" / "demo.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    workspaces.commit(folder, "a tiny demo")
    return folder, run(folder, "python", "-m", "tools", "demo")


@pytest.fixture
def project(demo: tuple[Path, str]) -> Path:
    return demo[0]


def measured(folder: Path, name: str) -> dict[str, Any]:
    """Return the metrics and the parameters of an experiment on HEAD."""
    head = run(folder, "git", "rev-parse", "HEAD").strip()
    reference = f"refs/exps/{head[:2]}/{head[2:]}/{name}"
    found = {
        file: json.loads(run(folder, "git", "show", f"{reference}:metrics/{file}.json"))
        for file in ("data", "train", "eval", "timing")
    }
    return found | {"params": yaml.safe_load(run(folder, "git", "show", f"{reference}:params.yaml"))}


def test_the_demo_ends_with_its_result(demo: tuple[Path, str]) -> None:
    folder, output = demo
    found = measured(folder, "demo")
    assert output.startswith(
        "Experiment demo: DVC copies this folder and works in the copy; the files here stay as they are.\n\n"
        "Running stage 'download'"
    )
    *_, empty, images, accuracy, minutes, speed, report, gap, drawn, real = output.splitlines()
    assert (empty, gap) == ("", "")
    assert images == "trained on     100 generated images of 10 classes, 1 epoch"
    assert accuracy == f"test accuracy  {found['eval']['accuracy']:.4f} on 20 other generated images"
    assert minutes == f"minutes        {found['timing']['train_seconds'] / 60:.1f} of training"
    assert speed == f"images/s       {found['timing']['images_per_second']:,.0f} in training"
    assert report.removeprefix("report").strip() == str((folder / "report-demo" / "index.html").resolve())
    assert "python -m tools recipe demo --name demo-low-rate -S train.learning_rate=0.005" in drawn
    assert "make recipe NAME=five-minutes" in real
    assert "<html" in (folder / "report-demo" / "index.html").read_text(encoding="utf-8")
    assert not any(noise in output for noise in NOISE)
    assert all(found[name]["generated"] is True for name in ("data", "train", "eval"))


def test_the_demo_again_replaces_its_experiment_and_report(demo: tuple[Path, str]) -> None:
    folder, first = demo
    (folder / "report-demo" / "index.html").write_text("old", encoding="utf-8")
    output = run(folder, "python", "-m", "tools", "demo")
    assert output.splitlines()[-8:-6] == first.splitlines()[-8:-6], "the same images and the same accuracy"
    assert "<html" in (folder / "report-demo" / "index.html").read_text(encoding="utf-8")
    assert not any(noise in output for noise in NOISE)
    assert run(folder, "git", "status", "--short") == "", "the workspace is as it was"


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("train.learning_rate=-1.0", "ERROR: train.learning_rate is -1.0, expected a number above 0"),
        ("train.epochs=3", "ERROR: train.epochs is 3, but there is no such key: did you mean epoch_size?"),
        (
            "trian.seed=3",
            "ERROR: trian.seed=3 is not a setting, expected SECTION.KEY=VALUE with a section of data",
        ),
        ("train.seed", "ERROR: train.seed is not a setting, expected SECTION.KEY=VALUE"),
        ("train=5", "ERROR: train=5 is not a setting, expected SECTION.KEY=VALUE"),
        ("https://me:hush@host/a.tar.gz]", "ERROR: https://***@host/a.tar.gz] is not a setting"),
        ("train.initial_weights=none.ckpt", "ERROR: train.initial_weights is none.ckpt, but there is no file "),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line_before_dvc_starts(setting: str, line: str, project: Path) -> None:
    for command in (("recipe", "demo"), ("seeds", "demo", "--seeds", "1")):
        output = run(project, "python", "-m", "tools", *command, "-S", setting, code=2)
        assert output.startswith(line)
        assert output.count("\n") == 1


def test_a_commit_without_experiments_says_so(project: Path) -> None:
    run(project, "git", "commit", "--quiet", "--allow-empty", "--message", "empty")
    try:
        first, second = run(project, "python", "-m", "tools", "compare").splitlines()
    finally:
        run(project, "git", "reset", "--quiet", "--soft", "HEAD~")
    assert first == "there is no experiment on this commit yet: make recipe NAME=five-minutes runs one"
    assert "on older commits: make compare ALL=1" in second


def test_a_recipe_with_other_values_and_another_name(project: Path) -> None:
    values = ("data.urls=[archive.tar.gz]", "data.md5=null", "train.epoch_size=2", "train.learning_rate=0.05")
    changes = [part for value in values for part in ("-S", value)]
    output = run(project, "python", "-m", "tools", "recipe", "demo", "--name", "other", *changes)
    found = measured(project, "other")
    assert (found["train"]["epochs"], found["params"]["train"]["learning_rate"]) == (2, 0.05)
    assert found["params"]["train"]["batch_size"] == 20, "the recipe's"
    assert output.splitlines()[-1].endswith("dvc exp apply other")
    assert (project / "report-other" / "index.html").exists()

    wrong = ("-S", "data.urls=[missing.tar.gz]", "-S", "data.md5=null")
    output = run(project, "python", "-m", "tools", "recipe", "demo", "--name", "other", *wrong, code=255)
    assert "missing.tar.gz" in output
    assert output.count("failed to reproduce 'download'") == 1
    assert "Traceback" not in output
    assert measured(project, "other") == found, "an experiment that fails replaces none"

    table = run(project, "python", "-m", "tools", "compare").splitlines()
    assert max(map(len, table)) <= 80
    row = next(number for number, line in enumerate(table) if line.strip().startswith("other"))
    accuracy, pflop = found["eval"]["accuracy"], found["train"]["pflop"]
    assert table[row].split()[1:3] == [f"{accuracy:.4f}", f"{pflop:.3g}"]
    following = next(
        (number for number in range(row + 1, len(table)) if table[number].strip().startswith("demo")), None
    )
    shown = "".join("".join(table[row:following]).split())
    assert "train.learning_rate=0.05" in shown
    for value in ("train.epoch_size", "data.urls"):
        assert value not in shown, "the commit's params.yaml has that archive and two epochs as well"
    assert 'data.urls=["generated"]' in "".join("".join(table).split()), "the demo's"

    drawing = ("python", "-m", "tools", "compare", "--figure", "accuracy.svg")
    output = run(project, *drawing)
    assert output.splitlines()[-1] == "accuracy.svg: accuracy against cost of other", "the demo has generated images"
    assert "<svg" in (project / "accuracy.svg").read_text(encoding="utf-8")
    (project / "accuracy.svg").unlink()
    output = run(project, *drawing, "demo", code=2)
    assert output.splitlines()[-1].startswith("ERROR: there is nothing to draw: no experiment here has an accuracy")
    assert "other" not in output
    assert not (project / "accuracy.svg").exists()
    for path in ("docs", ".", "accuracy.pdf"):
        output = run(project, "python", "-m", "tools", "compare", "--figure", path, code=2)
        assert output == f"ERROR: cannot draw to {path}, expected the name of an SVG file, such as accuracy.svg\n"
    output = run(project, *drawing, "demo", "nobody", code=2)
    assert output.splitlines() == ["ERROR: there is no experiment nobody; `make compare ALL=1` shows all there are"]


def test_seeds(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["python", "-m", "tools", "seeds", "demo", "-S", "train.learning_rate=0.01", "--seeds"]
    command += ["1", "2", "--format"]
    result = subprocess.run(
        [*command, "json"], cwd=project, env=environment(), capture_output=True, encoding="utf-8", check=True
    )
    found = json.loads(result.stdout)
    assert (found["recipe"], found["seeds"]) == ("demo", [1, 2])
    one, two = (measured(project, f"demo-seed-{seed}") for seed in (1, 2))
    assert (one["params"]["train"]["seed"], two["params"]["train"]["seed"]) == (1, 2)
    assert one["params"]["train"]["learning_rate"] == 0.01
    assert result.stderr.count("Running stage 'train'") == 2
    metrics = {
        "test_accuracy": [run["eval"]["accuracy"] for run in (one, two)],
        "test_loss": [run["eval"]["loss"] for run in (one, two)],
        "train_accuracy": [run["train"]["train_accuracy"] for run in (one, two)],
        "minutes": [run["timing"]["train_seconds"] / 60 for run in (one, two)],
    }
    assert set(found["metrics"]) == set(metrics)
    for name, values in metrics.items():
        assert found["metrics"][name]["values"] == values
        assert found["metrics"][name]["mean"] == pytest.approx(statistics.fmean(values))
        assert found["metrics"][name]["standard_deviation"] == pytest.approx(statistics.stdev(values))
    output = run(project, *command, "markdown")
    assert "Running stage" not in output, "both have been run"
    assert f"| test accuracy | {statistics.fmean(metrics['test_accuracy']):.4f} |" in output

    monkeypatch.chdir(project)
    monkeypatch.setattr(recipes, "FOLDER", project / "recipes")
    settings = [*recipes.load("demo"), "train.learning_rate=0.01", "train.seed=1"]
    assert experiments.is_current("demo-seed-1", settings)
    assert not experiments.is_current("demo-seed-1", [*settings, "train.learning_rate=0.02"])
    code = project / "alexnet" / "training" / "schedule.py"
    before = code.read_text(encoding="utf-8")
    try:
        code.write_text(f"{before}# a change\n", encoding="utf-8")
        assert not experiments.is_current("demo-seed-1", settings)
    finally:
        code.write_text(before, encoding="utf-8")

    output = run(project, *command[:-4], "--seeds", "7", "4294967296", code=2)
    assert output.startswith("ERROR: train.seed is 4294967296, expected ")
    assert output.count("\n") == 1, "seed 7 is not run first"
    output = run(project, *command, "text", "-S", "data.urls=[a", code=2)
    assert (
        output == "ERROR: data.urls is '[a', expected a list of http(s):// or file:// addresses, paths or the word "
        "generated\n"
    )


def interrupted(folder: Path, *command: str, at: str) -> str:
    """Start a command and press Ctrl-C when it prints a text; return what it printed to its end."""
    process = workspaces.start(folder, *command)
    printed = wait_for(process, at)
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode not in (0, None), printed + rest
    return printed + rest


def test_ctrl_c_ends_a_recipe_with_seeds_and_the_same_command_resumes(project: Path) -> None:
    command = ("python", "-m", "tools", "seeds", "demo", "-S", "train.epoch_size=40", "--seeds", "11", "12")
    output = interrupted(project, *command, at="epoch: 3 step: 1,")
    assert "the same command resumes from there" in output
    output = interrupted(project, *command, at="epoch: 10 step: 1,")
    assert "resuming after epoch" in output
    for noise in ("Traceback", "demo-seed-12"):
        assert noise not in output
    references = ("git", "for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps")
    assert "demo-seed-11" not in run(project, *references)
    assert run(project, "git", "status", "--short") == ""

    output = run(project, *command)
    assert re.search(r"resuming after epoch (9|1\d) ", output), "9, 10 or a little later"
    assert {"demo-seed-11", "demo-seed-12"} <= set(run(project, *references).split())
    assert measured(project, "demo-seed-11")["train"]["steps"] == 200
    assert "Running stage" not in run(project, *command)


def test_a_killed_recipe_leaves_the_experiment_that_it_would_replace(project: Path) -> None:
    command = ("python", "-m", "tools", "recipe", "demo", "--name", "kept", "-S", "train.seed=5")
    before = measured(project, "demo")
    demo = run(project, "git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/demo").strip()
    run(project, "git", "update-ref", demo.replace("demo", "kept"), demo)
    process = workspaces.start(project, *command, "-S", "train.epoch_size=400")
    wait_for(process, "epoch: 2 step: 1,")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=120)
    assert measured(project, "kept.replaced") == before
    run(project, *command, "-S", "data.urls=[missing.tar.gz]", "-S", "data.md5=null", code=255)
    assert measured(project, "kept") == before, "a run that fails gives it its name back"
    run(project, *command, "-S", "train.epoch_size=2")
    assert measured(project, "kept")["train"]["epochs"] == 2
    names = run(project, "git", "for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps").split()
    assert [name for name in names if name.startswith("kept")] == ["kept"]


def test_an_experiment_is_not_run_twice_at_the_same_time(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    names = ("git", "for-each-ref", "--format=%(refname)", "refs/exps")
    before = run(project, *names)
    lock = paths.states() / "experiment-demo.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        output = run(project, "python", "-m", "tools", "recipe", "demo", "-S", "train.seed=3", code=2)
    lock.unlink()
    assert output == "ERROR: another process is running the experiment demo: wait until it has ended\n"
    assert run(project, *names) == before


def test_a_closed_standard_output_is_one_line(project: Path) -> None:
    output = run(project, "sh", "-c", "python -m tools seeds demo --seeds 1 >&-", code=1)
    assert output == "ERROR: Bad file descriptor\n"


def test_a_result_is_not_lost_when_git_cannot_rename_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    old, new = "refs/exps/00/11/mine", "refs/exps/00/11/mine.replaced"
    run(project, "git", "update-ref", old, "HEAD")
    lock = project / ".git" / f"{new}.lock"  # as a git that was killed leaves it
    lock.touch()
    try:
        experiments.rename(old, new)
        assert experiments.git("rev-parse", "--verify", old)
        lock.unlink()
        experiments.rename(old, new)
        assert not experiments.git("rev-parse", "--verify", old)
        assert experiments.git("rev-parse", "--verify", new)
    finally:
        lock.unlink(missing_ok=True)
        for reference in (old, new):
            run(project, "git", "update-ref", "-d", reference)


def test_a_commit_during_an_experiment_does_not_hide_its_result(project: Path) -> None:
    """HEAD moves when DVC has finished the experiment, before its result is read."""
    code = (
        "import subprocess; from tools import experiments, recipes; dvc = experiments.dvc; "
        "commit = ['git', 'commit', '--quiet', '--allow-empty', '--message', 'meanwhile']; "
        "experiments.dvc = lambda *arguments: dvc(*arguments) or subprocess.call(commit); "
        "recipes.main('demo', [], 'unhidden')"
    )
    before = run(project, "git", "rev-parse", "HEAD").strip()
    try:
        output = run(project, "python", "-c", code)
        assert "dvc exp apply unhidden" in output
        assert (project / "report-unhidden" / "index.html").is_file()
        assert run(project, "git", "rev-parse", "HEAD~").strip() == before
    finally:
        run(project, "git", "reset", "--quiet", "--soft", before)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("alexnet/model/networks/mine.py", "alexnet/model/networks/mine.py"),
        ("alexnet/report/part.html.j2", "alexnet/report/part.html.j2"),
        ("alexnet/\udce9.py", r"alexnet/\udce9.py"),  # no UTF-8
    ],
)
def test_a_file_that_git_does_not_track_is_named_before_an_experiment_starts(
    name: str, shown: str, project: Path
) -> None:
    file = project / name
    file.write_text("")
    try:
        output = run(project, "python", "-m", "tools", "demo", code=2)
    finally:
        file.unlink()
    assert output == (
        f"ERROR: git does not track {shown}, so an experiment would not have it: type `git add {shown}` first\n"
    )


@pytest.mark.parametrize(
    ("variable", "value", "problem", "advice"),
    [
        (
            "GIT_TEST_ASSUME_DIFFERENT_OWNER",
            "1",
            "git refuses to read this folder: ",
            "git config --global --add safe.directory",
        ),
        ("GIT_COMMITTER_NAME", "", "git does not know who you are", "git config user.name NAME"),
    ],
)
def test_what_git_refuses_is_told_before_an_experiment_starts(
    variable: str, value: str, problem: str, advice: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    (line,) = run(project, "python", "-m", "tools", "demo", code=2).splitlines()
    assert line.startswith(f"ERROR: {problem}")
    assert advice in line


def test_the_table_has_queued_experiments_and_counts_older_ones(demo: tuple[Path, str], tmp_path: Path) -> None:
    project = Path(shutil.copytree(demo[0], tmp_path / "copy", symlinks=True))
    run(project, "dvc", "exp", "run", "--queue", "--name", "waiting", "-S", "train.seed=9")
    table = run(project, "python", "-m", "tools", "compare").splitlines()
    row = next(line for line in table if line.strip().startswith("waiting"))
    assert row.split()[1:] == ["queued", "train.seed=9"]
    assert max(map(len, table)) <= 80
    assert "older" not in table[-1]
    run(project, "git", "commit", "--quiet", "--allow-empty", "--message", "later")
    newer = run(project, "python", "-m", "tools", "compare")
    assert "demo" not in newer
    assert "on older commits: make compare ALL=1" in newer
    assert "  demo " in run(project, "python", "-m", "tools", "compare", "demo"), "a name is looked up on every commit"
    everything = run(project, "python", "-m", "tools", "compare", "--all-commits")
    assert "  demo " in everything
    assert "older" not in everything
    run(project, "git", "checkout", "--quiet", "--orphan", "unrelated")
    run(project, "git", "commit", "--quiet", "--message", "without the commits before it")
    run(project, "git", "branch", "--delete", "--force", "main")
    assert "older" not in run(project, "python", "-m", "tools", "compare"), "--all-commits would not show them"


def shown(
    name: str | None,
    accuracy: float | None,
    seed: int = 1,
    pflop: float = 1.5,
    rate: float = 0.02,
    mark: bool = False,
    mirror: bool = False,
) -> Any:
    """An experiment as `dvc exp show --json` has it."""
    evaluation = {} if accuracy is None else {"accuracy": accuracy} | ({"generated": True} if mark else {})
    files = {"metrics/eval.json": {"data": evaluation}, "metrics/train.json": {"data": {"pflop": pflop}}}
    train = {"seed": seed, "learning_rate": rate}
    parameters = {"params.yaml": {"data": {"train": train, "evaluate": {"mirror": mirror}}}}
    return {"revs": [{"rev": "0123456789", "name": name, "data": {"metrics": files, "params": parameters}}]}


EXPERIMENTS: list[dict[str, Any]] = [
    {"rev": "workspace", "name": None, "data": None, "experiments": None},
    {
        "rev": "a" * 40,
        "name": "main",
        "data": None,
        "experiments": [
            shown("hour-seed-1", 0.88),
            shown("hour-seed-2", 0.89, seed=2),
            shown("hour", 0.88),
            shown("hour-seed-3", 0.5, seed=3, rate=0.1),
            shown("slower", 0.7, pflop=0.5),
            shown(None, 0.6),
            shown("demo", 1.0, mark=True),
            shown("mirrored", 0.9, mirror=True),
            shown("unfinished", None),
            shown("running", 0.8) | {"executor": {"state": "running"}},  # with the metrics of the commit
            {"revs": [{"rev": "89", "name": "queued", "data": None}]},
        ],
    },
    {"rev": "b" * 40, "name": None, "data": None, "experiments": [shown("hour-seed-1", 0.8)]},
]


def test_what_is_drawn_of_the_experiments() -> None:
    assert [tuple(given) for given in figure.trainings(EXPERIMENTS)] == [
        ("hour", 1.5, [0.88, 0.89], False),
        ("hour", 1.5, [0.5], False),
        ("slower", 0.5, [0.7], False),
        ("0123456", 1.5, [0.6], False),
        ("hour", 1.5, [0.8], False),
    ]


def test_an_unfinished_experiment_has_its_state_in_place_of_the_commits_metrics() -> None:
    cells = {row[0].strip(): row[1:3] for row in compare.rows(EXPERIMENTS)}
    assert cells["running"] == ("running", "")
    assert cells["slower"] == ("0.7000", "0.5")
    assert cells["unfinished"] == cells["queued"] == ("no metrics", "")


def test_a_parameter_outside_any_section_is_shown() -> None:
    experiment = shown("wrong", 0.8)
    experiment["revs"][0]["data"]["params"]["params.yaml"]["data"] |= {"epochs": 3, "run": None}
    (_, row) = compare.rows([{"rev": "c" * 40, "name": None, "data": None, "experiments": [experiment]}])
    assert "epochs=3" in row[3].split(", ")


def test_experiments_are_chosen_by_name_or_by_recipe() -> None:
    assert compare.chosen(EXPERIMENTS, []) == EXPERIMENTS
    names = [
        [experiment["revs"][0]["name"] for experiment in commit["experiments"]]
        for commit in compare.chosen(EXPERIMENTS, ["hour", "queued"])
    ]
    assert names == [["hour-seed-1", "hour-seed-2", "hour", "hour-seed-3", "queued"], ["hour-seed-1"]]
    for name in ("hour-seed-2", "0123456"):
        (commit,) = compare.chosen(EXPERIMENTS, [name])
        (experiment,) = commit["experiments"]
        assert compare.name_of(experiment) == name


def test_dvcs_own_command_works_with_its_cache_in_a_path_of_ascii(project: Path, tmp_path: Path) -> None:
    (tmp_path / "Übung").mkdir()
    folder = Path(shutil.copytree(project, tmp_path / "Übung" / "alexnet", symlinks=True))
    command = ("dvc", "exp", "run", "--temp", "download", "-S", "data.urls=[generated]")
    output = run(folder, *command, code=255)
    assert "'ascii' codec can't encode character" in output, "DVC does without; then docs/experiments.md can go"
    shutil.move(folder / ".dvc" / "cache", tmp_path / "cache")
    run(folder, "dvc", "cache", "dir", "--local", str(tmp_path / "cache"))
    assert "Ran experiment" in run(folder, *command)


VALUES = {"test_accuracy": [0.75, 0.77], "minutes": [4.04, 4.26]}


def test_seeds_as_text_and_markdown() -> None:
    assert seeds.render("hour", [1, 2], VALUES, "text").splitlines() == [
        "hour             mean  standard deviation  seed 1  seed 2",
        "test accuracy  0.7600              0.0141  0.7500  0.7700",
        "minutes           4.2                 0.2     4.0     4.3",
    ]
    assert seeds.render("hour", [1, 2], VALUES, "markdown").splitlines() == [
        "| hour | mean | standard deviation | seed 1 | seed 2 |",
        "| --- | --- | --- | --- | --- |",
        "| test accuracy | 0.7600 | 0.0141 | 0.7500 | 0.7700 |",
        "| minutes | 4.2 | 0.2 | 4.0 | 4.3 |",
    ]


def test_one_seed_has_no_deviation() -> None:
    assert seeds.summarize([0.5]) == {"mean": 0.5, "standard_deviation": None, "values": [0.5]}
    assert seeds.render("hour", [3], {"test_accuracy": [0.5]}, "markdown").endswith("| 0.5000 | - | 0.5000 |")
