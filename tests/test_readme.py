"""The commands and links in README.md and docs/."""

import itertools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import params
from tests.documents import CHINESE, DOCUMENTS, README, commands, inline_commands, section
from tests.test_sharing import HOUR
from tests.workspaces import ROOT, change

TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in DOCUMENTS}
TYPED = sorted(
    {line for text in TEXTS.values() for line, needs in commands(text) if not needs}
    | {line for text in TEXTS.values() for line in inline_commands(text)}
)
EXPERIMENTS = [line for line in TYPED if line.startswith("dvc exp run")]
WALKED = {line for line, _ in commands(section(HOUR))}
"""The commands that test_the_hour_of_the_readme_loses_nothing runs."""

RUN_BY = {
    r"dvc exp run( .*)?": "test_readme.py::test_an_experiment_sets_parameters_that_exist",
    r"dvc (params|metrics) diff( main .*)?": "test_pipeline.py::test_an_experiment_changes_a_parameter",
    r"dvc plots diff main my-branch": "test_pipeline.py::test_plots_have_titles_and_axes",
    r"dvc get \. report --rev .*": "test_sharing.py::test_the_hour_of_the_readme_loses_nothing",
    r"dvc exp (push|pull) origin EXPERIMENT": "test_sharing.py::test_the_hour_of_the_readme_loses_nothing",
    r"dvc (queue .*|exp branch .*)": "test_sharing.py::test_a_sweep_of_two_at_a_time_leaves_experiments_to_compare",
    r"(git tag|git push|dvc push|dvc artifacts get) ?.*": "test_sharing.py::test_the_newest_version_and_an_older_one",
    r"(dvc exp (show|remove)|dvc gc) .*": (
        "test_sharing.py::test_a_sweep_of_two_at_a_time_leaves_experiments_to_compare"
    ),
    r"gto show": "test_sharing.py::test_what_the_registry_shows",
    r"(dvc add pretrained.ckpt|git add pretrained.*|git commit .*pretrained.*)": (
        "test_initial_weights.py::test_how_dvc_sees_the_file"
    ),
    r"(mv|dvc cache dir) .*": "test_experiments.py::test_dvcs_own_command_works_with_its_cache_in_a_path_of_ascii",
    r"dvc repro --force( --single-item train)?": "test_pipeline.py::test_dvc_repro_forced_changes_nothing_but_times",
    r"dvc repro( verify)?": "test_pipeline.py::test_a_second_repro_runs_nothing",
    r"python -m stages states( --clear)?": "test_interruption.py::test_state_is_kept_and_shown_and_cleared",
    r"python -m stages train .*": "test_train_stage.py::test_with_a_flag_dvcs_outputs_are_left_alone",
    r"python -m stages evaluate.*": "test_commands.py::test_the_zoos_evaluation_prints_the_accuracy",
    r"python -m alexnet predict --model models/alexnet.onnx .*": (
        "test_predict.py::test_the_onnx_file_answers_without_mindspore"
    ),
    r"python -m alexnet predict [^-]*": "test_predict.py::test_the_three_likeliest_classes",
    r"python -m alexnet predict( --json.*)?": "test_predict.py::test_json_is_one_document_with_the_failures",
    r"python -m benchmarks( .*)?": "test_benchmarks.py::test_options_choose_what_is_measured",
    r"make demo( PYTHON=.*)?": "test_experiments.py::test_the_demo_ends_with_its_result",
    r"make recipe( NAME=.*)?": "test_experiments.py::test_a_recipe_with_other_values_and_another_name",
    r"make seeds( NAME=.*)?": "test_experiments.py::test_seeds",
    r"python -m tools recipe .*": "test_experiments.py::test_a_recipe_with_other_values_and_another_name",
    r"make compare .*FIGURE=.*": "test_experiments.py::test_a_recipe_with_other_values_and_another_name",
    r"make compare ALL=1": "test_experiments.py::test_the_table_has_queued_experiments_and_counts_older_ones",
    r"make (bench|test|repro|setup-dev)": "test_readme.py::test_a_target_is_in_the_makefile",
    r"make": "test_readme.py::test_a_target_is_in_the_makefile",
}
"""For each kind of command, the test that runs it or a similar one."""


def settings(command: str) -> dict[str, dict[str, Any]]:
    """Return the values that a command sets with -S, by section; the first one if there are several."""
    found: dict[str, dict[str, Any]] = {}
    for flag, text in itertools.pairwise(shlex.split(command)):
        if flag == "-S" and "=" in text:
            name, _, value = text.partition("=")
            section, key = name.split(".")
            listed = value if value.startswith("[") else value.split(",")[0]
            found.setdefault(section, {})[key] = yaml.safe_load(listed)
    return found


@pytest.mark.parametrize("command", EXPERIMENTS)
def test_an_experiment_sets_parameters_that_exist(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    change(tmp_path, **settings(command))
    params.read()


@pytest.mark.parametrize("command", TYPED)
def test_a_test_is_named_for_every_command(command: str) -> None:
    if command in WALKED:
        return
    test = next((test for pattern, test in RUN_BY.items() if re.fullmatch(pattern, command)), None)
    assert test, "RUN_BY needs a pattern that matches this command"
    file, _, name = test.partition("::")
    assert f"def {name}" in (ROOT / "tests" / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("target", sorted({command.split()[1] for command in TYPED if command.startswith("make ")}))
def test_a_target_is_in_the_makefile(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"make \w+ NAME=([\w-]+)", " ".join(TYPED)))))
def test_a_recipe_exists(name: str) -> None:
    assert (ROOT / "recipes" / f"{name}.yaml").is_file()


