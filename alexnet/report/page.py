"""One page about a training: its accuracy, its cost, its curves and its mistakes, with charts."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from alexnet.cifar10 import CHANNELS, CLASS_NAMES, HEIGHT, NUM_CLASSES, OFFICIAL_MD5, WIDTH, Split, class_name
from alexnet.evaluation.calibration import Calibration, measure_calibration, softmax
from alexnet.report import charts, predictions
from alexnet.report.charts import DARK, LIGHT, Theme
from alexnet.report.curves import Curve
from alexnet.runtime.errors import InputError
from alexnet.runtime.files import replacing
from alexnet.runtime.urls import masked

PAGE = "page.html.j2"
CARD = "model_card.md.j2"
"""The templates of the page and of the model card, beside this file."""
MISTAKES = 27
"""How many mistakes are shown: they fill rows of 9, and rows of 3 on a narrow screen."""
PRECISIONS = {("onednn", "O2"): "bfloat16", ("mindspore", "O2"): "float16"}
"""The precision of the products in a training, by `kernels` and `amp_level`; all others are float32."""
LIBRARIES = {"onednn": "oneDNN", "mindspore": "MindSpore"}


@dataclass(frozen=True)
class Quoted:
    """A result that the model zoo reports, quoted literally."""

    device: str
    accuracy: str
    minutes: int


ZOO = (Quoted("Ascend 910", "0.8832", 17), Quoted("V100", "0.88512", 14))
"""Source: https://github.com/mindspore-ai/mindspore/blob/0fe67eb/model_zoo/official/cv/alexnet/README_CN.md"""
ZOO_NETWORK = "AlexNet"
"""The network of these results, as `timing` of Results names it."""
ZOO_PFLOP = 9.8614
"""The cost of the zoo's recipe, as `alexnet.model.alexnet_layers.training_pflop` calculates it."""


@dataclass(frozen=True)
class Results:
    """The results of a run, from which the page is made.

    split: the test images.
    logits: float32 of shape (N, num_classes), in the order of the test images.
    filters: the weights of the first convolution, float32 of shape (N, 3, height, width).
    augmented: images of the first training batch, uint8 of shape (2, N, 3, 32, 32): as they are stored, and as the
        network was given them.
    curves: `train/loss`, `train/accuracy`, `learning_rate` and, if there was validation, `eval/accuracy`, by name.
    train: `images` (the number of training images), `epochs`, `steps`, `parameters` (the number of weights), `pflop`,
        `train_accuracy` and, if there was validation, `validation_accuracy`.
    evaluation: `accuracy` and `loss` on the test images.
    per_class: the accuracy of each class, by the name of the class.
    timing: `network` (its name as it is shown), its `description` (a sentence, or ""), and `image_size` (the height and
        width in pixels to which it resizes images, or None); `device_target`, `workers`, `threads`, `kernels`,
        `amp_level`, `train_seconds` and `images_per_second`; the `commit` that trained, the `name` of the experiment or
        branch, and the time when it `finished`, as they are shown; `versions` by package; and `initial_weights_md5`, if
        the training started from a checkpoint.
    data: `archive` with `md5`, `generated`, and `train` and `test`, each with `images`.
    params: the parameters of each section.
    """

    split: Split
    logits: np.ndarray
    filters: np.ndarray
    augmented: np.ndarray
    curves: Mapping[str, Curve]
    train: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    per_class: Mapping[str, float]
    timing: Mapping[str, Any]
    data: Mapping[str, Any]
    params: Mapping[str, Mapping[str, Any]]


class Chart(NamedTuple):
    """A chart on the page: a description for those who cannot see it, and PNGs for a light and for a dark page."""

    alt: str
    light: bytes
    dark: bytes


class Mistake(NamedTuple):
    """A wrong prediction.

    png: the image as PNG.
    number: its number in the test file, counted from 0.
    actual: the name of the true class.
    predicted: the name of the predicted class.
    probability: the probability of the predicted class.
    """

    png: bytes
    number: int
    actual: str
    predicted: str
    probability: float

    @property
    def caption(self) -> str:
        """The true class, the predicted class and its probability, each on a line."""
        return f"{self.actual}\n→ {self.predicted}\n{probability(self.probability)}"


