"""One page on a training: what it came to, what it cost, how it went and where it errs, with its pictures."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from alexnet.cifar10 import CHANNELS, CLASS_NAMES, NUM_CLASSES, OFFICIAL_MD5, Split, class_name
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
"""Whole rows of 9, and on a narrow screen of 3."""
PRECISIONS = {("onednn", "O2"): "bfloat16", ("mindspore", "O2"): "float16"}
"""What the products of a training are computed in, by `kernels` and `amp_level`; float32 otherwise."""
LIBRARIES = {"onednn": "oneDNN", "mindspore": "MindSpore"}


@dataclass(frozen=True)
class Quoted:
    """A result that is the model zoo's own figure, as printed there."""

    device: str
    accuracy: str
    minutes: int


ZOO = (Quoted("Ascend 910", "0.8832", 17), Quoted("V100", "0.88512", 14))
"""From the README.md of https://gitee.com/mindspore/models/tree/master/official/cv/AlexNet"""
ZOO_PFLOP = 9.8614
"""The cost of the zoo's recipe, as `alexnet.model.alexnet_layers.training_pflop` counts it."""


@dataclass(frozen=True)
class Results:
    """What the page is made of.

    split: the test images.
    logits: float32 of shape (N, num_classes), in the order of the test images.
    filters: the weights of the first convolution, float32 of shape (N, 3, height, width).
    curves: by the name of the metric; `train/loss`, `train/accuracy` and `learning_rate`, and with a validation set
        `eval/accuracy`.
    train: `epochs`, `steps`, `parameters` (how many weights), `pflop` and `train_accuracy`; with a validation set,
        `validation_accuracy`.
    evaluation: `accuracy` and `loss` on the test images.
    per_class: class name to accuracy.
    timing: `network`, its name as shown; `device_target`, `workers`, `threads`, `kernels`, `amp_level`,
        `train_seconds` and `images_per_second`; the `commit` that trained, the `name` of the experiment or branch and
        when it `finished`, as shown; `versions` by package; the `initial_weights_md5` of a training that started from a
        checkpoint.
    data: `archive` with `md5`, `generated`, and `train` and `test`, each with `images`.
    params: each section's parameters; `model` has `image_height` and `image_width`.
    """

    split: Split
    logits: np.ndarray
    filters: np.ndarray
    curves: Mapping[str, Curve]
    train: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    per_class: Mapping[str, float]
    timing: Mapping[str, Any]
    data: Mapping[str, Any]
    params: Mapping[str, Mapping[str, Any]]


class Picture(NamedTuple):
    """A picture on the page: what it shows in words, and as PNG, drawn for a light and for a dark page."""

    alt: str
    light: bytes
    dark: bytes


class Mistake(NamedTuple):
    """A wrong prediction: the image as PNG, its number in the test file from 0, and how sure the network was."""

    png: bytes
    number: int
    actual: str
    predicted: str
    probability: float

    @property
    def caption(self) -> str:
        """The true class, the predicted one and its probability, each on its own line."""
        return f"{self.actual}\n→ {self.predicted}\n{probability(self.probability)}"


class ClassRow(NamedTuple):
    """A class, its test images, the share predicted right, and what it is most often taken for (None: nothing)."""

    name: str
    images: int
    accuracy: float
    taken_for: str | None
    taken_share: float


def write_report(results: Results, folder: Path) -> None:
    """Write index.html, with nothing outside itself, and beside it MODEL_CARD.md and the light pictures as PNG files.

    The folder appears whole or not at all, and has the same bytes for the same results. Raises InputError when the
    logits or the filters are not of the shape they must be.
    """
    split, logits = results.split, results.logits
    if logits.ndim != 2 or len(logits) != len(split) or logits.shape[1] < NUM_CLASSES or not np.isfinite(logits).all():
        raise InputError(
            f"the logits are of shape {logits.shape} or not finite, expected numbers of shape ({len(split)}, "
            f"{NUM_CLASSES} or more), one row a test image: evaluate again"
        )
    if results.filters.ndim != 4 or results.filters.shape[1] != CHANNELS:
        raise InputError(f"the filters are of shape {results.filters.shape}, expected (N, {CHANNELS}, height, width)")
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
    shown = {
        "results": results,
        "pictures": drawn,
        "calibration": calibration,
        "means": charts.MEANS,
        "mistakes": mistakes,
        "mistakes_in_all": len(split) - int(matrix.trace()),
        "rows": rows,
        "zoo": ZOO,
        "zoo_pflop": ZOO_PFLOP,
        "official": results.data["archive"]["md5"] == OFFICIAL_MD5,
        "library": LIBRARIES[results.timing["kernels"]],
        "precision": PRECISIONS.get((results.timing["kernels"], results.timing["amp_level"]), "float32"),
        "themes": {"light": LIGHT, "dark": DARK},
    }
    page, card = (_render(template, shown) for template in (PAGE, CARD))
    title = "The most confident mistakes" if mistakes else "No mistake: every test image was predicted right"
    sheet = charts.captioned(split.images[wrong], [mistake.caption for mistake in mistakes], title, LIGHT)
    files = {name: picture.light for name, picture in drawn.items()} | {"mistakes": sheet}
    with replacing(folder) as new:
        new.mkdir()
        for name, png in files.items():
            (new / f"{name}.png").write_bytes(png)
        (new / "index.html").write_text(page, encoding="utf-8", newline="\n")
        (new / "MODEL_CARD.md").write_text(card, encoding="utf-8", newline="\n")


