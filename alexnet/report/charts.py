"""Charts of trainings and of predictions. The same values and versions give the same bytes.

All are PNG, except for the one of several trainings, which is SVG.
"""

import io
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from itertools import cycle
from typing import Any, Literal, NamedTuple

import matplotlib.style
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from alexnet.evaluation.calibration import Calibration
from alexnet.report.curves import Curve


@dataclass(frozen=True)
class Theme:
    """Colours in hexadecimal. Text in any of them, except for `grid`, can be read on `background`."""

    background: str
    foreground: str
    muted: str
    grid: str
    accent: str
    second: str


LIGHT = Theme("#ffffff", "#1b1f24", "#59616b", "#e2e6ea", "#2a66ad", "#bf5313")
DARK = Theme("#14171b", "#e6e9ec", "#9ba5b0", "#2e353d", "#6cabf2", "#f0955c")

DPI = 200
MEANS = 50
"""The most points of a curve's bold line. A curve with at most this many points has markers, so that a single one is
visible."""
PAIRS_PER_ROW = 6
FILTERS_PER_ROW = 16
FILTER_SCALE = 7
"""How many pixels a weight of a filter is wide and high."""
_NO_VERSION: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Creator": None, "Date": None}}


@contextmanager
def _figure(
    theme: Theme, width: float, height: float, format: Literal["png", "svg"] = "png"
) -> Iterator[tuple[Figure, io.BytesIO]]:
    # Yields a figure of this size in inches, and the buffer that gets its file after the body. The style starts from
    # Matplotlib's defaults, so that the user's settings do not matter. pyplot is not used, because it can load a
    # window system, and keeps figures open.
    style: dict[str, Any] = {
        "axes.axisbelow": True,
        "axes.edgecolor": theme.muted,
        "axes.facecolor": theme.background,
        "axes.formatter.useoffset": False,
        "axes.grid": True,
        "axes.labelcolor": theme.muted,
        "axes.prop_cycle": cycler(color=[theme.accent, theme.second]),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 9,
        "axes.titleweight": "bold",
        "figure.facecolor": theme.background,
        "font.size": 8,
        "grid.color": theme.grid,
        "legend.edgecolor": theme.background,
        "legend.facecolor": theme.background,
        "legend.framealpha": 1,
        "lines.linewidth": 1.4,
        "savefig.dpi": DPI,
        "svg.hashsalt": "",
        "text.color": theme.foreground,
        "text.parse_math": False,  # a name may have a dollar sign in it
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
    }
    with matplotlib.style.context(style, after_reset=True):
        figure, file = Figure((width, height), layout="constrained"), io.BytesIO()
        yield figure, file
        figure.savefig(file, format=format, metadata=_NO_VERSION[format])


def _png(image: np.ndarray) -> bytes:
    # Returns an image, uint8 of shape (H, W, 3), as PNG.
    png = io.BytesIO()
    imsave(png, image, format="png", metadata=_NO_VERSION["png"])
    return png.getvalue()


def curves(named: Mapping[str, Curve], title: str, y_label: str, theme: Theme, top: float | None = None) -> bytes:
    """Draw curves over the steps, with a legend if there are several.

    A curve with more than MEANS points is drawn faintly, behind a bold line through MEANS mean values.

    Args:
        named: the curves by name.
        title: the title of the chart.
        y_label: the label of the vertical axis.
        theme: the colours.
        top: the upper end of the vertical axis, which starts at 0; None fits it to the values.
    """
    with _figure(theme, 3.8, 2.4) as (figure, png):
        axes = figure.subplots()
        for name, curve in named.items():
            few = len(curve.steps) <= MEANS
            (line,) = axes.plot(*_means(curve), label=name, marker="." if few else "", clip_on=not few)
            if not few:
                axes.plot(*curve, color=line.get_color(), linewidth=0.6, alpha=0.35, zorder=line.get_zorder() - 1)
        axes.set(title=title, xlabel="step", ylabel=y_label)
        axes.set_ylim(0, top if top else max(0.0, *(1.08 * curve.values.max() for curve in named.values())) or 1)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        if len(named) > 1:
            axes.legend(loc="best")
    return png.getvalue()


