"""Training as a library, in this process."""

from collections.abc import Callable, Iterator
from unittest import mock

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Callback, LossMonitor, RunContext

from alexnet.cifar10 import Split
from alexnet.evaluation.evaluate import compiled, evaluate, logits_of
from alexnet.kernels.choice import MINDSPORE, Kernels
from alexnet.model.alexnet_layers import CONVOLUTIONS
from alexnet.model.network import Network
from alexnet.model.networks.alexnet import AlexNet
from alexnet.runtime.errors import InputError, Stopped
from alexnet.training.batches import Batches
from alexnet.training.history import History
from alexnet.training.loop import train
from alexnet.training.recipe import Recipe
from alexnet.training.schedule import learning_rates
from alexnet.training.step import Step, make_optimizer
from alexnet.training.workers import Worker
from tests.conftest import needs_onednn
from tests.networks import narrow

HALF, ONEDNN = Kernels("mindspore", "O2"), Kernels("onednn")
EVERY_KIND = [MINDSPORE, HALF, pytest.param(ONEDNN, marks=needs_onednn)]
RNG = np.random.default_rng(0)
SPLIT = Split(RNG.integers(0, 256, (12, 3, 32, 32), dtype=np.uint8), np.arange(12, dtype=np.int32) % 10)


@pytest.fixture(scope="module", autouse=True)
def _narrow() -> Iterator[None]:
    """Let these trainings use little memory, because this process does not release any."""
    with narrow():
        yield


def network(dropout_rate: float = 0, kernels: Kernels = MINDSPORE) -> AlexNet:
    return AlexNet(10, 67, 67, dropout_rate, seed=1, kernels=kernels)


def batches(epoch_size: int = 1, batch_size: int = 4, dropout_rate: float = 0) -> Batches:
    return Batches(SPLIT, epoch_size, batch_size, dropout_rate, seed=1, dropout_shape=AlexNet.dropout_shape)


def bias_gradient(trained: AlexNet, step: int) -> np.ndarray:
    """Return the gradient of fc3's bias at a step: the mean of the softmax minus the one-hot labels."""
    images, labels, _ = batches()[step]
    logits = logits_of(trained, images, len(images)).astype(np.float64)
    share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return (share - np.eye(10)[labels]).mean(axis=0)


class After(Callback):
    """Calls a function after each step."""

    def __init__(self, do) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.do = do

    def on_train_step_end(self, run_context: RunContext) -> None:
        self.do(run_context.original_args())


@pytest.mark.parametrize("kernels", EVERY_KIND)
@pytest.mark.parametrize("use_nesterov", [False, True])
def test_updates_are_those_of_momentum(use_nesterov: bool, kernels: Kernels) -> None:
    # v = momentum * v + gradient; parameter -= learning_rate * v, over three steps; Nesterov's: -= learning_rate *
    # (gradient + momentum * v).
    trained = network(kernels=kernels)
    bias, velocity = trained.fc3.bias.asnumpy().astype(np.float64), np.zeros(10)
    gradients = [bias_gradient(trained, 0)]
    biases = []

    def after(context) -> None:  # type: ignore[no-untyped-def]
        biases.append(trained.fc3.bias.asnumpy().copy())
        if context.cur_step_num < 3:
            gradients.append(bias_gradient(trained, context.cur_step_num))
            trained.set_train(True)

    train(trained, batches(), Recipe(0.1, 0.8, use_nesterov), callbacks=[After(after)])
    for gradient, found in zip(gradients, biases, strict=True):
        velocity = 0.8 * velocity + gradient
        bias = bias - 0.1 * (gradient + 0.8 * velocity if use_nesterov else velocity)
        assert found == pytest.approx(bias, rel=1e-4, abs=1e-3 if kernels == HALF else 1e-6)


def test_history() -> None:
    trained = network()
    images, labels, _ = batches()[0]
    logits = logits_of(trained, images, 4).astype(np.float64)
    loss = (np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(4), labels]).mean()
    history = train(trained, batches(), Recipe(0.1, 0.9))
    assert history.loss[0] == pytest.approx(loss, rel=1e-4)
    assert history.accuracy[0] == (logits.argmax(axis=1) == labels).mean()
    assert history.learning_rate == pytest.approx([0.1] * 3)
    assert (history.seconds > 0).all()


