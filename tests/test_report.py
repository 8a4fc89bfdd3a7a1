"""The page: its content, its look in a real browser, and the stage that writes it."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import yaml
from matplotlib.image import imread
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, sync_playwright

from alexnet import cifar10
from alexnet.cifar10 import CLASS_NAMES, Split
from alexnet.model.alexnet_layers import training_pflop
from alexnet.report import page as report_page
from alexnet.report.charts import DARK, LIGHT
from alexnet.report.curves import Curve
from alexnet.report.page import ZOO_PFLOP, Results, class_rows, duration, probability, write_report
from alexnet.runtime.errors import InputError
from stages.report import main
from tests import archives
from tests.conftest import Run, one_line
from tests.workspaces import change

CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
OPTIONS += "--disable-component-update --disable-sync"
PNG = {f"{name}.png" for name in ("loss", "accuracy", "learning_rate", "confusion", "per_class", "reliability")}
PNG |= {"augmented.png", "mistakes.png", "filters.png"}
FILES = PNG | {"index.html", "MODEL_CARD.md"}
NULL = json.dumps(
    dict.fromkeys(("images", "epochs", "steps", "parameters", "pflop", "train_accuracy"), 1)
    | {"validation_accuracy": None}
).encode()
"""Metrics of a training, one of which is null."""


def answers(labels: NDArray[np.int32], correct: float, seed: int = 1, num_classes: int = 10) -> NDArray[np.float32]:
    """Return logits of which about the share `correct` is correct."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(labels), num_classes)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += np.where(rng.random(len(labels)) < correct, 6, -6)
    return logits


def results(
    images: int = 100,
    correct: float = 0.6,
    points: int = 120,
    num_classes: int = 10,
    validation: bool = False,
    generated: bool = False,
) -> Results:
    """Return the results of a run."""
    labels = np.arange(images, dtype=np.int32) % 10
    rng = np.random.default_rng(0)
    logits = answers(labels, correct, num_classes=num_classes)
    hits = logits.argmax(axis=1) == labels
    steps = np.arange(1, points + 1)
    curves = {
        "train/loss": Curve(steps, 2.3 / np.sqrt(steps)),
        "train/accuracy": Curve(steps, 1 - 0.9 / np.sqrt(steps)),
        "learning_rate": Curve(steps, np.full(points, 0.002)),
    }
    if validation:
        curves["eval/accuracy"] = Curve(np.array([60, 120]), np.array([0.4, 0.7]))
    return Results(
        split=Split(rng.integers(0, 256, (images, 3, 32, 32), dtype=np.uint8), labels),
        logits=logits,
        filters=rng.normal(size=(96, 3, 11, 11)).astype(np.float32),
        augmented=rng.integers(0, 256, (2, 12 if images > 10 else 4, 3, 32, 32), dtype=np.uint8),
        curves=curves,
        train={"images": 45_000, "epochs": 3, "steps": 4686, "parameters": 57_000_000, "pflop": 9.8567}
        | {"train_accuracy": 0.6543}
        | ({"validation_accuracy": 0.7} if validation else {}),
        evaluation={"accuracy": hits.mean(), "loss": 1.2345},
        per_class={CLASS_NAMES[label]: hits[labels == label].mean() for label in range(10)},
        timing={
            "network": "AlexNet",
            "description": "A network after some people.",
            "image_size": [227, 224],
            "device_target": "CPU",
            "workers": 1,
            "threads": 2,
            "train_seconds": 4321.0,
            "images_per_second": 56.78,
            "kernels": "onednn",
            "amp_level": "O2",
            "commit": "0123abc",
            "name": "slower",
            "finished": "2026-01-02 03:04 UTC",
            **({"initial_weights_md5": "0123456789abcdef" * 2} if validation else {}),
            "versions": {"MindSpore": "2.8.0", "NumPy": "1.26.4", "oneDNN": "3.2.0"},
        },
        data={
            "archive": {"md5": "c32a1d4ab5d03f1284b67883e8d87530"},
            "generated": generated,
            "train": {"images": 50000},
            "test": {"images": images},
        },
        params={
            "data": {"urls": ["https://example.org/<i>&amp;/" + 60 * "long" + ".tar.gz"], "md5": None},
            "model": {"num_classes": num_classes, "dropout_rate": 0.5},
            "train": {"validation_images": 5000 if validation else 0}
            | ({"whitening": True} if validation or generated else {}),  # a schema may have no such parameter
        },
    )


