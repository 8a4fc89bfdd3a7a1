"""Stage verify: the archive, checked to its last record, to two folders of records and a report on them."""

# Signals first, for what is imported next takes seconds, and starts threads.
from alexnet.runtime.stop import Interruption  # isort: split

if __name__ == "__main__":
    INTERRUPTION = Interruption()

from alexnet.archive.verify import verify
from alexnet.cifar10 import GENERATED
from alexnet.runtime.files import write_json
from stages import command, params, paths


def main() -> None:
    command.no_arguments("stages.verify", __doc__)
    data = params.read().data
    report = verify(
        paths.ARCHIVE,
        paths.TRAIN_FOLDER,
        paths.TEST_FOLDER,
        md5=data.md5,
        train_images=data.train_images,
        test_images=data.test_images,
        allow_generated=GENERATED in data.urls,
    )
    write_json(paths.DATA_REPORT, report)


if __name__ == "__main__":
    command.run(main, INTERRUPTION)