def step_of(recipe: Recipe, batch_norm: bool = False, kernels: Kernels = MINDSPORE) -> AlexNet:
    """Return a network after one step."""
    trained = AlexNet(10, 67, 67, 0, batch_norm, seed=1, kernels=kernels)
    split = Split(SPLIT.images[:4], SPLIT.labels[:4])
    train(trained, Batches(split, 1, 4, 0, seed=1), recipe)
    return trained


@pytest.mark.parametrize("kernels", EVERY_KIND)
def test_only_weights_decay(kernels: Kernels) -> None:
    initial = AlexNet(10, 67, 67, 0, batch_norm=True, seed=1)
    with_decay = step_of(Recipe(0.1, 0, weight_decay=0.5), True, kernels)
    without = step_of(Recipe(0.1, 0), True, kernels)
    before, decayed, plain = (
        {name: parameter.asnumpy() for name, parameter in network.parameters_and_names()}
        for network in (initial, with_decay, without)
    )
    assert {name.partition(".")[0] for name in before} >= {"conv1", "bn1", "fc1"}
    for name, value in before.items():
        share = 0.1 * 0.5 if name.endswith(".weight") else 0
        np.testing.assert_allclose(decayed[name], plain[name] - share * value, 1e-4, 1e-6, err_msg=name)


@pytest.mark.parametrize("use_nesterov", [False, True])
@pytest.mark.parametrize("kernels", EVERY_KIND)
def test_biases_of_batch_normalisation_learn_faster(kernels: Kernels, use_nesterov: bool) -> None:
    initial = AlexNet(10, 67, 67, 0, batch_norm=True, seed=1)
    scaled = step_of(Recipe(0.1, 0.9, use_nesterov, batch_norm_bias_lr_factor=32), True, kernels)
    plain = step_of(Recipe(0.1, 0.9, use_nesterov), True, kernels)
    before, fast, slow = (
        {name: parameter.asnumpy() for name, parameter in network.parameters_and_names()}
        for network in (initial, scaled, plain)
    )
    for name, value in before.items():
        factor = 32 if name.endswith(".beta") else 1
        np.testing.assert_allclose(fast[name], value + factor * (slow[name] - value), 1e-4, 1e-6, err_msg=name)
    assert np.abs(slow["bn1.beta"]).max() > 1e-4


def test_label_smoothing_spreads_the_target() -> None:
    # The gradient of fc3's bias is the mean of the softmax minus the target. Smoothing takes 0.5 from each one-hot
    # target and gives 0.05 to every class.
    smoothed, sharp = step_of(Recipe(1, 0, label_smoothing=0.5)), step_of(Recipe(1, 0))
    one_hot = np.eye(10)[SPLIT.labels[:4]].mean(axis=0)
    difference = smoothed.fc3.bias.asnumpy() - sharp.fc3.bias.asnumpy()
    assert difference == pytest.approx(0.05 - 0.5 * one_hot, abs=1e-5)


def test_rates_follow_the_schedule() -> None:
    history = train(network(), batches(2), Recipe(0.1, 0.9, lr_schedule="cosine", warmup_ratio=0.5))
    assert history.learning_rate.tolist() == learning_rates("cosine", 0.1, 6, 0.5).tolist()
    constant = train(network(), batches(2), Recipe(0.1, 0.9))
    assert history.loss[0] == constant.loss[0]
    assert history.loss[1] != constant.loss[1]


def test_the_averages_are_returned() -> None:
    # After each step, average = 0.5 * average + 0.5 * weights, from the initial weights on.
    weights: list[dict[str, np.ndarray]] = []

    def note(network: AlexNet) -> None:
        weights.append({name: parameter.asnumpy().copy() for name, parameter in network.parameters_and_names()})

    trained = AlexNet(10, 67, 67, 0, batch_norm=True, seed=1)
    note(trained)
    train(trained, batches(), Recipe(0.1, 0.9, ema_decay=0.5), callbacks=[After(lambda _: note(trained))])
    note(trained)
    first, second, third, fourth, returned = weights
    for name in ("conv1.weight", "bn2.moving_mean", "fc3.bias"):
        average = first[name] / 8 + second[name] / 8 + third[name] / 4 + fourth[name] / 2
        np.testing.assert_allclose(returned[name], average, 1e-4, 1e-6)


@pytest.mark.parametrize("kernels", EVERY_KIND)
def test_logits_are_float32(kernels: Kernels) -> None:
    logits = logits_of(network(kernels=kernels), SPLIT.images, 5, mirror=True)
    assert (logits.shape, logits.dtype) == ((12, 10), np.float32)


