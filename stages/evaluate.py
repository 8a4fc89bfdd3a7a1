"""Stage evaluate: a checkpoint on the test images, to its logits, metrics and a confusion matrix.

With any of the model zoo's flags it prints the accuracy and leaves DVC's outputs alone.
"""

import argparse
import csv

import numpy as np

from alexnet import cifar10
from alexnet.evaluation.evaluate import evaluate
from alexnet.kernels.choice import choose
from alexnet.model.checkpoint import load_network, load_weights
from alexnet.model.registry import create
from alexnet.runtime import device
from alexnet.runtime.files import replacing, write_json
from stages import params, paths


def main(flags: argparse.Namespace) -> None:
    given = params.read(flags.overrides)
    split = cifar10.read(flags.data_path or paths.TEST_FOLDER, cifar10.TEST_FILES)
    target, threads = device.select(given.evaluate.device_target, given.evaluate.threads)
    kernels = choose(given.evaluate.kernels, given.evaluate.amp_level, target, threads)
    if flags.given:  # a checkpoint says what network it is of; one of the zoo's lacks the image size
        sizes = {key: getattr(given.model, key) for section, key in flags.overrides if section == "model"}
        network = load_network(flags.ckpt_path or paths.CHECKPOINT, **sizes, kernels=kernels)
    else:
        network = create(**given.model.model_dump(), kernels=kernels)
        load_weights(network, paths.CHECKPOINT)
    result = evaluate(network, split, given.evaluate.batch_size, given.evaluate.mirror)
    print({"Accuracy": result.accuracy})
    if flags.given:
        return

    metrics = {
        "accuracy": result.accuracy,
        "top_3_accuracy": result.top_3_accuracy,
        "loss": result.loss,
        "expected_calibration_error": result.expected_calibration_error,
        "images": len(split),
    }
    write_json(paths.EVAL_METRICS, metrics | ({"generated": True} if split.generated else {}))
    write_json(paths.PER_CLASS, result.per_class)
    with replacing(paths.LOGITS) as new:
        np.save(new, result.logits)
    with replacing(paths.FILTERS) as new:  # here, so that drawing the report does not need MindSpore
        np.save(new, network.filters())
    with replacing(paths.CONFUSION) as new, new.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("actual", "predicted"))
        for label, predicted in zip(split.labels.tolist(), result.predicted.tolist(), strict=True):
            writer.writerow((cifar10.class_name(label), cifar10.class_name(predicted)))
