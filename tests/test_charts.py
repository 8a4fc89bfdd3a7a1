import io
import re
from collections.abc import Callable
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from numpy.typing import NDArray

from alexnet.cifar10 import CLASS_NAMES
from alexnet.evaluation.calibration import measure_calibration
from alexnet.report import charts
from alexnet.report.charts import DARK, FILTER_SCALE, LIGHT, Theme, Trainings
from alexnet.report.curves import Curve
from tests import workspaces

RNG = np.random.default_rng(1)
MATRIX = RNG.integers(0, 100, (10, 10))
CURVE = Curve(np.arange(1, 201), RNG.random(200))
CALIBRATION = measure_calibration(RNG.dirichlet(np.ones(10), 50), RNG.integers(0, 10, 50))
IMAGES = RNG.integers(0, 256, (7, 3, 32, 32), dtype=np.uint8)
TRAININGS = [
    Trainings("short", 0.05, [0.75, 0.77]),
    Trainings("long", 2.5, [0.9]),
    Trainings("theirs", 9.86, [0.8832, 0.88512], quoted=True),
]
WEIGHTS = RNG.normal(size=(96, 3, 11, 11)).astype(np.float32)

DRAWN: dict[str, Callable[[Theme], bytes]] = {
    "curves": lambda theme: charts.curves({"a": CURVE}, "Title", "y", theme),
    "confusion": lambda theme: charts.confusion(MATRIX, CLASS_NAMES, theme),
    "per_class": lambda theme: charts.per_class(dict.fromkeys(CLASS_NAMES, 0.5), 0.5, theme),
    "reliability": lambda theme: charts.reliability(CALIBRATION, theme),
    "captioned": lambda theme: charts.captioned(IMAGES, [f"a\nb {i}" for i in range(7)], "Title", theme),
    "filters": lambda theme: charts.filters(WEIGHTS, theme),
    "pairs": lambda theme: charts.pairs(IMAGES, IMAGES[::-1], ("above", "below"), "Pairs", theme),
}


def pixels(png: bytes) -> NDArray[np.float32]:
    """Return red, green and blue from 0 to 1, of shape (height, width, 3)."""
    return np.asarray(imread(io.BytesIO(png), format="png"))[..., :3]


