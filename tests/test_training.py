"""Training as a library, in this process."""

from collections.abc import Iterator

import mindspore as ms
import numpy as np
import pytest
from mindspore.train import Callback, LossMonitor, RunContext

from alexnet.cifar10 import Split
from alexnet.dataset import Batches
from alexnet.errors import InputError, Stopped
from alexnet.evaluation import logits_of
from alexnet.network import AlexNet
from alexnet.training import History, train

RNG = np.random.default_rng(0)
SPLIT = Split(RNG.integers(0, 256, (12, 3, 32, 32), dtype=np.uint8), np.arange(12, dtype=np.int32) % 10)


def network(dropout_rate: float = 0) -> AlexNet:
    return AlexNet(10, 67, 67, dropout_rate, seed=1)


def batches(epoch_size: int = 1, batch_size: int = 4, dropout_rate: float = 0) -> Batches:
    return Batches(SPLIT, epoch_size, batch_size, dropout_rate, seed=1)


def bias_gradient(trained: AlexNet, step: int) -> np.ndarray:
    """The gradient of fc3's bias at a step: the mean of softmax less one-hot."""
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


def test_updates_are_those_of_momentum() -> None:
    # v = momentum * v + gradient; parameter -= learning_rate * v, over three steps.
    trained = network()
    bias, velocity = trained.fc3.bias.asnumpy().astype(np.float64), np.zeros(10)
    gradients = [bias_gradient(trained, 0)]
    biases = []

    def after(context) -> None:  # type: ignore[no-untyped-def]
        biases.append(trained.fc3.bias.asnumpy().copy())
        if context.cur_step_num < 3:
            gradients.append(bias_gradient(trained, context.cur_step_num))
            trained.set_train(True)

    train(trained, batches(), learning_rate=0.1, momentum=0.8, callbacks=[After(after)])
    for gradient, found in zip(gradients, biases, strict=True):
        velocity = 0.8 * velocity + gradient
        bias = bias - 0.1 * velocity
        assert found == pytest.approx(bias, rel=1e-4, abs=1e-6)


def test_history() -> None:
    trained = network()
    images, labels, _ = batches()[0]
    logits = logits_of(trained, images, 4).astype(np.float64)
    loss = (np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(4), labels]).mean()
    history = train(trained, batches(), learning_rate=0.1, momentum=0.9)
    assert history.loss[0] == pytest.approx(loss, rel=1e-4)
    assert history.accuracy[0] == (logits.argmax(axis=1) == labels).mean()
    assert history.learning_rate == pytest.approx([0.1] * 3)
    assert (history.seconds > 0).all()


def test_dropout_is_applied_and_repeatable() -> None:
    def losses(rate: float) -> History:
        return train(network(rate), batches(dropout_rate=rate), learning_rate=0.01, momentum=0.9)

    first, second, without = losses(0.5), losses(0.5), losses(0)
    assert first.loss.tolist() == second.loss.tolist()
    assert first.loss[0] != without.loss[0]


def test_mixed_precision_is_applied() -> None:
    half = train(network(), batches(), learning_rate=0.01, momentum=0.9, amp_level="O2")
    full = train(network(), batches(), learning_rate=0.01, momentum=0.9)
    assert half.loss[-1] == pytest.approx(full.loss[-1], rel=1e-2)
    assert half.loss[-1] != full.loss[-1]


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
    train(network(), batches(2), learning_rate=0.01, momentum=0.9, callbacks=[count, LossMonitor(1)])
    assert count.calls == ["begin", "epoch 1", "epoch 2", "end"]
    assert "epoch: 2 step: 3, loss is 2." in capsys.readouterr().out


def test_weights_that_are_lost_are_found_though_the_loss_is_not() -> None:
    trained = network()
    weight = trained.conv3.weight.asnumpy()
    weight[0] = np.nan
    trained.conv3.weight.set_data(ms.Tensor(weight))
    losses: list[float] = []
    record = After(lambda context: losses.append(float(context.net_outputs)))
    with pytest.raises(InputError, match=r"weight is NaN or infinite in epoch 1 step 3: .* below 0.01"):
        train(trained, batches(), learning_rate=0.01, momentum=0.9, callbacks=[record])
    assert np.isfinite(losses).all()


def test_asked_to_stop() -> None:
    answers: Iterator[bool] = iter([False, True])
    with pytest.raises(Stopped, match=r"stopped after epoch 1 step 2$"):
        train(network(), batches(), learning_rate=0.01, momentum=0.9, stop=lambda: next(answers))
