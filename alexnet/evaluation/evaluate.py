"""Evaluation: the logits of every image, and the metrics that are computed from them."""

from collections.abc import Callable
from dataclasses import dataclass

import mindspore as ms
import numpy as np

from alexnet.cifar10 import CLASS_NAMES, Split
from alexnet.evaluation.calibration import measure_calibration, softmax
from alexnet.model.network import Network
from alexnet.runtime.errors import InputError

Infer = Callable[[ms.Tensor], ms.Tensor]


def compiled(network: Network) -> Infer:
    """Return a function that computes the network's logits, float32 of shape (N, num_classes), in a graph.

    MindSpore never frees a graph that it has compiled. So make this once for a network that is evaluated many times,
    such as after each epoch. It sees the weights that a training step or `ops.assign` has changed, but not those that
    `Parameter.set_data` changes after its first call.
    """

    @ms.jit
    def infer(images: ms.Tensor) -> ms.Tensor:
        return network(images).astype(ms.float32)

    return infer


def logits_of(
    network: Network, images: np.ndarray, batch_size: int, mirror: bool = False, infer: Infer | None = None
) -> np.ndarray:
    """Return the network's logits, float32 of shape (N, num_classes).

    Args:
        network: the network, which is put into evaluation mode.
        images: uint8 of shape (N, 3, 32, 32).
        batch_size: how many images are evaluated at a time; it does not change the result.
        mirror: whether to return the mean of the logits of each image and of its mirror image, which takes twice the
            time. (Krizhevsky et al., 2012, average over ten views: section 4.1.)
        infer: what `compiled` returned for this network; None compiles it.
    """
    network.set_train(False)
    infer = infer or compiled(network)
    # The last batch is padded, so that the network is compiled for one shape only.
    padded = np.concatenate([images, np.zeros((-len(images) % batch_size, *images.shape[1:]), images.dtype)])
    parts = []
    for start in range(0, len(padded), batch_size):
        batch = padded[start : start + batch_size]
        logits = infer(ms.Tensor(batch)).asnumpy()
        if mirror:
            logits = (logits + infer(ms.Tensor(np.ascontiguousarray(batch[..., ::-1]))).asnumpy()) / 2
        parts.append(logits)
    return np.concatenate(parts)[: len(images)]


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the softmax cross entropy of each image in nats, float64 of shape (N,).

    It is computed in NumPy, because on the CPU the last bit of MindSpore's sum over a batch can differ from one process
    to the next.

    Args:
        logits: float32 or float64 of shape (N, num_classes).
        labels: int32 of shape (N,).
    """
    logits = logits.astype(np.float64)
    largest = logits.max(axis=1)
    log_sum = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    return log_sum - logits[np.arange(len(labels)), labels]


@dataclass(frozen=True)
class Evaluation:
    """The result of a network on a split.

    logits: float32 of shape (N, num_classes), in the order of the images.
    predicted: int64 of shape (N,), the class with the largest logit.
    accuracy: the share of images whose class was predicted.
    loss: the mean softmax cross entropy, in nats.
    top_3_accuracy: the share of images whose class has one of the three largest logits.
    expected_calibration_error: the `error` of `alexnet.evaluation.calibration.Calibration`.
    per_class: the accuracy on the images of each class, by the name of the class; classes without images are left out.
    """

    logits: np.ndarray
    predicted: np.ndarray
    accuracy: float
    loss: float
    top_3_accuracy: float
    expected_calibration_error: float
    per_class: dict[str, float]


def evaluate(
    network: Network, split: Split, batch_size: int, mirror: bool = False, infer: Infer | None = None
) -> Evaluation:
    """Evaluate the network on every image of the split, exactly once.

    `batch_size`, `mirror` and `infer` are those of `logits_of`. Raises InputError when a logit is NaN or infinite.
    """
    logits = logits_of(network, split.images, batch_size, mirror, infer)
    if not np.isfinite(logits).all():
        raise InputError("the network's outputs are NaN or infinite: train it again with a lower learning_rate")
    loss = cross_entropy(logits, split.labels).mean()
    predicted = logits.argmax(axis=1)
    correct = predicted == split.labels
    per_class = {CLASS_NAMES[label]: float(correct[split.labels == label].mean()) for label in np.unique(split.labels)}
    top_3 = np.argsort(-logits, axis=1, kind="stable")[:, :3]
    return Evaluation(
        logits=logits,
        predicted=predicted,
        accuracy=float(correct.mean()),
        loss=float(loss),
        top_3_accuracy=float((top_3 == split.labels[:, None]).any(axis=1).mean()),
        expected_calibration_error=measure_calibration(softmax(logits), split.labels).error,
        per_class=per_class,
    )
