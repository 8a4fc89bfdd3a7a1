import pytest

from alexnet.model.alexnet_layers import MINIMUM_SIZE, axis_sizes, fc1_inputs, training_pflop


@pytest.mark.parametrize(
    ("image_size", "convolutions", "last"),
    [
        (227, [55, 27, 13, 13, 13], 6),
        (99, [23, 11, 5, 5, 5], 2),
        (67, [15, 7, 3, 3, 3], 1),
        (66, [14, 6, 2, 2, 2], 0),
        (10, [0, 0, 0, 0, 0], 0),
    ],
)
def test_sizes_along_an_axis(image_size: int, convolutions: list[int], last: int) -> None:
    assert axis_sizes(image_size) == (convolutions, last)


def test_the_minimum_size_is_the_smallest_with_an_output() -> None:
    assert MINIMUM_SIZE == 67
    assert axis_sizes(MINIMUM_SIZE)[1] == 1
    assert axis_sizes(MINIMUM_SIZE - 1)[1] == 0


def test_the_inputs_of_fc1_follow_height_and_width() -> None:
    assert fc1_inputs(227, 227) == 9216
    assert fc1_inputs(67, 99) == 256 * 1 * 2


def test_cost_by_hand_at_another_size() -> None:
    first = 15 * 23 * 96 * 3 * 11 * 11
    others = (
        7 * 11 * 256 * 96 * 5 * 5
        + 3 * 5 * 384 * 256 * 3 * 3
        + 3 * 5 * 384 * 384 * 3 * 3
        + 3 * 5 * 256 * 384 * 3 * 3
        + 512 * 4096
        + 4096 * 4096
        + 4096 * 17
    )
    by_hand = 2 * (2 * first + 3 * others) * 1000 / 1e15
    assert training_pflop(17, 67, 99, 1000) == pytest.approx(by_hand, rel=1e-12)