def test_the_two_languages_have_the_same_commands() -> None:
    english, chinese = (TEXTS[path.name] for path in (README, CHINESE))
    assert commands(chinese) == commands(english)
    assert sorted(inline_commands(chinese)) == sorted(inline_commands(english))
    blocks = [re.findall(r"```python\n(.*?)```", text, re.DOTALL) for text in (english, chinese)]
    assert blocks[0] == blocks[1] != []
    figures = [sorted(re.findall(r"\b0\.\d{3,}\b", text)) for text in (english, chinese)]
    assert figures[0] == figures[1] != []
    for text, other in ((english, CHINESE), (chinese, README)):
        assert f"]({other.name})" in text.split("\n## ")[0]


def anchor(heading: str) -> str:
    """Return the fragment by which a hosted forge links to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", [*TEXTS, "CONTRIBUTING.md", "SECURITY.md"])
def test_links_within_the_repository_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", (ROOT / name).read_text(encoding="utf-8")):
        file, _, fragment = target.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        assert path.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert fragment in map(anchor, headings), target


def test_every_document_is_linked_from_the_readme() -> None:
    for path in (ROOT / "docs").glob("*.md"):
        for text in (TEXTS[README.name], TEXTS[CHINESE.name]):
            assert f"](docs/{path.name})" in text


def test_the_screenshot_is_small() -> None:
    assert (ROOT / "docs" / "report.png").stat().st_size < 200_000


WORDS = {
    README: {
        "mirrored": "mirrored",
        "black": "black",
        "tenth": "tenth",
        "yes": "yes",
        "no": "no",
        "random": "random",
        "alternating": "alternating",
        "warm-up": "warm-up",
        "cosine": "cosine",
        "truncated": "truncated normal",
        "He": "He",
        "whiten": "whiten",
        "identity": "identity",
    },
    CHINESE: {
        "mirrored": "镜像",
        "black": "黑色",
        "tenth": "十分之一",
        "yes": "有",
        "no": "无",
        "random": "随机",
        "alternating": "交替",
        "warm-up": "预热",
        "cosine": "余弦",
        "truncated": "截断正态",
        "He": "He",
        "whiten": "白化",
        "identity": "恒等",
    },
}
"""Words of the comparison with the model zoo, in the language of each document."""


@pytest.mark.parametrize("document", WORDS)
@pytest.mark.parametrize(("column", "name"), [(1, "zoo"), (2, "hour")])
def test_the_values_beside_the_zoos_are_those_of_the_recipes(column: int, name: str, document: Path) -> None:
    rows = re.findall(r"^\|([^|]*)\|([^|]*)\|([^|]*)\|$", document.read_text(encoding="utf-8"), re.MULTILINE)
    start = next(
        number for number, row in enumerate(rows) if "recipes/zoo.yaml" in row[1] and row[2] == " `params.yaml` "
    )
    recipe = yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8"))
    model, train = recipe["model"], recipe["train"]
    schedules = {"step": ([80.0], {"tenth"}), "cosine": ([], {"warm-up", "cosine"})}
    more, schedule = schedules[train["lr_schedule"]]
    factor, hole = train["batch_norm_bias_lr_factor"], train["cutout_size"]
    weights = {"truncated"} if train["weight_init"] == "TruncatedNormal" else {"He", "whiten", "identity"}
    expected: list[tuple[list[float], set[str]]] = [
        ([train["epoch_size"]], set()),
        ([train["batch_size"]], set()),
        ([model["image_height"], model["image_width"]], set()),
        ([train["learning_rate"], *more, *([factor] if factor > 1 else [])], schedule),
        ([train["momentum"], train["weight_decay"]], set()),
        ([train["label_smoothing"]], set()),
        ([model["dropout_rate"]], {"yes" if model["batch_norm"] else "no"}),
        ([train["crop_padding"]], {"mirrored" if train["crop_padding_mode"] == "reflect" else "black"}),
        ([hole] if hole else [], {train["flip"]} | (set() if hole else {"no"})),
        ([], weights),
    ]
    assert (train["whitening"], train["identity_init"]) == ("whiten" in weights, "identity" in weights)
    for row, (numbers, words) in zip(rows[start + 2 :], expected, strict=False):
        cell = row[column]
        assert [float(number) for number in re.findall(r"\d+(?:\.\d+)?", cell)] == numbers, cell
        found = {word for word, shown in WORDS[document].items() if re.search(rf"(?<![a-z]){shown}(?![a-z])", cell)}
        assert found == words, cell


@pytest.mark.parametrize("document", [README, CHINESE])
def test_the_table_of_stages_has_the_outputs_of_each(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for stage, values in yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items():
        (cell,) = re.findall(rf"^\| `{stage}` \|[^|]*\|([^|]*)\|$", text, re.MULTILINE)
        named = [Path(name) for name in re.findall(r"`([^`]+)`", cell)]
        entries = [*values["outs"], *values.get("metrics", ())]
        outputs = [Path(entry if isinstance(entry, str) else next(iter(entry))) for entry in entries]
        for output in outputs:
            assert any(output.is_relative_to(name) for name in named), f"{stage}: {output}"
        for name in named:
            assert any(output.is_relative_to(name) for output in outputs), f"{stage}: {name}"