def luminance(colour: str) -> float:
    """Return the relative luminance as WCAG 2.2 defines it."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in to_rgb(colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_can_be_read(theme: Theme) -> None:
    """WCAG 2.2 requires a contrast of 4.5 between text and its background."""
    for colour in (theme.foreground, theme.muted, theme.accent, theme.second):
        low, high = sorted((luminance(colour), luminance(theme.background)))
        assert (high + 0.05) / (low + 0.05) >= 4.5


@pytest.mark.parametrize("name", DRAWN)
def test_the_same_bytes_whatever_the_users_settings(name: str) -> None:
    before = DRAWN[name](LIGHT)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.transparent": True}):
        assert DRAWN[name](LIGHT) == before
        assert matplotlib.rcParams["font.size"] == 20
    assert b"Software" not in before


@pytest.mark.parametrize("name", DRAWN)
def test_the_background_is_that_of_the_theme(name: str) -> None:
    for theme in (LIGHT, DARK):
        found = pixels(DRAWN[name](theme))
        behind = np.isclose(found, to_rgb(theme.background), atol=0.003).all(axis=-1)
        assert behind.mean() > 0.1


@pytest.mark.parametrize("name", sorted(set(DRAWN) - {"captioned", "filters", "pairs"}))
@pytest.mark.parametrize("colour", ["foreground", "muted", "grid", "accent"])
def test_every_colour_is_used(name: str, colour: str) -> None:
    if (name, colour) == ("confusion", "grid"):
        return
    assert DRAWN[name](replace(LIGHT, **{colour: "#ff00ff"})) != DRAWN[name](LIGHT)


def test_pyplot_and_its_window_systems_are_left_alone() -> None:
    code = "import alexnet.report.page, sys; print('matplotlib.pyplot' in sys.modules)"
    assert workspaces.run(workspaces.ROOT, "python", "-c", code) == "False\n"


def test_captions_have_mean_and_deviation_and_quoted_figures_their_digits() -> None:
    assert [given.caption for given in TRAININGS] == [
        "short: 0.7600 ± 0.0141",
        "long: 0.9000",
        "theirs: 0.8832, 0.88512",
    ]


def marks(svg: bytes) -> list[tuple[float, float, str]]:
    """The place and the style of each mark of a drawn training, and of its entry in the legend."""
    found = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="([^"]*var\(--(?:accent|second)\))', svg.decode())
    return [(float(x), float(y), style) for x, y, style in found]


def test_accuracy_is_drawn_against_the_logarithm_of_the_cost() -> None:
    svg = charts.accuracy_by_cost(TRAININGS)
    found = marks(svg)
    assert ["second" in style for *_, style in found] == 3 * [False] + 2 * [True] + [False, False, True]
    across, up = np.array([(x, -y) for x, y, _ in found[:5]]).T
    costs, accuracies = np.log([0.05, 0.05, 2.5, 9.86, 9.86]), [0.75, 0.77, 0.9, 0.8832, 0.88512]
    for places, values in ((across, costs), (up, accuracies)):
        slope, start = np.polyfit(values, places, 1)
        np.testing.assert_allclose(start + slope * np.asarray(values), places, atol=0.01)
        assert slope > 0
    assert charts.accuracy_by_cost(TRAININGS) == svg


def test_a_figure_has_the_colours_of_both_modes_and_no_others() -> None:
    svg = charts.accuracy_by_cost(TRAININGS).decode()
    style, drawn = re.split("</style>", svg, maxsplit=1)
    for name, dark in vars(DARK).items():
        light = getattr(LIGHT, name)
        assert style.index(f"--{name}: {light}") < style.index("prefers-color-scheme: dark") < style.index(dark)
        assert f": {light}; " in drawn
    plain = re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})(?!; (?:fill|stroke): var)", drawn)
    assert not plain


def test_curves_show_what_they_are_given() -> None:
    base = charts.curves({"a": CURVE}, "Title", "y", LIGHT)
    others = [
        charts.curves({"a": CURVE, "b": CURVE}, "Title", "y", LIGHT),
        charts.curves({"a": CURVE}, "Another", "y", LIGHT),
        charts.curves({"a": CURVE}, "Title", "x", LIGHT),
        charts.curves({"a": CURVE}, "Title", "y", LIGHT, top=5),
        charts.curves({"a": Curve(CURVE.steps, CURVE.values[::-1])}, "Title", "y", LIGHT),
    ]
    assert base not in others
    assert len(set(others)) == len(others)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_curve_of_one_point_is_visible(value: float) -> None:
    curve = Curve(np.array([20]), np.array([value]))
    found = pixels(charts.curves({"a": curve}, "", "", LIGHT, top=1))
    assert np.isclose(found, to_rgb(LIGHT.accent), atol=0.003).all(axis=-1).sum() > 20


def test_an_image_is_unchanged() -> None:
    found = pixels(charts.image(IMAGES[0]))
    np.testing.assert_array_equal(np.round(255 * found), IMAGES[0].transpose(1, 2, 0))


@pytest.mark.parametrize("count", [0, 1, 9, 10, 27])
def test_any_number_of_images_is_drawn(count: int) -> None:
    images = np.zeros((count, 3, 32, 32), np.uint8)
    found = pixels(charts.captioned(images, ["a"] * count, "", LIGHT))
    assert found.shape[0] == 100 + 300 * max(1, -(-count // 9))
    black = (found == 0).all(axis=-1).mean()
    assert black == pytest.approx(count * 183**2 / np.prod(found.shape[:2]), rel=0.1)


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (6, 1), (7, 2), (12, 2)])
def test_each_image_stands_above_its_pair(count: int, rows: int) -> None:
    above, below = (np.zeros((count, 3, 32, 32), np.uint8) for _ in range(2))
    above[:, 0], below[:, 2] = 255, 255
    found = pixels(charts.pairs(above, below, ("", ""), "", LIGHT))
    red, blue = (np.isclose(found, colour, atol=0.003).all(axis=-1) for colour in ((1, 0, 0), (0, 0, 1)))
    for image in (red, blue):
        starts = np.diff(image.astype(int), axis=0) == 1
        assert starts.sum(axis=0).max() == rows
    assert red.sum() == pytest.approx(blue.sum(), rel=0.05)
    first = np.argwhere(red)[0]
    assert blue[first[0] :, first[1]].any(), "below it"
    assert np.argwhere(blue)[0][0] > first[0]


def test_filters_are_in_order_and_scaled_about_mid_grey() -> None:
    weights = np.zeros((18, 3, 2, 3), np.float32)
    weights[1, 0, 0, 0] = 5  # red at the top left: the largest of its filter, so full
    weights[1, 2, 1, 2] = -2.5  # less blue at the bottom right: half as large
    weights[17, 1] = -1e-6  # no green
    found = pixels(charts.filters(weights, LIGHT))[::FILTER_SCALE, ::FILTER_SCALE]
    assert found.shape == (2 * 3 - 1, 16 * 4 - 1, 3)
    grey = 128 / 255
    np.testing.assert_allclose(found[0:2, 0:3], grey, atol=0.003)
    np.testing.assert_allclose(found[0, 4], (1, grey, grey), atol=0.003)
    np.testing.assert_allclose(found[1, 6], (grey, grey, 0.25), atol=0.003)
    np.testing.assert_allclose(found[3:5, 4:7].reshape(6, 3), [(grey, 0, grey)] * 6, atol=0.003)
    np.testing.assert_allclose(found[2], 1)
    np.testing.assert_allclose(found[3:, 8:], 1)