def _means(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    parts = np.array_split(np.stack(curve), min(MEANS, len(curve.steps)), axis=1)
    steps, values = np.stack([part.mean(axis=1) for part in parts], axis=1)
    return steps, values


def confusion(matrix: np.ndarray, names: Sequence[str], theme: Theme) -> bytes:
    """Draw a confusion matrix. Each cell shows its share of the row in percent.

    Args:
        matrix: the number of images of each true class (row) by predicted class (column), int64.
        names: the names of the columns. The rows have the first of these names.
        theme: the colours.
    """
    share = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    with _figure(theme, 4, 3.9) as (figure, png):
        axes = figure.subplots()
        axes.imshow(share, LinearSegmentedColormap.from_list("share", [theme.background, theme.accent]), vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(share):
            if percent := round(100 * value):
                colour = theme.background if value > 0.6 else theme.foreground
                axes.text(column, row, str(percent), ha="center", va="center", color=colour, fontsize=7)
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(matrix)), names[: len(matrix)])
        axes.set(title="Confusion matrix, % of the true class", xlabel="predicted class", ylabel="true class")
        axes.grid(visible=False)
        _bare(axes)
    return png.getvalue()


def per_class(accuracies: Mapping[str, float], accuracy: float, theme: Theme) -> bytes:
    """Draw the accuracy of each class as a bar, and the accuracy on all images as a line."""
    with _figure(theme, 4, 3.9) as (figure, png):
        axes = figure.subplots()
        axes.barh(list(accuracies), list(accuracies.values()), color=theme.accent, height=0.7)
        axes.axvline(accuracy, color=theme.second, linestyle="--", zorder=0.9)
        for row, value in enumerate(accuracies.values()):  # the labels are in a column that no line crosses
            axes.text(1.02, row, f"{value:.2f}", va="center")
        axes.set(title=f"Accuracy by class (dashed: all, {accuracy:.4f})", xlabel="share predicted correctly")
        axes.set_xlim(0, 1.12)
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        _bare(axes)
    return png.getvalue()


def _bare(axes: Axes) -> None:
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def reliability(calibration: Calibration, theme: Theme) -> bytes:
    """Draw a reliability diagram: the accuracy of each bin beside the diagonal, and the share of its images below.

    A dot marks the mean probability of the images in a bin. A bin without images has neither bar nor dot.
    """
    edges, images = calibration.edges, calibration.images
    with _figure(theme, 4, 3.9) as (figure, png):
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        for axes, heights in ((upper, calibration.accuracy), (lower, images / images.sum())):
            axes.bar(edges[:-1], heights, np.diff(edges), align="edge", color=theme.accent, edgecolor=theme.background)
        upper.plot(calibration.confidence, calibration.accuracy, "o", color=theme.foreground, markersize=4)
        upper.plot([0, 1], [0, 1], color=theme.second, linestyle="--", label="perfectly calibrated")
        upper.set(title=f"Reliability, calibration error {calibration.error:.4f}", ylabel="accuracy")
        upper.set_ylim(0, 1)
        upper.legend(loc="upper left")
        lower.set(xlabel="probability of the predicted class", ylabel="share of images")
        lower.set_xlim(0, 1)
        figure.align_ylabels()
    return png.getvalue()


class Trainings(NamedTuple):
    """Trainings that differ in their seeds alone.

    name: what the chart calls them.
    pflop: the cost of each training, in 10^15 operations.
    accuracies: the test accuracy of each training, from 0 to 1.
    quoted: whether the figures are somebody else's, and are shown with the digits that they have.
    """

    name: str
    pflop: float
    accuracies: Sequence[float]
    quoted: bool = False

    @property
    def caption(self) -> str:
        """The name and the accuracy; of several the mean and the sample standard deviation."""
        if self.quoted:
            return f"{self.name}: {', '.join(map(str, self.accuracies))}"
        deviation = f" ± {statistics.stdev(self.accuracies):.4f}" if len(self.accuracies) > 1 else ""
        return f"{self.name}: {statistics.fmean(self.accuracies):.4f}{deviation}"


def accuracy_by_cost(trainings: Sequence[Trainings]) -> bytes:
    """Draw test accuracies against what the trainings cost, as SVG in the colours of the reader's light or dark mode.

    Each accuracy is a mark of its own; quoted ones have the second colour.
    """
    with _figure(LIGHT, 7.5, 3.2, "svg") as (figure, svg):
        axes = figure.subplots()
        for given, marker in zip(sorted(trainings, key=lambda given: given.pflop), cycle("os^DvPX<>*")):
            costs, colour = [given.pflop] * len(given.accuracies), LIGHT.second if given.quoted else LIGHT.accent
            axes.plot(costs, given.accuracies, marker, label=given.caption, color=colour, fillstyle="none")
        axes.set(title="Accuracy by cost of training", xlabel="cost of training, PFLOP", ylabel="test accuracy")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(0.08)
        figure.legend(loc="outside right center")
    return _in_both_modes(svg.getvalue().decode()).encode()