CASES = {
    "usual": results(),
    "few wrong": results(correct=0.95, validation=True),
    "generated, none wrong": results(images=10, correct=1, generated=True),
    "all wrong, twelve outputs, one point": results(images=20, correct=0, points=1, num_classes=12),
}


@pytest.fixture(scope="module")
def written(module_path: Path) -> dict[str, Path]:
    """The folder of each case."""
    folders = {case: module_path / str(number) / "report" for number, case in enumerate(CASES)}
    for case, folder in folders.items():
        write_report(CASES[case], folder)
    return folders


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS.split())
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_page() as page:
        yield page


FIRST_PIXEL = """() => {
    const canvas = document.createElement("canvas").getContext("2d")
    canvas.drawImage(document.images[0], 0, 0)
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
}"""


OVERFLOWING = """() => [...document.querySelectorAll("dd, dd *, figure, td, th")]
    .filter(element => element.scrollWidth > element.parentElement.clientWidth + 1)
    .map(element => element.outerHTML)"""


def count_wrong(case: Results) -> int:
    return int((case.logits.argmax(axis=1) != case.split.labels).sum())


def text(page: Page, folder: Path) -> str:
    page.goto((folder / "index.html").as_uri())
    unfold(page)
    return " ".join(page.inner_text("body").split())


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")