def _render(template: str, shown: Mapping[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {filter.__name__: filter for filter in (data_uri, duration, parameter, probability)}
    return environment.get_template(template).render(shown) + "\n"


def class_rows(matrix: np.ndarray, per_class: Mapping[str, float]) -> list[ClassRow]:
    """Return a row for each class that has test images, from the confusion matrix and the classes' accuracies."""
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
    """Return the name of a column of a confusion matrix."""
    return CLASS_NAMES[column] if column < NUM_CLASSES else "no class"


def _draw(results: Results, matrix: np.ndarray, calibration: Calibration, rows: list[ClassRow]) -> dict[str, Picture]:
    def picture(alt: str, draw: Callable[[Theme], bytes]) -> Picture:
        return Picture(alt, draw(LIGHT), draw(DARK))

    loss, rate = results.curves["train/loss"], results.curves["learning_rate"]
    accuracies = {"training batches": results.curves["train/accuracy"]}
    if "eval/accuracy" in results.curves:
        accuracies["validation"] = results.curves["eval/accuracy"]
    names = [column_name(column) for column in range(matrix.shape[1])]
    best, worst = (pick(results.per_class, key=results.per_class.__getitem__) for pick in (max, min))
    confused = max(rows, key=lambda row: row.taken_share)
    count, _, height, width = results.filters.shape
    return {
        "loss": picture(
            f"Loss of the training batches by step: {_span(loss)}.",
            lambda theme: charts.curves(
                {"training batches": loss}, "Loss of the training batches", "softmax cross entropy", theme
            ),
        ),
        "accuracy": picture(
            "Accuracy by step: " + "; ".join(f"{name} {_span(curve)}" for name, curve in accuracies.items()) + ".",
            lambda theme: charts.curves(
                accuracies,
                "Accuracy" if len(accuracies) > 1 else "Accuracy of the training batches",
                "share predicted right",
                theme,
                top=1,
            ),
        ),
        "learning_rate": picture(
            f"Learning rate by step: {_span(rate)}.",
            lambda theme: charts.curves({"learning rate": rate}, "Learning rate", "learning rate", theme),
        ),
        "confusion": picture(
            "Confusion matrix. "
            + (
                f"Most often confused: {confused.name}, {confused.taken_share:.0%} taken for {confused.taken_for}."
                if confused.taken_for
                else "Nothing is confused."
            ),
            lambda theme: charts.confusion(matrix, names, theme),
        ),
        "per_class": picture(
            f"Accuracy by class: from {results.per_class[worst]:.2f} ({worst}) to {results.per_class[best]:.2f} "
            f"({best}). The table has all.",
            lambda theme: charts.per_class(results.per_class, results.evaluation["accuracy"], theme),
        ),
        "reliability": picture(
            "Reliability diagram: the share of right predictions against how sure they are, in "
            f"{len(calibration.images)} bins, with the number of images below. The expected calibration error is "
            f"{calibration.error:.4f}.",
            lambda theme: charts.reliability(calibration, theme),
        ),
        "filters": picture(
            f"The {count} filters of the first layer as colour images of {height}x{width} pixels.",
            lambda theme: charts.filters(results.filters, theme),
        ),
    }


def _span(curve: Curve) -> str:
    first, last = f"{curve.values[0]:.4g}", f"{curve.values[-1]:.4g}"
    return f"{first} at step {curve.steps[0]}" + (f", {last} at step {curve.steps[-1]}" if len(curve.steps) > 1 else "")


def data_uri(png: bytes) -> str:
    """Return a PNG as an address that has it all within."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def duration(seconds: float) -> str:
    """Return a time as people say it, such as `2 h 05 min`, in two units at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"


def parameter(value: object) -> str:
    """Return a parameter's value as YAML has it, URLs without what may be secret."""
    if isinstance(value, list):
        return f"[{', '.join(json.dumps(masked(item), ensure_ascii=False) for item in value)}]"
    return masked(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def probability(value: float) -> str:
    """Return a probability with three decimals; one that is not 1 is not rounded up to it."""
    return f"{value:.3f}" if value < 0.9995 else "> 0.999"