def _in_both_modes(svg: str) -> str:
    # Takes an SVG in LIGHT's colours, and returns it with variables in their place, which follow the reader's mode. A
    # program that knows no variables still shows LIGHT's colours.
    for colour in fields(Theme):
        light = getattr(LIGHT, colour.name)
        svg = re.sub(rf"\b(fill|stroke): {light}", rf"\g<0>; \1: var(--{colour.name})", svg)
    light, dark = (" ".join(f"--{name}: {value};" for name, value in asdict(theme).items()) for theme in (LIGHT, DARK))
    style = f"svg {{ {light} }} @media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}"
    return svg.replace("<defs>", f"<style>{style}</style>\n <defs>", 1)


def image(pixels: np.ndarray) -> bytes:
    """Return an image, uint8 of shape (3, H, W), as PNG."""
    return _png(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def captioned(images: np.ndarray, captions: Sequence[str], title: str, theme: Theme) -> bytes:
    """Draw images, uint8 of shape (N, 3, H, W), in rows of nine, each with its caption below. N may be 0."""
    columns = 9
    rows = max(1, -(-len(images) // columns))
    with _figure(theme, 9, 0.5 + 1.5 * rows) as (figure, png):
        figure.suptitle(title, fontsize=9, fontweight="bold")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, pixels, caption in zip(grid.flat, images, captions, strict=False):
            axes.imshow(pixels.transpose(1, 2, 0))
            axes.set(xlabel=caption, xticks=[], yticks=[])
            axes.xaxis.label.set_color(theme.foreground)
            axes.spines[:].set_visible(False)
        for axes in grid.flat[len(images) :]:
            axes.set_axis_off()
    return png.getvalue()


def _mosaic(tiles: np.ndarray, columns: int, gap: int, theme: Theme) -> np.ndarray:
    # Returns the tiles, of shape (N, height, width, 3), in rows with gaps of so many pixels between them.
    count, height, width, _ = tiles.shape
    rows, tall, wide = -(-count // columns), height + gap, width + gap
    mosaic = np.empty((rows, columns, tall, wide, 3))
    mosaic[:] = to_rgb(theme.background)
    for number, tile in enumerate(tiles):
        mosaic[divmod(number, columns)][:height, :width] = tile
    return mosaic.swapaxes(1, 2).reshape(rows * tall, columns * wide, 3)[:-gap, :-gap]


def pairs(above: np.ndarray, below: np.ndarray, labels: tuple[str, str], title: str, theme: Theme) -> bytes:
    """Draw pairs of images, both uint8 of shape (N, 3, H, W), six pairs a row; the labels name the upper and the lower.

    N is at least 1.
    """
    count, _, height, _ = above.shape
    columns, rows = min(PAIRS_PER_ROW, count), -(-count // PAIRS_PER_ROW)
    gap, margin = 2, 8  # pixels between the images of a pair, and from pair to pair
    stacked = [
        _mosaic(np.stack(pair).transpose(0, 2, 3, 1) / 255, 1, gap, theme) for pair in zip(above, below, strict=True)
    ]
    whole = _mosaic(np.stack(stacked), columns, margin, theme)
    tall = 2 * height + gap + margin
    with _figure(theme, 3.8, 0.3 + 3.5 * whole.shape[0] / whole.shape[1]) as (figure, png):
        axes = figure.subplots()
        axes.imshow(whole, interpolation="nearest")
        middles = [row * tall + part * (height + gap) + height / 2 for row in range(rows) for part in range(2)]
        axes.set_yticks(middles, labels * rows, rotation=90, va="center", fontsize=6.5)
        axes.set(title=title, xticks=[])
        axes.grid(visible=False)
        _bare(axes)
    return png.getvalue()


def filters(weights: np.ndarray, theme: Theme) -> bytes:
    """Draw the filters of a convolution, float32 of shape (N, 3, H, W), each as a colour image, in rows of sixteen.

    A weight of 0 is mid-grey, and the largest absolute weight of each filter is black or white in its channel, so the
    contrast of a filter does not show how large its weights are.

    Source: Krizhevsky et al. 2012, figure 3.
    """
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    tiles = 0.5 + weights / (2 * np.where(largest, largest, 1))
    whole = _mosaic(tiles.transpose(0, 2, 3, 1), FILTERS_PER_ROW, 1, theme)
    return _png(np.round(255 * whole).astype(np.uint8).repeat(FILTER_SCALE, axis=0).repeat(FILTER_SCALE, axis=1))
