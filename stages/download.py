"""Stage download: the archive that data.urls and data.md5 name."""

# Signals first, for what is imported next takes seconds, and starts threads.
from alexnet.runtime.stop import Interruption  # isort: split

if __name__ == "__main__":
    INTERRUPTION = Interruption()

from alexnet.archive.download import download
from stages import command, params, paths


def main() -> None:
    command.no_arguments("stages.download", __doc__)
    data = params.read().data
    download(data.urls, paths.ARCHIVE, data.md5, data.train_images, data.test_images, paths.workspace())


if __name__ == "__main__":
    command.run(main, INTERRUPTION)
