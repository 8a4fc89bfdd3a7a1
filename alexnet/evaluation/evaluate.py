"""Evaluation: the logits of every image, and the metrics that follow from them."""

from dataclasses import dataclass

import mindspore as ms
import numpy as np

from alexnet.cifar10 import CLASS_NAMES, Split
from alexnet.evaluation.calibration import measure_calibration, softmax
from alexnet.model.network import Network
from alexnet.runtime.errors import InputError


def logits_of(network: Network, images: np.ndarray, batch_size: int, mirror: bool = False) -> np.ndarray:
    """Return the network's logits, float32 of shape (N, num_classes), of uint8 images of shape (N, 3, 32, 32).

    mirror: return the mean of an image's logits and of those of its mirror image, for twice the time (Krizhevsky et
    al. 2012, section 4.1, average over ten such views).
    """

    @ms.jit
    def forward(batch: ms.Tensor) -> ms.Tensor:
        return network(batch)

    network.set_train(False)
    # The last batch is filled up, so that the network is compiled for one shape.
    padded = np.concatenate([images, np.zeros((-len(images) % batch_size, *images.shape[1:]), images.dtype)])
    parts = []
    for start in range(0, len(padded), batch_size):
        batch = padded[start : start + batch_size]
        logits = forward(ms.Tensor(batch)).asnumpy()
        if mirror:
            logits = (logits + forward(ms.Tensor(np.ascontiguousarray(batch[..., ::-1]))).asnumpy()) / 2
        parts.append(logits)
    return np.concatenate(parts)[: len(images)]


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return each image's softmax cross entropy in nats, float64 of shape (N,), from logits of shape (N, num_classes).

    In NumPy, since MindSpore's sum over a batch can differ in its last bit from process to process on the CPU.
    """
    logits = logits.astype(np.float64)
    top = logits.max(axis=1)
    log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return log_sum - logits[np.arange(len(labels)), labels]


@dataclass(frozen=True)
class Evaluation:
    """The result of a network on a split.

    logits: float32 of shape (N, num_classes), in the order of the images.
    predicted: int64 of shape (N,), the class of the largest logit.
    accuracy: share of images whose class was predicted.
    loss: mean softmax cross entropy, in nats.
    top_3_accuracy: share of images whose class is among the three of the largest logits.
    expected_calibration_error: how far the probability of the predicted class is from the share of right predictions,
        as `measure_calibration` has it.
    per_class: class name to accuracy on the images of that class; classes without images are left out.
    """

    logits: np.ndarray
    predicted: np.ndarray
    accuracy: float
    loss: float
    top_3_accuracy: float
    expected_calibration_error: float
    per_class: dict[str, float]


def evaluate(network: Network, split: Split, batch_size: int, mirror: bool = False) -> Evaluation:
    """Evaluate the network on every image of the split, exactly once; `mirror` as `logits_of` has it.

    Raises InputError when an answer is NaN or infinite.
    """
    logits = logits_of(network, split.images, batch_size, mirror)
    if not np.isfinite(logits).all():
        raise InputError("the network's answers are NaN or infinite: train it again with a lower learning_rate")
    loss = cross_entropy(logits, split.labels).mean()
    predicted = logits.argmax(axis=1)
    right = predicted == split.labels
    per_class = {CLASS_NAMES[label]: float(right[split.labels == label].mean()) for label in np.unique(split.labels)}
    top_3 = np.argsort(-logits, axis=1, kind="stable")[:, :3]
    return Evaluation(
        logits=logits,
        predicted=predicted,
        accuracy=float(right.mean()),
        loss=float(loss),
        top_3_accuracy=float((top_3 == split.labels[:, None]).any(axis=1).mean()),
        expected_calibration_error=measure_calibration(softmax(logits), split.labels).error,
        per_class=per_class,
    )