class ClassRow(NamedTuple):
    """A row of the table of classes.

    name: the name of the class.
    images: the number of its test images.
    accuracy: the share of them that was predicted correctly.
    taken_for: the wrong class that is predicted most often for its images; None if all are predicted correctly.
    taken_share: the share of its images for which that class is predicted.
    """

    name: str
    images: int
    accuracy: float
    taken_for: str | None
    taken_share: float


def write_report(results: Results, folder: Path) -> None:
    """Write a folder with index.html, which contains everything it shows, MODEL_CARD.md, and the light charts as PNG.

    The folder appears completely or not at all. The same results give the same bytes.

    Raises InputError when the logits, the filters or the training images have the wrong shape, the training images are
    not uint8, or a logit is NaN or infinite; and OSError when the file system does.
    """
    split, logits = results.split, results.logits
    if logits.ndim != 2 or len(logits) != len(split) or logits.shape[1] < NUM_CLASSES or not np.isfinite(logits).all():
        raise InputError(
            f"the logits have the shape {logits.shape} or are not finite, expected numbers of shape ({len(split)}, "
            f"{NUM_CLASSES} or more), one row for each test image: evaluate again"
        )
    if results.filters.ndim != 4 or results.filters.shape[1] != CHANNELS or 0 in results.filters.shape:
        raise InputError(
            f"the filters have the shape {results.filters.shape}, expected (N, {CHANNELS}, height, width): "
            "evaluate again"
        )
    shape, dtype = results.augmented.shape, results.augmented.dtype
    if len(shape) != 5 or 0 in shape or (shape[0], *shape[2:]) != (2, CHANNELS, HEIGHT, WIDTH) or dtype != np.uint8:
        raise InputError(
            f"the training images are {dtype} of shape {shape}, expected uint8 of shape "
            f"(2, N, {CHANNELS}, {HEIGHT}, {WIDTH}): train again"
        )
    probabilities = softmax(logits)
    matrix = predictions.confusion_matrix(split.labels, logits.argmax(axis=1))
    calibration = measure_calibration(probabilities, split.labels)
    wrong = predictions.confident_mistakes(probabilities, split.labels, MISTAKES)
    mistakes = [
        Mistake(
            charts.image(split.images[index]),
            int(index),
            class_name(split.labels[index]),
            class_name(probabilities[index].argmax()),
            float(probabilities[index].max()),
        )
        for index in wrong
    ]
    rows = class_rows(matrix, results.per_class)
    drawn = _draw(results, matrix, calibration, rows)
    variables = {
        "results": results,
        "charts": drawn,
        "calibration": calibration,
        "means": charts.MEANS,
        "mistakes": mistakes,
        "mistakes_in_all": len(split) - int(matrix.trace()),
        "rows": rows,
        "zoo": ZOO,
        "zoo_pflop": ZOO_PFLOP,
        "of_the_zoo": results.timing["network"] == ZOO_NETWORK,
        "official": results.data["archive"]["md5"] == OFFICIAL_MD5,
        "library": LIBRARIES[results.timing["kernels"]],
        "precision": PRECISIONS.get((results.timing["kernels"], results.timing["amp_level"]), "float32"),
        "themes": {"light": LIGHT, "dark": DARK},
    }
    page, card = (_render(template, variables) for template in (PAGE, CARD))
    title = "The most confident mistakes" if mistakes else "No mistake: every test image was predicted correctly"
    sheet = charts.captioned(split.images[wrong], [mistake.caption for mistake in mistakes], title, LIGHT)
    files = {name: chart.light for name, chart in drawn.items()} | {"mistakes": sheet}
    with replacing(folder) as new:
        new.mkdir()
        for name, png in files.items():
            (new / f"{name}.png").write_bytes(png)
        (new / "index.html").write_text(page, encoding="utf-8", newline="\n")
        (new / "MODEL_CARD.md").write_text(card, encoding="utf-8", newline="\n")