@pytest.mark.parametrize("ema_decay", [0, 0.5])
def test_validation_after_each_epoch(ema_decay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    # With 0.5, the averages are validated, and then the training continues with its own weights.
    compile_for = mock.Mock(wraps=compiled)
    monkeypatch.setattr("alexnet.training.loop.compiled", compile_for)
    monkeypatch.setattr("alexnet.evaluation.evaluate.compiled", compile_for)
    trained = network()
    history = train(trained, batches(2), Recipe(0.01, 0.9, ema_decay=ema_decay), validation=SPLIT)
    plain = train(network(), batches(2), Recipe(0.01, 0.9))
    assert history.loss.tolist() == plain.loss.tolist()
    assert len(history.validation_accuracy) == 2
    assert compile_for.call_count == 2, "once for each training, because MindSpore keeps each graph"
    final = evaluate(trained, SPLIT, 4)
    assert history.validation_loss[-1] == pytest.approx(final.loss)
    assert history.validation_accuracy[-1] == pytest.approx(final.accuracy)
    assert np.isnan(plain.validation_accuracy).all()


def test_dropout_is_applied_and_repeatable() -> None:
    def losses(rate: float) -> History:
        return train(network(rate), batches(dropout_rate=rate), Recipe(0.01, 0.9))

    first, second, without = losses(0.5), losses(0.5), losses(0)
    assert first.loss.tolist() == second.loss.tolist()
    assert first.loss[0] != without.loss[0]


def test_mixed_precision_is_applied() -> None:
    half = train(network(kernels=HALF), batches(), Recipe(0.01, 0.9))
    full = train(network(), batches(), Recipe(0.01, 0.9))
    assert half.loss[-1] == pytest.approx(full.loss[-1], rel=1e-2)
    assert half.loss[-1] != full.loss[-1]


def test_only_convolutions_and_fully_connected_layers_have_mixed_precision() -> None:
    trained = AlexNet(10, 67, 67, 0, batch_norm=True, seed=1, kernels=HALF)
    for number, layer in enumerate(CONVOLUTIONS, 1):
        convolution, normalisation = getattr(trained, f"conv{number}"), getattr(trained, f"bn{number}")
        channels = convolution.out_channels
        pool = getattr(trained, f"block{number}").pool
        maps = ms.ops.ones((2, convolution.in_channels, 15, 15))
        assert convolution(maps).dtype == ms.float16
        assert normalisation(ms.ops.ones((2, channels, 3, 3), ms.float16)).dtype == ms.float32
        assert not layer.pooled or pool(ms.ops.ones((2, channels, 3, 3), ms.float16)).dtype == ms.float32
    for layer in (trained.fc1, trained.fc2, trained.fc3):
        assert layer(ms.ops.ones((2, layer.in_channels))).dtype == ms.float16
    assert {parameter.dtype for parameter in trained.get_parameters()} == {ms.float32}


@pytest.fixture
def sunk_datasets(monkeypatch: pytest.MonkeyPatch) -> list[ms.dataset.Dataset]:
    """The datasets that were sunk. The CPU has no queue for them, so they are read here."""
    sunk: list[ms.dataset.Dataset] = []

    def data_sink(function: Callable[..., ms.Tensor], dataset: ms.dataset.Dataset) -> Callable[[], ms.Tensor]:
        sunk.append(dataset)
        rows = dataset.create_tuple_iterator(num_epochs=1)
        return lambda: function(*next(rows))

    monkeypatch.setattr(ms, "data_sink", data_sink)
    return sunk


@pytest.mark.parametrize("dropout_rate", [0, 0.5])
def test_sunk_data_give_the_same_training(dropout_rate: float, sunk_datasets: list[ms.dataset.Dataset]) -> None:
    plain, sunk = network(dropout_rate), network(dropout_rate)
    recipe = Recipe(0.01, 0.9, lr_schedule="cosine", ema_decay=0.5)
    expected = train(plain, batches(2, dropout_rate=dropout_rate), recipe)
    history = train(sunk, batches(2, dropout_rate=dropout_rate), recipe, dataset_sink_mode=True)
    assert len(sunk_datasets) == 1
    assert sunk_datasets[0].get_dataset_size() == 6
    assert history.loss.tolist() == expected.loss.tolist()
    assert history.accuracy.tolist() == expected.accuracy.tolist()
    np.testing.assert_array_equal(sunk.conv2.weight.asnumpy(), plain.conv2.weight.asnumpy())


def test_sunk_data_can_start_at_any_step(sunk_datasets: list[ms.dataset.Dataset]) -> None:
    rates = np.full(6, 0.1, np.float32)
    step = Step(network(), Recipe(0.1, 0.9))
    data = batches(2)
    sunk = Step(network(), Recipe(0.1, 0.9)).sink(data, rates, 4)
    for number in (4, 5):
        np.testing.assert_array_equal(sunk(), step(data[number], rates[number]))
    assert sunk_datasets[0].get_dataset_size() == 2


class Unusual(Network):
    """Has no parameter of one dimension, a trained one of none, and a fixed one."""

    def __init__(self) -> None:
        super().__init__({"num_classes": 10})
        self.dense = nn.Dense(3 * 32 * 32, 10, weight_init="normal", has_bias=False)
        self.scale = ms.Parameter(ms.Tensor(0.5, ms.float32))
        self.fixed = ms.Parameter(ms.Tensor(np.ones((2, 2), np.float32)), requires_grad=False)

    def construct(self, images: ms.Tensor, keep: ms.Tensor | None = None) -> ms.Tensor:
        return self.dense(images.reshape(-1, 3 * 32 * 32).astype(ms.float32) / 255) * self.scale

    def first_layers(self) -> tuple[nn.Cell, nn.Conv2d]:
        raise AssertionError("nothing here shows its filters")

    def training_pflop(self, images: int) -> float:
        raise AssertionError("nothing here reports its cost")


def test_parameters_of_any_shape_are_trained() -> None:
    unusual = Unusual()
    step = Step(unusual, Recipe(0.1, 0.9, weight_decay=0.1))
    before = {name: value.asnumpy().copy() for name, value in unusual.parameters_and_names()}
    step(batches(1)[0], np.float32(0.1))
    changed = {name for name, value in unusual.parameters_and_names() if (value.asnumpy() != before[name]).any()}
    assert changed == {"dense.weight", "scale"}


def test_a_network_without_biases_has_one_group_of_parameters() -> None:
    unusual = Unusual()
    unusual.scale.requires_grad = False
    assert len(make_optimizer(unusual, Recipe(0.1, 0.9)).parameters) == 1


def test_mindspores_callbacks_are_called(capsys: pytest.CaptureFixture[str]) -> None:
    class Count(Callback):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[str] = []

        def on_train_begin(self, run_context: RunContext) -> None:
            self.calls.append("begin")

        def on_train_epoch_end(self, run_context: RunContext) -> None:
            self.calls.append(f"epoch {run_context.original_args().cur_epoch_num}")

        def on_train_end(self, run_context: RunContext) -> None:
            self.calls.append("end")

    count = Count()
    train(network(), batches(2), Recipe(0.01, 0.9), callbacks=[count, LossMonitor(1)])
    assert count.calls == ["begin", "epoch 1", "epoch 2", "end"]
    assert "epoch: 2 step: 3, loss is 2." in capsys.readouterr().out


@pytest.mark.parametrize(("check_steps", "step"), [(2, 2), (100, 3)])
def test_weights_that_are_nan_are_detected_although_the_loss_is_finite(
    check_steps: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alexnet.training.loop.CHECK_STEPS", check_steps)
    trained = network()
    weight = trained.conv3.weight.asnumpy()
    weight[0] = np.nan
    trained.conv3.weight.set_data(ms.Tensor(weight))
    losses: list[float] = []
    record = After(lambda context: losses.append(float(context.net_outputs)))
    with pytest.raises(InputError, match=rf"weight is NaN or infinite in epoch 1 step {step}: .* below 0.01"):
        train(trained, batches(), Recipe(0.01, 0.9), callbacks=[record])
    assert np.isfinite(losses).all()


def test_a_request_to_stop() -> None:
    answers: Iterator[bool] = iter([False, True])
    with pytest.raises(Stopped, match=r"stopped after epoch 1 step 2$"):
        train(network(), batches(), Recipe(0.01, 0.9), stop=lambda: next(answers))


def test_a_worker_that_stops_waits_for_the_others() -> None:
    """Otherwise worker 0 would be killed if it took long to save the state."""
    waited = []

    class Waiting(Worker):
        def wait_for_all(self) -> None:
            waited.append(self.rank)

    with pytest.raises(Stopped):
        train(network(), batches(), Recipe(0.01, 0.9), stop=lambda: True, worker=Waiting())
    assert waited == [0]
