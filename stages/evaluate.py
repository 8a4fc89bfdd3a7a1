"""Stage evaluate: evaluate the checkpoint on the test images, and write logits, metrics and the confusion matrix.

With any of the model zoo's flags it only prints the accuracy, and does not change DVC's outputs.
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
    config = params.read(flags.overrides)
    split = cifar10.read(flags.data_path or paths.TEST_FOLDER, cifar10.TEST_FILES)
    target, threads = device.select(config.evaluate.device_target, config.evaluate.threads)
    kernels = choose(config.evaluate.kernels, config.evaluate.amp_level, target, threads)
    if flags.any_given:  # a checkpoint stores which network it holds; only the model zoo's need the image size
        sizes = {key: getattr(config.model, key) for section, key in flags.overrides if section == "model"}
        network = load_network(flags.ckpt_path or paths.CHECKPOINT, **sizes, kernels=kernels)
    else:
        network = create(**config.model.model_dump(), kernels=kernels)
        load_weights(network, paths.CHECKPOINT)
    result = evaluate(network, split, config.evaluate.batch_size, config.evaluate.mirror)
    print({"Accuracy": result.accuracy})
    if flags.any_given:
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
    with replacing(paths.FILTERS) as new:  # so that the stage report does not have to load the network
        np.save(new, network.first_layers()[1].weight.asnumpy())
    with replacing(paths.CONFUSION) as new, new.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("actual", "predicted"))
        for label, predicted in zip(split.labels.tolist(), result.predicted.tolist(), strict=True):
            writer.writerow((cifar10.class_name(label), cifar10.class_name(predicted)))
