"""Stage export: write the network as ONNX and MindIR files, which take raw images and return probabilities."""

from alexnet.inference.classifier import Classifier
from alexnet.inference.export import write_mindir, write_onnx
from alexnet.model.checkpoint import load_network
from alexnet.runtime import device
from alexnet.runtime.files import replacing
from stages import paths


def main() -> None:
    device.select("CPU")  # exporting computes nothing
    classifier = Classifier(load_network(paths.CHECKPOINT))
    with replacing(paths.ONNX) as onnx, replacing(paths.MINDIR) as mindir:
        write_onnx(classifier, onnx)
        write_mindir(classifier, mindir)
