"""Stage export: the checkpoint to an ONNX and a MindIR file that take raw images and give probabilities."""

# Signals first, for what is imported next takes seconds, and starts threads.
from alexnet.interruption import Interruption  # isort: split

if __name__ == "__main__":
    INTERRUPTION = Interruption()

from alexnet import device
from alexnet.atomic import replacing
from alexnet.checkpoint import load_network
from alexnet.classifier import Classifier
from alexnet.export import write_mindir, write_onnx
from stages import command, paths


def main() -> None:
    command.no_arguments("stages.export", __doc__)
    device.select("CPU")  # nothing is computed
    classifier = Classifier(load_network(paths.CHECKPOINT))
    with replacing(paths.ONNX) as onnx, replacing(paths.MINDIR) as mindir:
        write_onnx(classifier, onnx)
        write_mindir(classifier, mindir)


if __name__ == "__main__":
    command.run(main, INTERRUPTION)