def rgb(colour: str) -> list[int]:
    return [int(colour[start : start + 2], 16) for start in (1, 3, 5)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("width", [1280, 800, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(
    scheme: Literal["light", "dark"], width: int, case: str, written: dict[str, Path], browser: Browser
) -> None:
    address, wrong = (written[case] / "index.html").as_uri(), count_wrong(CASES[case])
    background = rgb({"light": LIGHT, "dark": DARK}[scheme].background)
    messages: list[str] = []
    requests: list[str] = []
    with browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme) as page:
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.evaluate("Promise.all([...document.images].map(image => image.decode()))")
        widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert len(widths) == 8 + min(27, wrong)
        assert min(widths) > 0
        for _ in range(2):
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate(OVERFLOWING) == [], "it runs into what is beside it"
            unfold(page)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert colour == "rgb({}, {}, {})".format(*background)
        assert page.evaluate(FIRST_PIXEL) == background, "the picture is not drawn for this scheme"
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [address]


@pytest.mark.parametrize("case", CASES)
def test_the_page_can_be_read_aloud(case: str, written: dict[str, Path], page: Page) -> None:
    page.goto((written[case] / "index.html").as_uri())
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.title().startswith("AlexNet on ")
    assert page.evaluate("[...document.images].every(image => image.alt.length > 5)")
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(heading => heading.tagName)")
    assert levels == ["H1", *["H2"] * (len(levels) - 1)]
    assert page.evaluate(
        "[...document.querySelectorAll('section')].every(section => document.getElementById("
        "section.getAttribute('aria-labelledby')).tagName == 'H2')"
    )
    assert page.evaluate(
        "[...document.querySelectorAll('table')].every(table => table.caption && "
        "[...table.rows].every(row => row.querySelector('th[scope]')))"
    )


SCRIPT = "<script>document.title = 'run'</script><img src='data:,' onerror=\"document.title = 'run'\">"


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A report in which whatever is a text holds a script."""
    names = [f"{SCRIPT} {label}" for label in range(10)]
    monkeypatch.setattr(report_page, "class_name", lambda label: names[label])
    monkeypatch.setattr(report_page, "CLASS_NAMES", names)
    case = CASES["usual"]
    texts = {key: SCRIPT for key, value in case.timing.items() if isinstance(value, str)}
    params = {section: {SCRIPT: SCRIPT, **values} for section, values in case.params.items()}
    params["data"]["urls"] = [SCRIPT]
    given = replace(
        case,
        per_class=dict(zip(names, case.per_class.values(), strict=True)),
        timing={**case.timing, **texts, "kernels": "onednn", "versions": {SCRIPT: SCRIPT}},
        data={**case.data, "archive": {"md5": SCRIPT}},
        params=params,
    )
    write_report(given, tmp_path / "report")
    return tmp_path / "report"


@pytest.mark.filterwarnings("ignore:constrained_layout")  # the names are too long for the pictures
def test_a_script_in_a_parameter_or_a_name_stays_text(hostile: Path, page: Page) -> None:
    page.goto((hostile / "index.html").as_uri())
    shown = page.text_content("body") or ""
    assert shown.count(SCRIPT) > 40
    for number in range(10):
        assert f"{SCRIPT} {number}" in shown
    assert page.evaluate("document.scripts.length") == 0
    assert page.evaluate("document.querySelectorAll('[onerror]').length") == 0
    assert page.title() != "run"


def test_the_page_runs_no_script_and_fetches_nothing(written: dict[str, Path], page: Page) -> None:
    """Not even where one got in, by its content security policy."""
    source = (written["usual"] / "index.html").read_text(encoding="utf-8")
    harm = SCRIPT + "<img src='http://127.0.0.1:9/a.png'><link rel='stylesheet' href='http://127.0.0.1:9/a.css'>"
    (written["usual"] / "harmed.html").write_text(source.replace("</body>", harm + "</body>"), encoding="utf-8")
    requests: list[str] = []
    page.on("requestfinished", lambda request: requests.append(request.url))
    page.on("requestfailed", lambda request: requests.append(f"{request.url} {request.failure}"))
    page.goto((written["usual"] / "harmed.html").as_uri())
    (written["usual"] / "harmed.html").unlink()
    assert page.evaluate("document.scripts.length") == 1
    assert page.title() != "run"
    assert not [request for request in requests if request.startswith("http") and "csp" not in request.lower()]


def test_threads_are_those_of_the_cpu(tmp_path: Path, page: Page) -> None:
    timing = {**CASES["usual"].timing, "device_target": "GPU", "workers": 2, "threads": None}
    write_report(replace(CASES["usual"], timing=timing), tmp_path / "report")
    found = text(page, tmp_path / "report")
    assert "Device GPU 2 workers Precision" in found


def test_a_point_is_one_step_if_there_are_as_many_points_as_steps(tmp_path: Path, page: Page) -> None:
    steps = len(CASES["usual"].curves["train/loss"].steps)
    write_report(replace(CASES["usual"], train={**CASES["usual"].train, "steps": steps}), tmp_path / "report")
    assert "Each point of the faint lines is one step, and each" in text(page, tmp_path / "report")


def test_the_weights_of_a_small_network_are_counted(tmp_path: Path) -> None:
    small = results()
    write_report(replace(small, train={**small.train, "parameters": 7_930}), tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert '7,930 <span class="unit">weights' in page


def test_what_the_page_says(written: dict[str, Path], page: Page) -> None:
    found = text(page, written["usual"])
    accuracy = f"{CASES['usual'].evaluation['accuracy']:.4f}"
    for part in (
        f"Test accuracy {accuracy}",
        "Test loss 1.2345",
        "Each of the 4,686 steps",
        "Training time 1 h 12 min on CPU, 57 images/s",
        "Training cost 9.86 PFLOP",
        "CPU 1 worker, 2 threads",
        "57.0 M weights images resized to 227\N{MULTIPLICATION SIGN}224 pixels",
        "AlexNet on CIFAR-10 A network after some people. It sorts images into ten classes.",
        "trained for 3 epochs on 45,000 images, and tested on 100 others.",
        "Each point of the faint lines is the mean of a few steps,",
        "and each point of the bold lines is the mean of many.",
        "zoo, Ascend 910 0.8832 9.86 17 min",
        "zoo, V100 0.88512 9.86 14 min",
        "quoted from its README",
        f"27 of {count_wrong(CASES['usual'])}:",
        "one of the 96 small patterns (filters)",
        "dropout_rate 0.5",
        "md5 null",
        "MD5 of the archive, which is the official one c32a1d4ab5d03f1284b67883e8d87530",
        "Experiment or branch slower",
        "Trained until 2026-01-02 03:04 UTC",
        "Commit of the code 0123abc",
        "Training accuracy 0.6543",
        "Precision bfloat16 oneDNN kernels",
        "oneDNN 3.2.0",
        "MindSpore 2.8.0",
        "NumPy 1.26.4",
        "https://example.org/<i>&amp;/longlong",
    ):
        assert part in found
    assert "with care" not in found
    assert "generated" not in found
    assert "Validation" not in found
    shown = text(page, written["few wrong"])
    assert "Validation accuracy 0.7000 5,000 images held out" in shown
    assert "MD5 of the initial weights 0123456789abcdef0123456789abcdef" in shown


EDGES = "element => (({left, right}) => [left, right])(element.getBoundingClientRect())"


@pytest.mark.parametrize("width", [1600, 1280, 800, 400])
def test_the_charts_fill_the_width(width: int, written: dict[str, Path], browser: Browser) -> None:
    with browser.new_page(viewport={"width": width, "height": 800}) as page:
        page.goto((written["usual"] / "index.html").as_uri())
        left, right = page.evaluate(f"({EDGES})(document.querySelector('main'))")
        assert right - left >= 0.8 * width
        for edges in page.evaluate(f"[...document.querySelectorAll('.mistakes, .filters img')].map({EDGES})"):
            assert edges == pytest.approx([left, right], abs=1)
        columns = page.evaluate(f"[...document.querySelectorAll('.pairs > *')].map({EDGES})")
    assert {start for start, _ in columns} == ({left} if width == 400 else {left, (left + right) / 2 + 16})
    assert max(end for _, end in columns) == right


@pytest.mark.parametrize("width", [1600, 1280])
@pytest.mark.parametrize("case", ["few wrong", "generated, none wrong"])
def test_the_first_screen_has_what_matters_and_parameters_are_folded(
    case: str, width: int, written: dict[str, Path], browser: Browser
) -> None:
    with browser.new_page(viewport={"width": width, "height": 900}) as page:
        page.goto((written[case] / "index.html").as_uri())
        terms = page.locator(".headline dt").all_inner_texts()
        assert terms == ["Test accuracy", "Training time", "Training cost", "Network"]
        first = page.locator(".pairs figure").first
        assert (first.locator("img").get_attribute("alt") or "").startswith("Accuracy by step")
        box = first.bounding_box()
        assert box
        assert box["y"] + box["height"] <= 900
        for hidden in ("code:text-is('dropout_rate')", "text='MindSpore'"):
            assert not page.locator(hidden).is_visible()
        page.click("text='Parameters'")
        page.click("text='Data, code and versions'")
        for shown in ("code:text-is('dropout_rate')", "text='MindSpore'"):
            assert page.locator(shown).is_visible()


@pytest.mark.parametrize("case", CASES)
def test_a_sentence_below_each_chart_says_how_to_read_it(case: str, written: dict[str, Path], page: Page) -> None:
    page.goto((written[case] / "index.html").as_uri())
    captions = page.locator("figure:has(picture) > figcaption").all_inner_texts()
    assert len(captions) == page.locator("picture").count() == 8
    for caption in captions:
        assert re.fullmatch(r"[A-Z].{40,}\.", caption)
    whitened = case == "generated, none wrong"
    start = "they start as the stripes and blobs" if whitened else "after a short training they still look like noise"
    assert start in captions[-1]
    assert ("validation images" in captions[0]) == (case == "few wrong")


@pytest.mark.parametrize(("width", "columns"), [(1280, 9), (800, 9), (400, 3)])
def test_the_mistakes_fill_their_rows(width: int, columns: int, written: dict[str, Path], browser: Browser) -> None:
    with browser.new_page(viewport={"width": width, "height": 800}) as page:
        page.goto((written["usual"] / "index.html").as_uri())
        tops = page.evaluate("[...document.querySelectorAll('.mistakes li')].map(item => item.offsetTop)")
    assert [tops.count(top) for top in sorted(set(tops))] == [columns] * (27 // columns)


def front_matter(folder: Path) -> tuple[dict[str, Any], str]:
    _, head, body = (folder / "MODEL_CARD.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), body


def test_the_card_of_another_archive_does_not_name_the_official_data_set(tmp_path: Path) -> None:
    case = CASES["usual"]
    write_report(replace(case, data={**case.data, "archive": {"md5": "0" * 32}}), tmp_path / "report")
    head, body = front_matter(tmp_path / "report")
    assert "datasets" not in head
    assert head["model-index"][0]["results"][0]["dataset"]["type"] == "custom"
    assert "not the official archive" in body


def test_the_model_card(written: dict[str, Path]) -> None:
    case = CASES["few wrong"]
    head, body = front_matter(written["few wrong"])
    assert (head["pipeline_tag"], head["library_name"], head["datasets"]) == (
        "image-classification",
        "mindspore",
        ["uoft-cs/cifar10"],
    )
    assert "alexnet" in head["tags"]
    assert head["model-index"][0]["name"] == "alexnet-cifar10"
    assert body.startswith("\n# AlexNet on CIFAR-10\n\nA network after some people.\nIt has 57,000,000 weights")
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"][0] == {"type": "accuracy", "value": pytest.approx(case.evaluation["accuracy"])}
    assert head["license"] == "unknown", "of https://huggingface.co/docs/hub/repositories-licenses"
    headings = ("Intended use", "Data", "Licence", "Training", "Results", "Calibration", "Limits")
    assert re.findall(r"^## (.+)$", body, re.MULTILINE) == list(headings)
    for part in (
        "[the page of CIFAR-10](https://www.cs.toronto.edu/~kriz/cifar.html) state one for the data",
        "`0123abc`",
        "9.86 PFLOP",
        "CPU, oneDNN kernels, bfloat16",
        "MindSpore 2.8.0, NumPy 1.26.4, oneDNN 3.2.0",
        "| image size in the network | 227\N{MULTIPLICATION SIGN}224 pixels |",
        "| validation images | 0.7000 |",
        "augmented | 0.6543 |",
        "| initial weights | a checkpoint with the MD5 `0123456789abcdef0123456789abcdef` |",
        f"| cat | 10 | {case.per_class['cat']:.3f} |",
        "https://example.org/<i>&amp;/",
    ):
        assert part in body
    assert "not the official" not in body
    (parameters,) = re.findall(r"```yaml\n(.*?)```", body, re.DOTALL)
    assert yaml.safe_load(parameters) == case.params


def test_the_model_card_of_generated_images(written: dict[str, Path]) -> None:
    head, body = front_matter(written["generated, none wrong"])
    assert "datasets" not in head
    assert head["model-index"][0]["results"][0]["dataset"]["type"] == "generated"
    assert "images that a program drew" in body
    assert "state one for the data" not in body
    assert head["license"] == "unknown"


@pytest.mark.parametrize("description", ["Two layers, and <b>one</b> cell.", ""])
def test_a_report_about_another_network_has_nothing_of_alexnet(description: str, tmp_path: Path, page: Page) -> None:
    case = CASES["usual"]
    other = {"network": "Small", "description": description, "image_size": None}
    write_report(replace(case, timing={**case.timing, **other}), tmp_path / "report")
    shown = text(page, tmp_path / "report")
    assert shown.startswith(" ".join(f"Small on CIFAR-10 {description} It sorts images into ten classes.".split()))
    head, body = front_matter(tmp_path / "report")
    assert head["tags"][0] == "small"
    assert head["model-index"][0]["name"] == "small-cifar10"
    begin = f"\n# Small on CIFAR-10\n\n{description}\nIt has" if description else "\n# Small on CIFAR-10\n\nIt has"
    assert body.startswith(begin)
    for found in (shown, str(head), body):
        for word in ("AlexNet", "alexnet", "Krizhevsky et al", "zoo", "0.8832", "resized to 2", "image size"):
            assert word not in found


def test_the_training_images_are_shown(written: dict[str, Path], page: Page) -> None:
    page.goto((written["usual"] / "index.html").as_uri())
    said = "12 images of the first training batch: each as it is stored, and below it as the network was given it."
    assert page.get_by_alt_text(said, exact=True).is_visible()
    assert f"![{said}](augmented.png)" in (written["usual"] / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_the_most_confident_mistakes_are_shown_in_order(written: dict[str, Path], page: Page) -> None:
    page.goto((written["few wrong"] / "index.html").as_uri())
    given = CASES["few wrong"]
    powers = np.exp(given.logits.astype(np.float64))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    wrong = np.flatnonzero(given.logits.argmax(axis=1) != given.split.labels)
    wrong = wrong[np.argsort(-probabilities[wrong].max(axis=1))]
    assert 1 < len(wrong) < 27
    shown = [item.split() for item in page.locator(".mistakes li").all_inner_texts()]
    assert shown == [
        [
            CLASS_NAMES[given.split.labels[index]],
            CLASS_NAMES[given.logits[index].argmax()],
            f"{probabilities[index].max():.3f}",
        ]
        for index in wrong
    ]
    assert page.locator(".mistakes img").first.get_attribute("alt") == f"Test image {wrong[0]}"


def test_a_page_about_generated_images_says_so_and_compares_nothing(written: dict[str, Path], page: Page) -> None:
    found = text(page, written["generated, none wrong"])
    assert page.inner_text("h1") == "AlexNet on generated images"
    assert "These are not CIFAR-10" in found
    assert "compared with nothing else" in found
    assert "0.8832" not in found
    assert "0.88512" not in found


def test_the_page_says_that_there_is_no_mistake(written: dict[str, Path], page: Page) -> None:
    found = text(page, written["generated, none wrong"])
    assert "There is none: every test image was predicted correctly." in found
    assert "truck 1 1.000 none" in found


def test_outputs_without_a_class(written: dict[str, Path], page: Page) -> None:
    page.goto((written["all wrong, twelve outputs, one point"] / "index.html").as_uri())
    assert "bold lines" not in page.inner_text("body")
    predicted = CASES["all wrong, twelve outputs, one point"].logits.argmax(axis=1)
    shown = page.locator(".mistakes i").all_inner_texts()
    assert sorted(shown) == sorted(CLASS_NAMES[p] if p < 10 else f"class {p}" for p in predicted)
    assert any(name.startswith("class 1") for name in shown)


def test_another_archive_is_to_be_compared_with_care(tmp_path: Path) -> None:
    other = replace(results(), data={**results().data, "archive": {"md5": "0" * 32}})
    write_report(other, tmp_path / "report")
    found = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "compare with care" in found
    assert "which is the official one" not in found


def test_the_same_bytes_again_and_charts_beside_the_page(written: dict[str, Path], tmp_path: Path) -> None:
    write_report(CASES["usual"], tmp_path / "report")
    first, second = (
        {path.name: path.read_bytes() for path in f.iterdir()} for f in (written["usual"], tmp_path / "report")
    )
    assert first == second
    assert set(first) == FILES
    for name in PNG:
        assert imread(written["usual"] / name).shape[1] >= 700


@pytest.mark.parametrize("shape", [(99, 10), (100, 9), (1000,), (100, 10)])
def test_logits_of_another_evaluation_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    logits = np.full(shape, np.nan if shape == (100, 10) else 0, np.float32)
    with pytest.raises(InputError) as caught:
        write_report(replace(results(), logits=logits), tmp_path / "report")
    one_line(caught, f"the logits have the shape {shape}", "expected", "(100, 10 or more)", "evaluate again")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(8, 1, 5, 5), (8, 3, 0, 5), (0, 3, 5, 5)])
def test_filters_of_another_shape_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        write_report(replace(results(), filters=np.zeros(shape)), tmp_path / "report")
    one_line(caught, str(shape), "(N, 3, height, width)")


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 0, 3, 32, 32), np.uint8), np.zeros((3, 1, 3, 32, 32), np.uint8), np.zeros((2, 1, 3, 32, 32))],
)
def test_training_images_of_another_form_are_refused(images: NDArray[np.float64], tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        write_report(replace(results(), augmented=images), tmp_path / "report")
    one_line(
        caught,
        f"{images.dtype} of shape {images.shape}",
        "expected uint8 of shape (2, N, 3, 32, 32)",
        "train again",
    )


def test_class_rows() -> None:
    matrix = np.zeros((10, 11), np.int64)
    matrix[2] = [0, 3, 5, 0, 0, 0, 0, 0, 0, 0, 2]
    matrix[4, 4] = 7
    matrix[9, 10] = 1
    rows = class_rows(matrix, {"bird": 0.5, "deer": 1.0, "truck": 0.0})
    assert [tuple(row) for row in rows] == [
        ("bird", 10, 0.5, "automobile", 0.3),
        ("deer", 7, 1.0, None, 0.0),
        ("truck", 1, 0.0, "no class", 1.0),
    ]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.04, "0.0 s"),
        (59.4, "59.4 s"),
        (59.6, "1 min 00 s"),
        (715.1, "11 min 55 s"),
        (3599.7, "1 h 00 min"),
        (86_399, "24 h 00 min"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(1.0, "> 0.999"), (0.99951, "> 0.999"), (0.9994, "0.999"), (0.1, "0.100")]
)
def test_probabilities(value: float, expected: str) -> None:
    assert probability(value) == expected


@pytest.fixture
def finished(workspace: Path) -> Path:
    """A workspace in which all stages before this one have run."""
    given = results(images=20)
    folder = workspace / "data" / "cifar-10-verify-bin"
    folder.mkdir(parents=True)
    (folder / cifar10.TEST_FILES[0]).write_bytes(archives.files()["test_batch.bin"])
    (workspace / "predictions").mkdir()
    np.save(workspace / "predictions" / "logits.npy", given.logits)
    np.save(workspace / "predictions" / "filters.npy", given.filters)
    (workspace / "plots").mkdir()
    np.save(workspace / "plots" / "augmented.npy", given.augmented)
    metrics = {"data": given.data, "train": given.train, "eval": given.evaluation, "per_class": given.per_class}
    (workspace / "metrics").mkdir()
    for name, values in (metrics | {"timing": given.timing}).items():
        (workspace / "metrics" / f"{name}.json").write_text(json.dumps(values), encoding="utf-8")
    for name, curve in given.curves.items():
        path = workspace / "dvclive" / "plots" / "metrics" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = "".join(f"{step}\t{value}\n" for step, value in zip(*curve, strict=True))
        path.write_text(f"step\t{path.stem}\n{rows}", encoding="utf-8")
    return workspace


def of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "report").iterdir()}


def test_the_stage(finished: Path, run: Run) -> None:
    (finished / "mindspore.py").write_text("raise SystemExit('MindSpore was imported')\n", encoding="utf-8")
    change(finished, train={"seed": 31415}, run={"log_steps": 27182})
    process = run("-m", "stages", "report")
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    first = of(finished)
    assert set(first) == FILES
    page = first["index.html"].decode()
    for part in ("31415", "<code>0123abc</code>", "urls", "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"):
        assert part in page
    assert "27182" not in page, "what changes no result is not shown"

    validation = finished / "dvclive" / "plots" / "metrics" / "eval" / "accuracy.tsv"
    validation.parent.mkdir()
    validation.write_text("step\taccuracy\n7\t0.5\n", encoding="utf-8")
    change(finished, train={"validation_images": 10})
    assert run("-m", "stages", "report").returncode == 0
    second = of(finished)
    assert {name for name in PNG if first[name] != second[name]} == {"accuracy.png"}


def test_no_secret_of_a_url_is_on_the_page(tmp_path: Path) -> None:
    case = results(images=10)
    urls = ["http://me:hush@example.org/a?token=hush", "path", "generated"]
    write_report(replace(case, params={**case.params, "data": {"urls": urls}}), tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "[&#34;http://***@example.org/a?***&#34;, &#34;path&#34;, &#34;generated&#34;]" in page
    assert "hush" not in page
    assert "hush" not in (tmp_path / "report" / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_the_zoos_cost_is_as_calculated() -> None:
    assert pytest.approx(training_pflop(10, 227, 227, 30 * 1562 * 32), abs=1e-4) == ZOO_PFLOP


def npy(shape: str, kind: str = "<f4") -> bytes:
    """The header of a file of an array, which says it has this shape and this type."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    ("file", "content", "part"),
    [
        ("metrics/timing.json", None, "cannot read metrics/timing.json"),
        ("metrics/eval.json", b"{", "cannot read metrics/eval.json"),
        ("metrics/eval.json", b"\xff", "cannot read metrics/eval.json"),
        ("metrics/eval.json", b"[]", "cannot read metrics/eval.json: Input should be an object"),
        ("metrics/eval.json", b'{"accuracy": 1.0}', "cannot read metrics/eval.json: loss: Field required"),
        ("metrics/eval.json", b'{"accuracy": NaN, "loss": 1}', "cannot read metrics/eval.json: accuracy: "),
        ("metrics/train.json", b'{"images": "3"}', "cannot read metrics/train.json: images: "),
        ("metrics/train.json", NULL, "cannot read metrics/train.json: validation_accuracy: "),
        ("metrics/per_class.json", b'{"cat": 1}', "cannot read metrics/per_class.json: airplane: Field required"),
        ("metrics/data.json", b'{"archive": 3}', "cannot read metrics/data.json: archive: "),
        ("metrics/timing.json", b'{"kernels": "x"}', "cannot read metrics/timing.json: network: Field required"),
        ("metrics/data.json", b"[" * 100_000, "cannot read metrics/data.json"),
        ("predictions/logits.npy", None, "cannot read predictions/logits.npy"),
        ("predictions/logits.npy", b"none", "cannot read predictions/logits.npy"),
        ("predictions/logits.npy", b"", "cannot read predictions/logits.npy"),
        ("predictions/logits.npy", npy("(10**12, 10)"), "cannot read predictions/logits.npy"),
        (
            "predictions/logits.npy",
            npy("(1000000000000, 10)"),
            "cannot read predictions/logits.npy: Unable to allocate",
        ),
        ("predictions/logits.npy", npy("(99999999999999999999, 10)"), "cannot read predictions/logits.npy"),
        ("predictions/logits.npy", npy("(" * 9000), "cannot read predictions/logits.npy"),
        ("predictions/logits.npy", npy("(1,)", "|O"), "cannot read predictions/logits.npy"),
        ("predictions/logits.npy", npy("(0, 10)", "<U1"), "cannot read predictions/logits.npy: it has the type <U1"),
        ("predictions/logits.npy", b"PK\3\4" + bytes(99), "cannot read predictions/logits.npy"),
        ("dvclive/plots/metrics/train/loss.tsv", None, "cannot read the curve dvclive/plots/metrics/train/loss.tsv"),
        ("predictions/filters.npy", None, "cannot read predictions/filters.npy"),
        ("plots/augmented.npy", None, "cannot read plots/augmented.npy"),
    ],
)
def test_a_missing_or_broken_input_is_one_line(
    file: str, content: bytes | None, part: str, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    (finished / file).unlink()
    if content is not None:
        (finished / file).write_bytes(content)
    with pytest.raises(InputError) as caught:
        main()
    one_line(caught, part)
    assert not (finished / "report").exists()
