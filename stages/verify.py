"""Stage verify: check every record of the archive, write its files to two folders, and report what is in them."""

from alexnet.archive.verify import verify
from alexnet.cifar10 import GENERATED
from alexnet.runtime.files import write_json
from stages import params, paths


def main() -> None:
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