def _render(template: str, variables: Mapping[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {filter.__name__: filter for filter in (data_uri, duration, parameter, probability)}
    return environment.get_template(template).render(variables) + "\n"


def class_rows(matrix: np.ndarray, per_class: Mapping[str, float]) -> list[ClassRow]:
    """Return a row for each class that has test images.

    Args:
        matrix: what `alexnet.report.predictions.confusion_matrix` returned.
        per_class: the accuracy of each class, by the name of the class.
    """
    rows = []
    for label, counts in enumerate(matrix):
        images = int(counts.sum())
        if images:
            others = counts.copy()
            others[label] = 0
            most = int(others.argmax())
            taken_for = column_name(most) if others[most] else None
            name = class_name(label)
            rows.append(ClassRow(name, images, per_class[name], taken_for, float(others[most] / images)))
    return rows


def column_name(column: int) -> str:
    """Return the name of a column of a confusion matrix, which has one for all outputs that are no class."""
    return CLASS_NAMES[column] if column < NUM_CLASSES else "no class"


def _draw(results: Results, matrix: np.ndarray, calibration: Calibration, rows: list[ClassRow]) -> dict[str, Chart]:
    def chart(alt: str, draw: Callable[[Theme], bytes]) -> Chart:
        return Chart(alt, draw(LIGHT), draw(DARK))

    loss, rate = results.curves["train/loss"], results.curves["learning_rate"]
    accuracies = {"training batches": results.curves["train/accuracy"]}
    if "eval/accuracy" in results.curves:
        accuracies["validation"] = results.curves["eval/accuracy"]
    names = [column_name(column) for column in range(matrix.shape[1])]
    best, worst = (pick(results.per_class, key=results.per_class.__getitem__) for pick in (max, min))
    confused = max(rows, key=lambda row: row.taken_share)
    stored, given = results.augmented
    count, _, height, width = results.filters.shape
    return {
        "loss": chart(
            f"Loss of the training batches by step: {_span(loss)}.",
            lambda theme: charts.curves(
                {"training batches": loss}, "Loss of the training batches", "softmax cross entropy", theme
            ),
        ),
        "accuracy": chart(
            "Accuracy by step: " + "; ".join(f"{name} {_span(curve)}" for name, curve in accuracies.items()) + ".",
            lambda theme: charts.curves(
                accuracies,
                "Accuracy" if len(accuracies) > 1 else "Accuracy of the training batches",
                "share predicted correctly",
                theme,
                top=1,
            ),
        ),
        "learning_rate": chart(
            f"Learning rate by step: {_span(rate)}.",
            lambda theme: charts.curves({"learning rate": rate}, "Learning rate", "learning rate", theme),
        ),
        "augmented": chart(
            f"{len(stored)} images of the first training batch: each as it is stored, and below it as "
            "the network was given it.",
            lambda theme: charts.pairs(stored, given, ("original", "augmented"), "Training images", theme),
        ),
        "confusion": chart(
            "Confusion matrix. "
            + (
                f"Most often confused: {confused.name}, {confused.taken_share:.0%} taken for {confused.taken_for}."
                if confused.taken_for
                else "Nothing is confused."
            ),
            lambda theme: charts.confusion(matrix, names, theme),
        ),
        "per_class": chart(
            f"Accuracy by class: from {results.per_class[worst]:.2f} ({worst}) to {results.per_class[best]:.2f} "
            f"({best}). The table lists every class.",
            lambda theme: charts.per_class(results.per_class, results.evaluation["accuracy"], theme),
        ),
        "reliability": chart(
            "Reliability diagram: the share of correct predictions against how sure they are, in "
            f"{len(calibration.images)} bins, with the share of images below. The expected calibration error is "
            f"{calibration.error:.4f}.",
            lambda theme: charts.reliability(calibration, theme),
        ),
        "filters": chart(
            f"The {count} filters of the first layer as colour images of {height}x{width} pixels.",
            lambda theme: charts.filters(results.filters, theme),
        ),
    }


def _span(curve: Curve) -> str:
    first, last = f"{curve.values[0]:.4g}", f"{curve.values[-1]:.4g}"
    return f"{first} at step {curve.steps[0]}" + (f", {last} at step {curve.steps[-1]}" if len(curve.steps) > 1 else "")


def data_uri(png: bytes) -> str:
    """Return a PNG as a `data:` URL."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def duration(seconds: float) -> str:
    """Return a time in at most two units, such as `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"


def parameter(value: object) -> str:
    """Return the value of a parameter as YAML, without secrets in URLs."""
    if isinstance(value, list):
        return f"[{', '.join(json.dumps(masked(item), ensure_ascii=False) for item in value)}]"
    return masked(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def probability(value: float) -> str:
    """Return a probability with three decimals. One above 0.9995 is shown as `> 0.999`, never as 1."""
    return f"{value:.3f}" if value < 0.9995 else "> 0.999"
